"""Notifications about the devices of the root namespace.

A notification only says where to look: truth is what `Kernel.refresh` reads. So notifications of one device that wait
together are one event, and when the kernel had to drop some (ENOBUFS) a `resync` event says to look everywhere.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from dataplane import rtnetlink as nl
from dataplane import rtnetlink_replies as replies
from dataplane.errors import KernelError
from dataplane.netlink import Netlink, raise_receive_buffer
from dataplane.netns import NamespaceThread
from dataplane.rtnetlink_replies import LinkBrief

LinkChange = Literal["appeared", "changed", "gone", "resync"]

_READ = 64 << 10
# Chosen: one new device gives some ten notifications within a millisecond or two; they are read together.
_GATHER_SECONDS = 0.005
# Chosen: buffers read before the loop gets its turn again; a burst of thousands of devices takes several turns.
_READS_PER_TURN = 256
# Chosen: as for a network that failed.
_RETRY_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class LinkEvent:
    """What happened to a device. `resync` has no name: notifications were lost, look at everything."""

    change: LinkChange
    name: str = ""
    index: int = 0


class LinkWatch:
    """The devices known so far, and the pending events. Fed with buffers; knows no socket.

    A device is changed when it went up or down, or its MTU or bridge is another; counters and the like are no news.
    """

    def __init__(self, known: Sequence[LinkBrief] = ()) -> None:
        self._known = {brief.index: brief for brief in known}
        self._pending: dict[tuple[str, int], LinkEvent] = {}

    def feed(self, data: bytes) -> None:
        """Take one buffer of notifications."""
        for kind, _flags, _sequence, start, end in replies.messages(data):
            # AF_BRIDGE messages repeat for a bridge's port what AF_UNSPEC says for the device.
            if kind not in (nl.RTM_NEWLINK, nl.RTM_DELLINK) or replies.link_family(data, start):
                continue
            brief = replies.decode_brief(data, start, end)
            old = self._known.get(brief.index)
            if kind == nl.RTM_DELLINK:
                self._known.pop(brief.index, None)
                self._add("gone", old or brief)
            elif old is None or old.name != brief.name:
                if old is not None:
                    self._add("gone", old)
                self._known[brief.index] = brief
                self._add("appeared", brief)
            elif old != brief:
                self._known[brief.index] = brief
                if ("appeared", brief.index) not in {(event.change, event.index) for event in self._of(brief)}:
                    self._add("changed", brief)

    def resync(self, known: Sequence[LinkBrief]) -> None:
        """Notifications were lost; `known` is the whole picture now."""
        self._known = {brief.index: brief for brief in known}
        self._pending = {("", 0): LinkEvent("resync")}

    def take(self) -> tuple[LinkEvent, ...]:
        """The events since the last call, each device's newest."""
        events = tuple(self._pending.values())
        self._pending.clear()
        return events

    def _of(self, brief: LinkBrief) -> tuple[LinkEvent, ...]:
        event = self._pending.get((brief.name, brief.index))
        return (event,) if event else ()

    def _add(self, change: LinkChange, brief: LinkBrief) -> None:
        key = (brief.name, brief.index)
        self._pending.pop(key, None)
        self._pending[key] = LinkEvent(change, brief.name, brief.index)


class LinkEvents:
    """The stream of events: `async for events in stream`, each a batch that is never empty. End it with `close`.

    Nothing that happens after `open` returned is missed. One task reads it.
    """

    def __init__(self, thread: NamespaceThread, sock: socket.socket, known: Sequence[LinkBrief]) -> None:
        self._thread = thread
        self._socket = sock
        self._watch = LinkWatch(known)
        self._wake = asyncio.Event()
        self._lost = False
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._listen()

    @classmethod
    async def open(cls, thread: NamespaceThread) -> LinkEvents:
        """Begin to listen in the root namespace."""
        return cls(thread, *await thread.call(_listen))

    def close(self) -> None:
        """Stop listening; the iteration ends."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._socket.fileno())
            if self._timer is not None:
                self._timer.cancel()
            self._socket.close()
            self._wake.set()

    def __aiter__(self) -> AsyncIterator[tuple[LinkEvent, ...]]:
        return self

    async def __anext__(self) -> tuple[LinkEvent, ...]:
        while not self._closed:
            await self._wake.wait()
            self._wake.clear()
            if self._lost:
                try:
                    known = await self._thread.call(_dump)
                except (KernelError, OSError):
                    # Out of descriptors or memory: the loss is not forgotten, and looked into again.
                    self._loop.call_later(_RETRY_SECONDS, self._wake.set)
                    continue
                self._lost = False
                self._watch.resync(known)
            if events := self._watch.take():
                return events
        raise StopAsyncIteration

    def _listen(self) -> None:
        self._timer = None
        self._loop.add_reader(self._socket.fileno(), self._gather)

    def _gather(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._timer = self._loop.call_later(_GATHER_SECONDS, self._read)

    def _read(self) -> None:
        self._listen()
        for _ in range(_READS_PER_TURN):
            try:
                self._watch.feed(self._socket.recv(_READ))
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._lost = True
        self._wake.set()


def _listen() -> tuple[socket.socket, list[LinkBrief]]:
    sock = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
    )
    raise_receive_buffer(sock)
    sock.bind((0, nl.RTMGRP_LINK))
    # After the bind: what comes between the two is seen twice, and the second time is no news.
    return sock, _dump()


def _dump() -> list[LinkBrief]:
    with Netlink() as asking:
        return asking.dump(nl.dump_links(), replies.decode_brief)
