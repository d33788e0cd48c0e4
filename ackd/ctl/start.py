"""Starts ackctl in such a way that no signal and no error shows Python's stack."""

import signal
import sys
from typing import NoReturn

# Python would print its stack. The launcher blocks SIGINT until here. SIGINT is ignored in the
# background of a script.
if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

# Status.FAILED: the module that has it may be what fails. Python would exit with 1, a refusal.
_FAILED = 7
# Of `ackctl check`: monitoring systems know no higher status, and read the standard output only.
_UNKNOWN = 3


def start() -> NoReturn:
    """Run ackctl and end the process; the exit status is explained in `exit_status.Status`."""
    is_check = sys.argv[1:2] == ["check"]
    try:
        from ackd.ctl.interrupt import die
        from ackd.ctl.main import main

        status = main()
        die(status)
    except Exception as error:  # noqa: BLE001
        _report(error, is_check)
        status = _FAILED
    sys.exit(min(status, _UNKNOWN) if is_check else status)


def _report(error: Exception, is_check: bool) -> None:
    """Print what has failed, and where, in one line."""
    stack = error.__traceback__
    while stack and stack.tb_next:
        stack = stack.tb_next
    where = f"{stack.tb_frame.f_code.co_filename}:{stack.tb_lineno}" if stack else "unknown place"
    begin, stream = ("ACKD UNKNOWN", sys.stdout) if is_check else ("ackctl", sys.stderr)
    if stream:
        said = ascii(str(error))[1:-1]  # without control characters
        print(
            f"{begin}: ackctl itself has failed, {where}: {type(error).__name__}: {said}",
            file=stream,
        )
