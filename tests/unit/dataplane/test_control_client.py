"""The client of the control socket: every way to fail has a next step."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dataplane import control_client
from dataplane.control_client import ControlClient, RefusedError, UnreachableError


@contextmanager
def answering(path: Path, answer: bytes | None) -> Iterator[list[bytes]]:
    """A server for one connection that says `answer`, or nothing at all until the client has left."""
    requests: list[bytes] = []
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            requests.append(whole(connection))
            if answer is not None:
                connection.sendall(answer)
            else:
                connection.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield requests
    finally:
        thread.join()
        listener.close()


def whole(connection: socket.socket) -> bytes:
    """A request with its body: what is unread when the server closes would take the answer away from the client."""
    request = b""
    while part := connection.recv(65536):
        request += part
        head, end, body = request.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        if end and len(body) >= (int(length[1]) if length else 0):
            break
    return request


def http(body: bytes, status: str = "200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status.encode(), len(body), body)


def test_segments_and_query_are_quoted(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with answering(path, http(b"{}")) as requests:
        assert ControlClient(str(path)).get("v1", "ports", "../a b", network_id="x&y", wait=None, seconds=0) == b"{}"
    assert requests[0].startswith(b"GET /v1/ports/..%2Fa%20b?network_id=x%26y HTTP/1.1\r\n")


def unreachable(call: Callable[[], object]) -> UnreachableError:
    with pytest.raises(UnreachableError) as caught:
        call()
    assert caught.value.hint
    return caught.value


def test_no_daemon(tmp_path: Path) -> None:
    assert "no control socket" in str(unreachable(lambda: ControlClient(str(tmp_path / "s")).get("v1")))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
        assert "nobody listens" in str(unreachable(lambda: ControlClient(str(tmp_path / "dead")).get("v1")))
    assert "cannot use" in str(unreachable(lambda: ControlClient("/" + "x" * 200).get("v1")))
    if os.geteuid() != 0:
        (tmp_path / "closed").mkdir(mode=0)
        assert "no permission" in str(unreachable(lambda: ControlClient(str(tmp_path / "closed/s")).get("v1")))


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{"])
def test_a_daemon_that_dies(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path / "s", answer):
        assert "ended before it answered" in str(unreachable(lambda: ControlClient(str(tmp_path / "s")).get("v1")))


def test_a_daemon_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_client, "ANSWER_SECONDS", 0.05)
    with answering(tmp_path / "s", None):
        assert "does not answer" in str(unreachable(lambda: ControlClient(str(tmp_path / "s")).get("v1")))


def test_problems(tmp_path: Path) -> None:
    body = b'{"error": "no", "hint": "do", "mistakes": [{"path": "a.b", "reason": "c"}]}'
    with answering(tmp_path / "s", http(body, "422 X")), pytest.raises(RefusedError, match="no") as caught:
        ControlClient(str(tmp_path / "s")).post("v1", body=b"{}")
    assert (caught.value.status, caught.value.hint, str(caught.value.mistakes[0])) == (422, "do", "a.b: c")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": 1}', b'{"mistakes": [1]}'])
def test_an_answer_that_is_no_problem_document(tmp_path: Path, body: bytes) -> None:
    with answering(tmp_path / "s", http(body, "502 Bad Gateway")), pytest.raises(RefusedError, match="502"):
        ControlClient(str(tmp_path / "s")).get("v1")
