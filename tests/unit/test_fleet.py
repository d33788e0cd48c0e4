"""The examples of a fleet agree with each other, and with ackd."""

import re
import subprocess
from pathlib import Path

import pytest

from ackd import config
from tests.support.certificates import needs_openssl
from tests.support.project import PROJECT

EXAMPLES = PROJECT / "examples" / "fleet"
CERTIFICATES = EXAMPLES / "certificates"
BALANCERS = ("haproxy.cfg", "haproxy-passthrough.cfg")


def settings(name: str) -> set[str]:
    """Return the lines of a file that are not comments."""
    lines = map(str.strip, (EXAMPLES / name).read_text().splitlines())
    return {line for line in lines if line and not line.startswith("#")}


@pytest.mark.parametrize("balancer", BALANCERS)
def test_the_balancer_expects_the_nodes_where_ackd_listens(balancer: str) -> None:
    node = config.parse((EXAMPLES / "ackd.yaml").read_bytes(), "")
    ports = re.findall(r"^server (\w+) \1:(\d+)$", "\n".join(settings(balancer)), re.MULTILINE)
    assert sorted(ports) == [(name, str(node.port)) for name in ("one", "three", "two")]
    assert "tcp-check expect string Connect" in settings(balancer)


def test_the_configurations_of_the_balancer_differ_only_in_tls() -> None:
    first, second = map(settings, BALANCERS)
    assert first - second == {"bind :10008", "bind :10009 ssl crt /etc/ssl/fleet/own.pem"}
    (check,) = second - first - {"bind :10009"}
    assert check.startswith("default-server check-ssl ")


@pytest.mark.parametrize("arguments", [[], [""], ["--undo"]])
def test_the_script_rejects_arguments_that_it_does_not_know(
    arguments: list[str], tmp_path: Path
) -> None:
    done = subprocess.run([CERTIFICATES, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ")
    assert list(tmp_path.iterdir()) == []


@needs_openssl
def test_the_script_makes_certificates_of_one_authority(tmp_path: Path) -> None:
    for names in (["one,balancer,192.168.150.1,2001:db8::1,1and2.example.org", "two"], ["three"]):
        subprocess.run([CERTIFICATES, *names], cwd=tmp_path, check=True, capture_output=True)
    made = ["ca.key", "ca.pem", "one.pem", "three.pem", "two.pem"]
    assert sorted(path.name for path in tmp_path.iterdir()) == made
    verify = ("openssl", "verify", "-CAfile", "ca.pem", "one.pem", "two.pem", "three.pem")
    subprocess.run(verify, cwd=tmp_path, check=True, capture_output=True)
    show = ("openssl", "x509", "-in", "one.pem", "-noout", "-ext", "subjectAltName")
    shown = subprocess.run(show, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    names = shown.splitlines()[1].strip()
    assert names == (
        "DNS:one, DNS:balancer, IP Address:192.168.150.1, IP Address:2001:DB8:0:0:0:0:0:1,"
        " DNS:1and2.example.org"
    )
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
