"""What the tests of TLS share. A module says itself what its server's certificate `own` is."""

import ssl

import pytest

from tests.support.certificates import Authority, Issued
from tests.support.tls_front import server_context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture
def server(own: Issued) -> ssl.SSLContext:
    """Return the context of a server that is no ackd."""
    return server_context(own)


@pytest.fixture
def ca(authority: Authority) -> tuple[str, str]:
    """Return the options of ackctl with which it trusts the authority."""
    return "--ca", str(authority.certificate)
