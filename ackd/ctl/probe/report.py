"""What `ackctl probe` prints: a line for each stage, then the meaning; or JSON."""

from datetime import UTC, datetime
from time import time

from ackd.client.end import Certificate
from ackd.ctl.output.figures import milliseconds
from ackd.ctl.output.json_lines import json_line
from ackd.ctl.output.streams import Output
from ackd.ctl.output.terminal import columns, has_colours, wrapped
from ackd.ctl.probe.authorities import Authority
from ackd.ctl.probe.finding import Finding, Outcome, Summary
from ackd.ctl.runs.summary import verify_hint

# Select Graphic Rendition, ECMA-48: green, red, yellow, default.
_COLOURS = {Outcome.PASSED: "\x1b[32m", Outcome.FAILED: "\x1b[31m", Outcome.REFUSED: "\x1b[33m"}
_PLAIN = "\x1b[0m"
# Columns that a text needs to stand beside its stage; else it stands below, indented.
_LEAST, _INDENT = 30, 4


class ProbeReport:
    """Prints the outcome of each stage."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._began = time()
        self._coloured = has_colours(output.out)
        self._status_line = output.status_line()

    def begin(self, run: str, where: str) -> None:
        """Print the name of the run, and the server."""
        self._print(*wrapped(f"run {run}: {where}", self._output.out))

    def trying(self, what: str) -> None:
        """Show the current try in the status line, until there is an outcome to print."""
        self._status_line.show(what)

    def found(self, finding: Finding) -> None:
        """Print the outcome of a stage."""
        took = "" if finding.seconds is None else milliseconds(finding.seconds)
        text = finding.text
        if finding.address:
            between = " " if finding.outcome is Outcome.PASSED else ": "
            text = f"{finding.address}{between}{text}"
        outcome = f"{finding.outcome.value:<9}"
        before, after = f"{finding.label:<15} ", f" {took:>14}"
        first, *rest = self._beside(len(before + outcome + after), text)
        if self._coloured:
            outcome = f"{_COLOURS.get(finding.outcome, _PLAIN)}{outcome}{_PLAIN}"
        self._print(f"{before}{outcome}{after}{first}".rstrip(), *rest)

    def _beside(self, column: int, text: str) -> list[str]:
        """Return the lines of a text beside a stage, or below it where there is no room."""
        out = self._output.out
        column += 2
        if out and out.isatty() and columns(out) < column + _LEAST:
            return ["", *wrapped(text, out, indent=_INDENT)] if text else [""]
        first, *rest = wrapped(text, out, indent=column, first=column)
        return [f"  {first}", *rest]

    def end(self, summary: Summary) -> None:
        """Print the meaning of the outcomes."""
        lines = ["", *summary.meanings]
        if summary.acknowledged or summary.refused or summary.unknown:
            lines += [
                "",
                f"run {summary.run.name}: {summary.acknowledged} acknowledged,"
                f" {summary.refused} refused, {summary.unknown} unknown",
                *verify_hint(summary.run, self._began, summary.end_acknowledged, self._output.out),
            ]
        self._print(*(line for each in lines for line in wrapped(each, self._output.out)))

    def _print(self, *lines: str) -> None:
        self._status_line.clear()
        self._output.print(*lines)


class ProbeJson(ProbeReport):
    """Prints a JSON object for each stage, then one for all."""

    def begin(self, run: str, where: str) -> None:
        """Print nothing: the run's name is in the last object."""

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
        if finding.encryption:
            members |= {
                "version": finding.encryption.version,
                "cipher": finding.encryption.cipher,
                "certificate": _members(finding.encryption.certificate),
                "authority_before": _authority(finding.encryption.before),
            }
        known = {name: value for name, value in members.items() if value not in (None, "")}
        self._print(json_line(**known))

    def end(self, summary: Summary) -> None:
        """Print the meaning of the outcomes, the counts and the exit status."""
        self._print(
            json_line(
                run=summary.run.name,
                acknowledged=summary.acknowledged,
                refused=summary.refused,
                unknown=summary.unknown,
                end_acknowledged=summary.end_acknowledged,
                failed=summary.failed and summary.failed.value,
                meaning=" ".join(summary.meanings),
                largest=summary.largest,
                too_large=summary.too_large,
                limit=summary.limit,
                held=summary.held,
                not_held=summary.not_held,
                packets=summary.traffic.packets,
                retransmitted=summary.traffic.retransmitted,
                status=int(summary.status),
            )
        )


def _authority(authority: Authority | None) -> dict[str, object] | None:
    """Return what is remembered of an authority as members of JSON."""
    if authority is None:
        return None
    seen = datetime.fromtimestamp(int(authority.seen), UTC).isoformat()
    return {"name": authority.name, "organisation": authority.organisation, "seen": seen}


def _members(certificate: Certificate | None) -> dict[str, object] | None:
    """Return the facts of a certificate as members of JSON."""
    if certificate is None:
        return None
    organisation = certificate.issuer_organisation
    return {
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        **({"issuer_organisation": organisation} if organisation else {}),
        "names": list(certificate.names),
        "not_before": datetime.fromtimestamp(certificate.not_before, UTC).isoformat(),
        "not_after": datetime.fromtimestamp(certificate.not_after, UTC).isoformat(),
    }
