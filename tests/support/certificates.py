"""An authority for tests: it issues real certificates, by the openssl of the host."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")

# openssl x509 takes no dates before version 3.4; openssl ca always did, and needs this.
_CONFIG = """
[ca]
default_ca = authority
[authority]
database = index.txt
serial = serial
new_certs_dir = .
default_md = sha256
policy = policy
unique_subject = no
[policy]
commonName = supplied
organizationName = optional
"""
_CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, in PEM files."""

    certificate: Path
    key: Path


class Authority:
    """An authority with files in a directory of its own; `name` can be `NAME/O=ORGANISATION`."""

    def __init__(
        self, directory: Path, name: str = "Test CA", end: str = "20991231235959Z"
    ) -> None:
        directory.mkdir()
        self._directory = directory
        (directory / "ca.cnf").write_text(_CONFIG)
        (directory / "index.txt").touch()
        (directory / "serial").write_text("01\n")
        self._own = Issued(directory / "ca.pem", directory / "ca.key")
        self._sign("ca", name, _CA, "20200101000000Z", end, "-selfsign", "-keyfile", "ca.key")

    @property
    def certificate(self) -> Path:
        return self._own.certificate

    def issue(
        self,
        name: str,
        *,
        names: str = "",
        purpose: str = "serverAuth,clientAuth",
        begin: str = "20200101000000Z",
        end: str = "20991231235959Z",
    ) -> Issued:
        """Issue a certificate: `names` as in DNS:a.example.org,URI:..., dates in UTC."""
        extensions = f"basicConstraints=CA:FALSE\nextendedKeyUsage={purpose}\n"
        extensions += f"subjectAltName={names}\n" if names else ""
        file = name.replace("/", "_").replace("*", "_")
        return self._sign(
            file, name, extensions, begin, end, "-cert", "ca.pem", "-keyfile", "ca.key"
        )

    def _sign(
        self, file: str, name: str, extensions: str, begin: str, end: str, *signer: str
    ) -> Issued:
        self.openssl(
            *("req", "-new", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-keyout", f"{file}.key", "-out", f"{file}.csr", "-subj", f"/CN={name}"),
        )
        (self._directory / "extensions").write_text(extensions)
        dates = ("-startdate", begin, "-enddate", end)
        files = ("-in", f"{file}.csr", "-out", f"{file}.pem", "-extfile", "extensions")
        self.openssl("ca", "-batch", "-notext", "-config", "ca.cnf", *signer, *dates, *files)
        return Issued(self._directory / f"{file}.pem", self._directory / f"{file}.key")

    def openssl(self, *arguments: str) -> str:
        """Run openssl in the directory; return its output."""
        command = ["openssl", *arguments]
        return subprocess.run(
            command, cwd=self._directory, check=True, capture_output=True, text=True
        ).stdout
