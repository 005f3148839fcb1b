"""Listening sockets in the file system."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from dataplane.errors import ListenError
from dataplane.unix_socket import UnixListener


def opened(path: Path, mode: int = 0o600) -> UnixListener:
    return UnixListener.open(str(path), mode, "the socket", "section.key", 8)


def test_it_listens_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "below" / "s"
    listener = opened(path, 0o640)
    with listener.sock, socket.socket(socket.AF_UNIX) as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        client.connect(str(path))
        listener.remove()
        assert list(path.parent.iterdir()) == []


def test_a_dead_socket_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    opened(path).sock.close()
    listener = opened(path)
    with listener.sock:
        with pytest.raises(ListenError, match="another daemon answers"):
            opened(path)
        assert path.exists()


def test_a_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("mine")
    with pytest.raises(ListenError, match=r"not a socket.*section\.key"):
        opened(path)
    assert path.read_text() == "mine"


def test_what_another_put_there_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = opened(path)
    with listener.sock:
        os.unlink(path)
        path.write_text("theirs")
        listener.remove()
    assert path.read_text() == "theirs"


def test_a_place_that_does_not_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ListenError, match="cannot open the socket"):
        opened(tmp_path / "file" / "s")


def test_permissions_are_given_to_the_socket_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's socket is in a folder of its user, who may put something else in the socket's place at any moment."""
    victim = tmp_path / "victim"
    victim.touch(0o600)

    class Replaced(socket.socket):
        def bind(self, address: Any) -> None:
            super().bind(address)
            os.unlink(address)
            os.symlink(victim, address)

    monkeypatch.setattr("dataplane.unix_socket.socket.socket", Replaced)
    with pytest.raises(ListenError):
        UnixListener.open(str(tmp_path / "s"), 0o666, "the socket", "key", 1)
    assert stat.S_IMODE(victim.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [victim]
