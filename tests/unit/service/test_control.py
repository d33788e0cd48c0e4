"""The control socket: which processes may ask for a reload, and which may answer."""

import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from ackd.service.control import (
    Control,
    ControlError,
    NotReloadedError,
    ReloadError,
    request_reload,
)
from tests.support.obstacle import needs_namespaces
from tests.support.project import PROJECT

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it has other users ask")
OTHER_USER = 4321


@contextmanager
def controlled(reload: Callable[[], str], environ: Mapping[str, str]) -> Iterator[None]:
    """Have this process answer one request for a reload."""
    control = Control(reload, environ)
    answerer = threading.Thread(target=answer, args=(control,), daemon=True)
    answerer.start()
    yield
    control.close()


def answer(control: Control) -> None:
    select.select([control], [], [])
    control.on_readable()


def in_directory(path: Path) -> dict[str, str]:
    return {"RUNTIME_DIRECTORY": str(path)}


def test_a_reload_is_asked_for_in_the_runtime_directory(tmp_path: Path) -> None:
    environ = in_directory(tmp_path)
    with controlled(lambda: "", environ):
        request_reload(os.getpid(), environ)
    assert list(tmp_path.iterdir()) == []


def test_without_a_runtime_directory_a_reload_is_asked_for_at_an_abstract_name() -> None:
    with controlled(lambda: "", {}):
        request_reload(os.getpid(), {})


def test_a_process_that_uses_the_abstract_name_does_not_prevent_a_reload(tmp_path: Path) -> None:
    environ = in_directory(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as squatter:
        squatter.bind(f"\0ackd/{os.getpid()}")
        squatter.listen()
        with controlled(lambda: "", environ):
            request_reload(os.getpid(), environ)


def test_a_socket_that_a_killed_process_has_left_is_replaced(tmp_path: Path) -> None:
    environ = in_directory(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
        left.bind(str(tmp_path / f"control-{os.getpid()}"))
    with controlled(lambda: "", environ):
        request_reload(os.getpid(), environ)


def test_the_answer_does_nothing_to_the_terminal(tmp_path: Path) -> None:
    def fail() -> str:
        raise ReloadError("port: \x1b[2J\nbind: \u202e")

    environ = in_directory(tmp_path)
    with controlled(fail, environ), pytest.raises(NotReloadedError) as caught:
        request_reload(os.getpid(), environ)
    assert str(caught.value) == "port: \\x1b[2J\nbind: \\u202e"


def test_the_answer_to_a_reload_can_have_a_note(tmp_path: Path) -> None:
    environ = in_directory(tmp_path)
    with controlled(lambda: "tls_key: as before\x1b", environ):
        assert request_reload(os.getpid(), environ) == "tls_key: as before\\x1b"


# Answers each request with success, as its own process number, or as ackd would.
PRETENDER = """
import os, socket
control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
control.bind(f"\\0ackd/{os.getpid()}")
control.listen()
print(os.getpid(), flush=True)
control.accept()[0].send(b"=")
"""
ACKD = """
import os, select
from ackd.service.control import Control
control = Control(lambda: "", {})
print(os.getpid(), flush=True)
select.select([control], [], [])
control.on_readable()
"""


@contextmanager
def process(*command: str) -> Iterator[int]:
    """Run a command that prints its process number; yield this number."""
    environ = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as running:
        assert running.stdout
        yield int(running.stdout.readline())
        running.kill()


def as_user(user: int) -> tuple[str, ...]:
    return ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups")


@needs_root
def test_root_does_not_believe_the_process_of_another_user() -> None:
    command = (*as_user(OTHER_USER), "/usr/bin/python3", "-c", PRETENDER)
    with process(*command) as pid, pytest.raises(ControlError) as caught:
        request_reload(pid, {})
    assert str(caught.value).startswith(f"process {pid} belongs to user {OTHER_USER}, ")


@needs_root
@needs_namespaces
def test_a_user_namespace_does_not_make_all_users_the_same() -> None:
    # In a user namespace without a map all users are number 65534, and so is ackd's own.
    command = ("unshare", "--user", sys.executable, "-c", ACKD)
    with process(*command) as pid:
        os.seteuid(OTHER_USER)
        try:
            with pytest.raises(ControlError) as caught:
                request_reload(pid, {})
        finally:
            os.seteuid(0)
    assert str(caught.value) == f"only root and the user of process {pid} may reload it"
