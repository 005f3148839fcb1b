"""The watch turns notifications into one event per device; the stream of them survives what the kernel refuses."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from dataplane import rtnetlink as nl
from dataplane.links import LinkEvent, LinkEvents, LinkWatch
from dataplane.netns import NamespaceThread
from dataplane.rtnetlink_replies import LinkBrief


def notification(
    kind: int, index: int, name: str, *, up: bool = False, master: int = 0, family: int = 0, mtu: int = 1500
) -> bytes:
    attributes = nl.attribute(nl.IFLA_IFNAME, name.encode() + b"\0") + nl.attribute(nl.IFLA_MTU, nl.U32.pack(mtu))
    if master:
        attributes += nl.attribute(nl.IFLA_MASTER, nl.U32.pack(master))
    body = nl.IFINFO.pack(family, 0, index, int(up), 0) + attributes
    return nl.HEADER.pack(nl.HEADER.size + len(body), kind, 0, 0, 0) + body


def new(index: int, name: str, **fields: int) -> bytes:
    return notification(nl.RTM_NEWLINK, index, name, **fields)  # type: ignore[arg-type]


def gone(index: int, name: str, **fields: int) -> bytes:
    return notification(nl.RTM_DELLINK, index, name, **fields)  # type: ignore[arg-type]


def test_a_device_comes_changes_and_goes() -> None:
    watch = LinkWatch()
    watch.feed(new(4, "tap0"))
    assert watch.take() == (LinkEvent("appeared", "tap0", 4),)
    watch.feed(new(4, "tap0", up=True))
    assert watch.take() == (LinkEvent("changed", "tap0", 4),)
    watch.feed(new(4, "tap0", up=True, master=9))
    assert watch.take() == (LinkEvent("changed", "tap0", 4),)
    watch.feed(gone(4, "tap0"))
    assert watch.take() == (LinkEvent("gone", "tap0", 4),)
    assert watch.take() == ()


def test_what_says_nothing_new_is_no_event() -> None:
    watch = LinkWatch([LinkBrief(4, "tap0", up=True, mtu=1500, master=0)])
    watch.feed(new(4, "tap0", up=True))
    assert watch.take() == ()


def test_a_burst_about_one_device_is_one_event() -> None:
    watch = LinkWatch()
    watch.feed(new(4, "tap0") + new(4, "tap0", up=True) + new(4, "tap0", up=True, master=9))
    assert watch.take() == (LinkEvent("appeared", "tap0", 4),)
    watch.feed(new(4, "tap0") + gone(4, "tap0"))
    assert watch.take() == (LinkEvent("gone", "tap0", 4),)


def test_a_device_that_is_made_again_is_gone_and_appeared() -> None:
    watch = LinkWatch([LinkBrief(4, "tap0", up=True, mtu=1500, master=0)])
    watch.feed(gone(4, "tap0") + new(5, "tap0"))
    assert watch.take() == (LinkEvent("gone", "tap0", 4), LinkEvent("appeared", "tap0", 5))


def test_a_new_name_is_a_device_gone_and_another_appeared() -> None:
    watch = LinkWatch([LinkBrief(4, "eth7", up=False, mtu=1500, master=0)])
    watch.feed(new(4, "tap0"))
    assert watch.take() == (LinkEvent("gone", "eth7", 4), LinkEvent("appeared", "tap0", 4))


def test_bridge_port_messages_are_not_about_the_device() -> None:
    watch = LinkWatch([LinkBrief(4, "tap0", up=True, mtu=1500, master=9)])
    watch.feed(gone(4, "tap0", family=nl.AF_BRIDGE))
    assert watch.take() == ()


def test_lost_notifications_are_one_event_that_stands_for_all() -> None:
    watch = LinkWatch()
    watch.feed(new(4, "tap0"))
    watch.resync([LinkBrief(5, "tap1", up=False, mtu=1500, master=0)])
    assert watch.take() == (LinkEvent("resync"),)
    watch.feed(new(5, "tap1"))
    assert watch.take() == ()


class FailingThread:
    """Fails once, then knows no device."""

    def __init__(self) -> None:
        self.calls = 0

    async def call(self, function: Callable[[], Any]) -> list[LinkBrief]:
        self.calls += 1
        if self.calls == 1:
            raise OSError(errno.EMFILE, "too many open files")
        return []


@pytest.mark.asyncio
async def test_a_resync_without_descriptors_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataplane.links._RETRY_SECONDS", 0.0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    thread = FailingThread()
    events = LinkEvents(cast(NamespaceThread, thread), ours, [])
    monkeypatch.setattr(events, "_lost", True)
    events._wake.set()
    assert await asyncio.wait_for(anext(aiter(events)), 30) == (LinkEvent("resync"),)
    assert thread.calls == 2
    events.close()
    theirs.close()
