"""python -m tests.picture: run `ackctl probe` on a broken path, and write what it shows as SVG.

The path leads through a tunnel with a smaller MTU than the client's link. The router before the
tunnel drops large packets, and its ICMP messages about this are lost: a black hole, RFC 2923, 2.1.
"""

import io
import re
import shlex
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

from tests.support.ackctl_terminal import Terminal
from tests.support.daemon_process import Daemon
from tests.support.obstacle import obstacle
from tests.support.probed_network import SERVER, probed_network, with_etc
from tests.support.screen import CLEAR

PICTURE = Path(__file__).with_name("probe.svg")
HOST = "ackd.example.org"
COMMAND = ("probe", "--host", HOST, "--sweep", "--timeout", "3")
MTU = "1420"  # WireGuard's default on a link of 1500 bytes
COLUMNS = 100
PROMPT = "$ "
# The words to put before a command, so that its terminal has this width.
WIDE = ("sh", "-ec", f'stty columns {COLUMNS}; exec "$@"', "sh")

# rich names a font of the web. A picture in README must fetch nothing.
FONTS = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"


def main() -> int:
    """Write the picture; return 1 if this host can't make networks."""
    if reason := obstacle():
        print(f"picture: can't make networks here: {reason}", file=sys.stderr)
        return 1
    PICTURE.write_text(drawn(shown_by_probe()))
    print(f"picture: written to {PICTURE}")
    return 0


def shown_by_probe() -> str:
    """Run the probe on a pseudo-terminal; return all that it writes there."""
    with TemporaryDirectory() as directory, probed_network() as network:
        ackd = network.serve(partial(Daemon, Path(directory)))
        try:
            network.router.ip("link", "set", "server", "mtu", MTU)
            network.drop_icmp()
            etc = Path(directory, "etc")
            etc.mkdir()
            names = with_etc(etc, nsswitch_conf="hosts: files\n", hosts=f"{SERVER} {HOST}\n")
            with Terminal(*COMMAND, before=(*network.client.shell, *names, *WIDE)) as terminal:
                return terminal.ended()[1]
        finally:
            ackd.stop()


def drawn(written: str) -> str:
    """Return as SVG what a terminal shows: the prompt with the command, and the output."""
    # A terminal erases each text of the status line: CLEAR follows it.
    output = re.sub(f"[^\n]*{re.escape(CLEAR)}", "", written.replace("\r\n", "\n"))
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text(f"{PROMPT}{shlex.join(('ackctl', *COMMAND))}", style="bold"))
    for line in Text.from_ansi(output.rstrip()).split("\n", allow_blank=True):
        # A terminal breaks lines anywhere, rich only between words.
        for part in line.divide(range(COLUMNS, len(line), COLUMNS)):
            console.print(part)
    return with_local_fonts(console.export_svg(title="ackctl"))


def with_local_fonts(svg: str) -> str:
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return svg.replace("Fira Code, monospace", FONTS).replace("arial", "sans-serif")


if __name__ == "__main__":
    sys.exit(main())
