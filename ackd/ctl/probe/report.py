"""Prints what `ackctl probe` finds: a line for each stage, then the meaning; or JSON."""

import os
import sys

from ackd.ctl.output.figures import milliseconds, verify
from ackd.ctl.output.terminal import alive, coloured
from ackd.ctl.probe.finding import Finding, Outcome, Summary

# Select Graphic Rendition, ECMA-48: green, red, yellow, default.
_COLOURS = {Outcome.PASSED: "\x1b[32m", Outcome.FAILED: "\x1b[31m", Outcome.REFUSED: "\x1b[33m"}
_PLAIN = "\x1b[0m"
# To the beginning of the line, and erase it.
_CLEAR = "\r\x1b[K"


class ProbeReport:
    """Prints each stage when it has an outcome."""

    def __init__(self) -> None:
        self._terminal = sys.stdout is not None and sys.stdout.isatty()
        self._coloured = coloured(sys.stdout)
        self._watched = alive(sys.stderr)

    def begin(self, run: str, where: str) -> None:
        """Print what is probed."""
        self._print(f"run {run}: {where}")

    def trying(self, what: str) -> None:
        """Show what is under way, in one line of a terminal, until the next line is printed."""
        if self._watched:
            # Not with rich: its import takes longer than all stages of a good path together.
            width = os.get_terminal_size(sys.stderr.fileno()).columns
            print(f"{_CLEAR}{what[: width - 1]}", end="", file=sys.stderr, flush=True)

    def found(self, finding: Finding) -> None:
        """Print the outcome of a stage."""
        took = "" if finding.seconds is None else milliseconds(finding.seconds)
        text = finding.text
        if finding.address:
            between = " " if finding.outcome is Outcome.PASSED else ": "
            text = f"{finding.address}{between}{text}"
        outcome = f"{finding.outcome.value:<9}"
        if self._coloured:
            outcome = f"{_COLOURS.get(finding.outcome, _PLAIN)}{outcome}{_PLAIN}"
        self._print(f"{finding.label:<15} {outcome} {took:>14}  {text}".rstrip())

    def end(self, summary: Summary) -> None:
        """Print what the outcomes mean."""
        self._print("")
        for meaning in summary.meanings:
            self._print(self._wrapped(meaning))
        if summary.acknowledged or summary.refused or summary.unknown:
            self._print(
                f"\nrun {summary.run}: {summary.acknowledged} acknowledged, {summary.refused}"
                f" refused, {summary.unknown} unknown"
            )
            self._print("\n".join(verify(summary.run, summary.end_acknowledged)))

    def _wrapped(self, text: str) -> str:
        if not self._terminal:
            return text
        import textwrap

        width = os.get_terminal_size(sys.stdout.fileno()).columns
        return textwrap.fill(text, width or 80, break_on_hyphens=False)

    def _print(self, text: str) -> None:
        self.trying("")
        print(text, flush=True)


class ProbeJson(ProbeReport):
    """Prints an object for each stage, then one for all."""

    def begin(self, run: str, where: str) -> None:
        """Print nothing: the name of the run is in the last object."""

    def found(self, finding: Finding) -> None:
        """Print the outcome of a stage."""
        members: dict[str, object] = {
            "stage": finding.stage.value,
            "address": finding.address,
            "bytes": finding.size,
            "silence": finding.silence,
            "outcome": finding.outcome.value,
            "seconds": None if finding.seconds is None else round(finding.seconds, 6),
            "text": finding.text,
        }
        self._object({name: value for name, value in members.items() if value not in (None, "")})

    def end(self, summary: Summary) -> None:
        """Print the meaning, the counts and the exit status."""
        self._object(
            {
                "run": summary.run,
                "acknowledged": summary.acknowledged,
                "refused": summary.refused,
                "unknown": summary.unknown,
                "end_acknowledged": summary.end_acknowledged,
                "failed": summary.failed and summary.failed.value,
                "meaning": " ".join(summary.meanings),
                "largest": summary.largest,
                "too_large": summary.too_large,
                "limit": summary.limit,
                "held": summary.held,
                "not_held": summary.not_held,
                "packets": summary.traffic.packets,
                "retransmitted": summary.traffic.retransmitted,
                "status": int(summary.status),
            }
        )

    def _object(self, members: dict[str, object]) -> None:
        import json  # not before it is needed

        self._print(json.dumps(members))
