"""The kernel's side of a node, for asyncio: observe, apply, open sockets, watch.

Thin methods over blocking code that runs on the namespace thread (`observe`, `carry_out`, `packets`). Nothing is
cached: the kernel is asked each time, so nothing here can disagree with it.

    kernel = await Kernel.open()
    states = await kernel.observe(desired)
    todo = plan(states, desired)
    errors = todo.errors | await kernel.apply(todo.actions)
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from dataplane import netns, packets
from dataplane.carry_out import Actions, Applier
from dataplane.errors import KernelError, NodeplaneError
from dataplane.links import LinkEvents
from dataplane.model import NetworkId
from dataplane.netlink import Netlink, kernel_error, raise_receive_buffer
from dataplane.netns import Namespaces, NamespaceThread
from dataplane.observe import Observer
from dataplane.packets import NetworkSockets
from dataplane.plan import DesiredNetwork, NetworkState

# Chosen: networks done in one go. Each holds two descriptors meanwhile (the usual limit is 1,024), and other calls
# get their turn in between.
CHUNK = 64
# Chosen: a bridge takes the kernel some 17 ms to delete, in which nobody else can change any device of the machine.
DELETE_CHUNK = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where a network is served: the name of a namespace and a device in it."""

    netns: str
    device: str


class Kernel:
    """What a node asks of its kernel. Make it with `open`, end it with `close`."""

    def __init__(self, thread: NamespaceThread, namespaces: Namespaces, root: Netlink) -> None:
        self._thread = thread
        self._namespaces = namespaces
        self._root = root
        self._observer = Observer(namespaces, root)

    @classmethod
    async def open(cls, directory: Path = netns.DIRECTORY) -> Kernel:
        """Start the namespace thread; the namespace of the caller is the root namespace from now on.

        Raises KernelError when the directory of names cannot be made a shared mount.
        """
        thread = NamespaceThread()

        def begin() -> tuple[Namespaces, Netlink]:
            namespaces = Namespaces(directory)
            namespaces.prepare()
            root = Netlink()
            raise_receive_buffer(root.socket)
            return namespaces, root

        try:
            return cls(thread, *await thread.call(begin))
        except BaseException:
            thread.close()
            raise

    async def close(self) -> None:
        """Stop the thread. Nothing in the kernel changes."""

        def end() -> None:
            self._root.close()
            self._namespaces.close()

        await self._thread.call(end)
        self._thread.close()

    async def observe(self, desired: Mapping[NetworkId, DesiredNetwork]) -> dict[NetworkId, NetworkState]:
        """The state of every network of `desired`, and of every other one of which something of ours is left."""
        return await self._thread.call(self._observer.everything, desired)

    async def refresh(self, wanted: Mapping[NetworkId, DesiredNetwork | None]) -> dict[NetworkId, NetworkState]:
        """The state of these networks only (None: it is to be gone); about 0.3 ms for one."""
        return await self._thread.call(self._observer.these, wanted)

    async def apply(self, actions: Actions) -> dict[NetworkId, NodeplaneError]:
        """Do the actions of a plan; returns the networks that failed, with the first failure of each.

        What was done stays done: observe and plan again to go on.
        """
        errors: dict[NetworkId, NodeplaneError] = {}
        for part in self._parts(actions, DELETE_CHUNK):
            await self._thread.call(part.take_away)
            errors |= part.errors
        made: list[Applier] = []
        for part in self._parts({key: value for key, value in actions.items() if key not in errors}, CHUNK):
            await self._thread.call(part.make)
            made.append(part)
        for part in made:
            # A device can be plugged when every network has let go of its own.
            await self._thread.call(part.plug)
            errors |= part.errors
        return errors

    def _parts(self, actions: Actions, size: int) -> Iterator[Applier]:
        remaining = iter(actions.items())
        while part := dict(islice(remaining, size)):
            yield Applier(self._namespaces, self._root, part)

    async def open_sockets(self, places: Mapping[NetworkId, Place]) -> dict[NetworkId, NetworkSockets | NodeplaneError]:
        """Open the sockets of networks in their namespaces. The caller closes them."""
        return await self._thread.call(self._open_sockets, places)

    def _open_sockets(self, places: Mapping[NetworkId, Place]) -> dict[NetworkId, NetworkSockets | NodeplaneError]:
        result: dict[NetworkId, NetworkSockets | NodeplaneError] = {}
        for network_id, place in places.items():
            try:
                result[network_id] = self._open_one(place)
            except NodeplaneError as error:
                result[network_id] = error
            except OSError as error:
                result[network_id] = kernel_error("open sockets on", f"{place.device} in {place.netns}", error)
        return result

    def _open_one(self, place: Place) -> NetworkSockets:
        descriptor = self._namespaces.open(place.netns)
        if descriptor is None:
            raise KernelError("open namespace", place.netns, errno.ENOENT)
        try:
            with self._namespaces.inside(descriptor):
                return packets.open_sockets(place.device)
        finally:
            self._namespaces.release(descriptor)

    async def watch(self) -> LinkEvents:
        """What happens to the devices of the root namespace, from now on. The caller closes it."""
        return await LinkEvents.open(self._thread)
