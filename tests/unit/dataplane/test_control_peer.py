"""Who may use the control socket."""

from __future__ import annotations

import os
import socket

import pytest

from dataplane.config import ControlConfig
from dataplane.control_peer import Gate, Peer, credentials


def test_the_kernel_tells_who_connected() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with left, right:
        peer = credentials(left)
    assert (peer.pid, peer.uid, peer.gid) == (os.getpid(), os.geteuid(), os.getegid())
    assert peer.groups == frozenset(os.getgroups())


def test_other_sockets_have_no_peer() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unconnected:
        assert credentials(unconnected).pid == 0
    with socket.socket(socket.AF_INET) as inet:
        assert credentials(inet).pid == 0


ANOTHER = os.geteuid() + 1


@pytest.mark.parametrize(
    ("config", "peer", "allowed"),
    [
        (ControlConfig(), Peer(1, 0, 0), True),
        (ControlConfig(), Peer(1, os.geteuid(), 5), True),
        (ControlConfig(), Peer(1, ANOTHER, 0), False),
        (ControlConfig(), Peer(1, ANOTHER, ANOTHER, frozenset({0, 5})), False),
        (ControlConfig(allow_users=(ANOTHER,)), Peer(1, ANOTHER, 5), True),
        (ControlConfig(allow_users=("no-such-user",)), Peer(1, ANOTHER, 5), False),
        (ControlConfig(allow_groups=(5,)), Peer(1, ANOTHER, 5), True),
        (ControlConfig(allow_groups=(5,)), Peer(1, ANOTHER, 6, frozenset({4, 5})), True),
        (ControlConfig(allow_groups=(5,)), Peer(1, ANOTHER, 6, frozenset({4})), False),
        (ControlConfig(allow_groups=(5,)), Peer(1, 5, 6), False),
        (ControlConfig(allow_groups=("root",)), Peer(1, ANOTHER, 0), True),
    ],
)
def test_the_gate(config: ControlConfig, peer: Peer, allowed: bool) -> None:
    assert Gate.of(config).allows(peer) is allowed


def test_unknown_names_are_kept_for_the_log() -> None:
    gate = Gate.of(ControlConfig(allow_users=("root", "no-such-user"), allow_groups=("no-such-group", 77)))
    assert gate.unknown == ("no-such-user", "no-such-group")
    assert gate.gids == {77}
