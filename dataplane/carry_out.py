"""Actions of a plan, done to the kernel in batches. Everything here blocks and runs on the namespace thread.

Networks go through the stages together, so that one send carries the requests of all of them; a network whose
request failed takes no part in the later stages, and the others do not notice.

A bridge or veth is born with its name and MAC, and gets its alias a moment later: `plan.ours` knows it by either,
so a crash in between leaves nothing that the next run would take for foreign.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TypeVar

from dataplane import names
from dataplane import rtnetlink as nl
from dataplane.errors import ForeignObjectError, KernelError, NodeplaneError
from dataplane.model import NetworkId
from dataplane.netlink import Answers, Netlink, kernel_error
from dataplane.netns import Namespaces
from dataplane.plan import (
    BRIDGE_MTU,
    IPV6_MIN_MTU,
    PLUGGED_COST,
    Action,
    CreateNamespace,
    DeleteLink,
    DeleteNamespace,
    DeleteService,
    EnsureBridge,
    EnsureVeth,
    Plug,
    SetService,
    Unplug,
    ours,
)
from dataplane.rtnetlink_replies import Link

A = TypeVar("A")
Actions = Mapping[NetworkId, Sequence[Action]]

CLOSED = {nl.IPV4_FORWARDING: 0, nl.IPV4_RP_FILTER: 1, nl.IPV4_ARP_IGNORE: 8}
"""IPv4 of a bridge in the root namespace. It has no address, so no source passes the reverse-path filter: the host
takes no packet for one of its other addresses and does not answer ARP for them, which it would do otherwise."""

_SERVICE_IPV4 = {nl.IPV4_FORWARDING: 0, nl.IPV4_ACCEPT_REDIRECTS: 0, nl.IPV4_ARP_IGNORE: 1}

# The service has the addresses that we give it. What the kernel would make by itself, or take from a guest's router
# advertisement, would be further ones. The switch comes last.
_SERVICE_IPV6 = (
    ("accept_ra", b"0"),
    ("accept_redirects", b"0"),
    ("autoconf", b"0"),
    ("addr_gen_mode", b"1"),
    ("dad_transmits", b"0"),
    ("forwarding", b"0"),
    ("disable_ipv6", b"0"),
)

# A new namespace takes the root namespace's IPv4 settings, and the kernel's own for IPv6.
_NAMESPACE_SETTINGS = (
    ("ipv4/conf/all/accept_redirects", b"0"),
    ("ipv4/conf/all/arp_ignore", b"0"),
    *((f"ipv6/conf/default/{name}", value) for name, value in _SERVICE_IPV6),
)

_LOOPBACK_INDEX = 1


class Applier:
    """Does actions, and remembers which networks failed at what. One object for one run over a chunk of networks."""

    def __init__(self, namespaces: Namespaces, root: Netlink, actions: Actions) -> None:
        self.errors: dict[NetworkId, NodeplaneError] = {}
        self._namespaces = namespaces
        self._root = root
        self._actions = actions
        self._descriptors: dict[str, int] = {}
        self._inner: dict[str, Netlink] = {}
        self._indexes: dict[str, int] = {}
        self._service_indexes: dict[str, int] = {}
        self._new: set[str] = set()
        self._open = ExitStack()

    def take_away(self) -> None:
        """Unplug and delete."""
        with self._open:
            unplugs = self._of(Unplug)
            answers = self._root.ask([nl.set_link(action.index, master=0) for _, action in unplugs])
            self._note("unplug", unplugs, answers, lambda action: action.device, ignore=(errno.ENODEV,))
            self._delete_links()
            self._each(DeleteService, self._delete_service)
            self._each(DeleteNamespace, lambda _, action: self._namespaces.delete(action.netns))

    def make(self) -> None:
        """Create and set, for networks whose `take_away` is done."""
        with self._open:
            try:
                self._each(CreateNamespace, self._create_namespace)
            finally:
                self._namespaces.leave()
            self._ensure_bridges()
            self._ensure_veths()
            self._each(SetService, self._set_service)

    def plug(self) -> None:
        """Plug devices, when all networks have let go of theirs."""
        plugs = self._of(Plug)
        requests: list[nl.Request] = []
        for _, action in plugs:
            bridge = action.bridge_index or self._indexes.get(action.bridge, 0)
            requests += (
                # The kernel would give the device a link-local address and solicit routers from the guest.
                nl.set_link(action.index, addr_gen_none=True),
                nl.set_link(action.index, master=bridge, up=True),
                nl.set_bridge_port(action.index, PLUGGED_COST),
            )
        answers = self._root.ask(requests)
        for position, (network_id, action) in enumerate(plugs):
            # The first request is no condition: without IPv6, or below 1280 bytes, there is nothing to set.
            for part in (1, 2):
                number = answers.errors.get(3 * position + part, 0)
                # A device that has gone is announced by a notification, and is no failure.
                if number not in (0, errno.ENODEV):
                    self._fail(network_id, KernelError("plug", action.device, number))

    def _of(self, kind: type[A]) -> list[tuple[NetworkId, A]]:
        return [
            (network_id, action)
            for network_id, actions in self._actions.items()
            if network_id not in self.errors
            for action in actions
            if isinstance(action, kind)
        ]

    def _fail(self, network_id: NetworkId, error: NodeplaneError) -> None:
        self.errors.setdefault(network_id, error)

    def _each(self, kind: type[A], do: Callable[[NetworkId, A], None]) -> None:
        for network_id, action in self._of(kind):
            try:
                do(network_id, action)
            except NodeplaneError as error:
                self._fail(network_id, error)
            except OSError as error:
                self._fail(network_id, kernel_error(kind.__name__, network_id, error))

    def _note(
        self,
        operation: str,
        actions: Sequence[tuple[NetworkId, A]],
        answers: Answers,
        target: Callable[[A], str],
        ignore: Iterable[int] = (),
    ) -> None:
        """Failures of a list of requests, one for each action."""
        for position, number in answers.errors.items():
            network_id, action = actions[position]
            if number not in ignore:
                self._fail(network_id, KernelError(operation, target(action), number))

    def _delete_links(self) -> None:
        deletes = self._of(DeleteLink)
        if not deletes:
            return
        # Each deletion waits some milliseconds for packets in flight; deleting a group waits once. The number of the
        # group is random out of 2^30 so that no device of somebody else is in it.
        group = secrets.randbits(30) | 1 << 30
        answers = self._root.ask([nl.set_link(action.index, group=group) for _, action in deletes])
        self._note("delete", deletes, answers, lambda action: action.name, ignore=(errno.ENODEV,))
        number = self._root.ask([nl.delete_group(group)]).errors.get(0, 0)
        if number not in (0, errno.ENODEV):
            answers = self._root.ask([nl.delete_link(action.index) for _, action in deletes])
            self._note("delete", deletes, answers, lambda action: action.name, ignore=(errno.ENODEV,))

    def _delete_service(self, _: NetworkId, action: DeleteService) -> None:
        inner = self._netlink(action.netns)
        inner.do("delete", f"device in {action.netns}", nl.delete_link(action.index), ignore=(errno.ENODEV,))

    def _create_namespace(self, network_id: NetworkId, action: CreateNamespace) -> None:
        if (descriptor := self._namespaces.open(action.netns)) is not None:
            # Made since the observation. Whether by us is seen by the next one.
            self._namespaces.release(descriptor)
            raise KernelError("create namespace", action.netns, errno.EEXIST)
        self._namespaces.enter_new()
        for path, value in _NAMESPACE_SETTINGS:
            _set("/proc/sys/net/" + path, value)
        inner = self._keep(action.netns, Netlink())
        # The mark comes after the settings and before the name: a marked namespace is a complete one.
        mark = nl.set_link(_LOOPBACK_INDEX, up=True, alias=names.mark(network_id))
        inner.do("create namespace", action.netns, mark)
        self._hold(action.netns, self._namespaces.attach(action.netns))
        self._new.add(action.netns)

    def _ensure_bridges(self) -> None:
        wanted = self._of(EnsureBridge)
        new = [(network_id, action) for network_id, action in wanted if not action.index]
        requests = [nl.create_bridge(action.name, names.bridge_mac(network_id)) for network_id, action in new]
        links = self._create(new, requests, "bridge")
        old = [(network_id, action) for network_id, action in wanted if action.index]
        links |= self._read(old)
        finish: list[nl.Request] = []
        owners: list[tuple[NetworkId, EnsureBridge]] = []
        for network_id, action in wanted:
            link = links.get(action.name)
            if link is None or not self._close_ipv6(network_id, link):
                continue
            requests = [*nl.set_bridge(link.index)] if action.index else []
            requests.append(
                nl.set_link(
                    link.index,
                    up=True,
                    mtu=BRIDGE_MTU,
                    alias=names.mark(network_id),
                    addr_gen_none=not link.addr_gen_none,
                    ipv4=CLOSED,
                )
            )
            finish += requests
            owners += [(network_id, action)] * len(requests)
        self._note("set", owners, self._root.ask(finish), lambda action: action.name)

    def _close_ipv6(self, network_id: NetworkId, link: Link) -> bool:
        """Switch IPv6 off on a bridge before it is up: a guest's router advertisement would reach the host's."""
        try:
            if not link.ipv6_disabled:
                _set(f"/proc/sys/net/ipv6/conf/{link.name}/disable_ipv6", b"1")
        except OSError as error:
            self._fail(network_id, kernel_error("disable IPv6 on", link.name, error))
            return False
        return True

    def _ensure_veths(self) -> None:
        wanted = self._of(EnsureVeth)
        new: list[tuple[NetworkId, EnsureVeth]] = []
        requests: list[nl.Request] = []
        for network_id, action in wanted:
            if action.index:
                continue
            try:
                descriptor = self._descriptor(action.netns)
            except NodeplaneError as error:
                self._fail(network_id, error)
                continue
            mac = names.service_mac(network_id)
            peer = nl.VethPeer(names.SERVICE_DEVICE, mac, descriptor)
            bridge = action.bridge_index or self._indexes[action.bridge]
            new.append((network_id, action))
            requests.append(nl.create_veth(action.name, names.veth_mac(network_id), action.mtu, bridge, peer))
        links = self._create(new, requests, "device")
        self._service_indexes = {action.netns: links[action.name].peer for _, action in new if action.name in links}
        links |= self._read([(network_id, action) for network_id, action in wanted if action.index])
        finish: list[nl.Request] = []
        owners: list[tuple[NetworkId, EnsureVeth]] = []
        for network_id, action in wanted:
            link = links.get(action.name)
            if link is None:
                continue
            bridge = action.bridge_index or self._indexes[action.bridge]
            mark = names.mark(network_id)
            requests = []
            reborn = link.mtu < IPV6_MIN_MTU <= action.mtu and os.path.isdir("/proc/sys/net/ipv6")
            if reborn:
                # IPv6 comes back to it with the kernel's defaults, and gives an address to what is up.
                requests.append(nl.set_link(link.index, up=False, mtu=action.mtu))
            requests += (
                # Before it is up, or the kernel gives it a link-local address.
                nl.set_link(link.index, alias=mark, addr_gen_none=reborn or not link.addr_gen_none),
                nl.set_link(link.index, up=True, mtu=action.mtu, master=bridge),
            )
            finish += requests
            owners += [(network_id, action)] * len(requests)
        self._note("set", owners, self._root.ask(finish), lambda action: action.name)

    def _create(
        self,
        new: Sequence[tuple[NetworkId, EnsureBridge | EnsureVeth]],
        requests: Sequence[nl.Request],
        kind: str,
    ) -> dict[str, Link]:
        """Create each and read it back. One that exists already is as good when it is ours."""
        both = [
            part
            for (_, action), request in zip(new, requests, strict=True)
            for part in (request, nl.get_link(action.name))
        ]
        answers = self._root.ask(both)
        links: dict[str, Link] = {}
        for position, (network_id, action) in enumerate(new):
            number = answers.errors.get(2 * position, 0)
            link = answers.links.get(2 * position + 1)
            if number not in (0, errno.EEXIST) or link is None:
                self._fail(network_id, KernelError("create", action.name, number or errno.ENODEV))
            elif not ours(link, network_id):
                self._fail(network_id, ForeignObjectError(kind, action.name))
            else:
                links[link.name] = link
        self._indexes.update((link.name, link.index) for link in links.values())
        return links

    def _read(self, old: Sequence[tuple[NetworkId, EnsureBridge | EnsureVeth]]) -> dict[str, Link]:
        """What was there when it was observed, read again."""
        answers = self._root.ask([nl.get_link(action.name) for _, action in old])
        links: dict[str, Link] = {}
        for position, (network_id, action) in enumerate(old):
            link = answers.links.get(position)
            if link is None or link.index != action.index:
                self._fail(network_id, KernelError("set", action.name, errno.ENODEV))
            else:
                links[link.name] = link
        return links

    def _set_service(self, network_id: NetworkId, action: SetService) -> None:
        inner = self._netlink(action.netns)
        index = action.index or self._service_indexes[action.netns]
        shape = nl.set_link(index, up=True, ipv4=_SERVICE_IPV4)
        requests: list[nl.Request] = []
        if action.index:
            requests.append(nl.set_link(_LOOPBACK_INDEX, up=True))
            mac = names.service_mac(network_id)
            shape = nl.set_link(index, up=True, mtu=action.mtu, address=mac, ipv4=_SERVICE_IPV4)
        requests.append(shape)
        inner.do("set", f"{names.SERVICE_DEVICE} in {action.netns}", *requests)
        if action.ipv6 and action.netns not in self._new:
            # A device that is born in a namespace of ours has them from there; this one may be older than they are.
            with self._namespaces.inside(self._descriptor(action.netns)):
                for name, value in _SERVICE_IPV6:
                    _set(f"/proc/sys/net/ipv6/conf/{names.SERVICE_DEVICE}/{name}", value)
        if action.old_source:
            route = nl.delete_route(index, "0.0.0.0/0", action.old_source)
            inner.do("delete route in", action.netns, route, ignore=(errno.ESRCH,))
        removes = [nl.delete_address(index, address) for address in action.remove]
        # ENXIO: with an MTU that is too small for IPv6 its addresses went as well.
        inner.do("delete address in", action.netns, *removes, ignore=(errno.EADDRNOTAVAIL, errno.ENXIO))
        adds = [nl.add_address(index, address) for address in action.add]
        if action.source:
            adds.append(nl.add_route(index, "0.0.0.0/0", action.source))
        if action.ipv6:
            adds.append(nl.add_route(index, "::/0"))
        inner.do("add address and route in", action.netns, *adds, ignore=(errno.EEXIST,))

    def _keep(self, netns: str, inner: Netlink) -> Netlink:
        self._inner[netns] = inner
        self._open.callback(self._drop_netlink, netns)
        return inner

    def _drop_netlink(self, netns: str) -> None:
        self._inner.pop(netns).close()

    def _hold(self, netns: str, descriptor: int) -> int:
        self._descriptors[netns] = descriptor
        self._open.callback(self._drop_descriptor, netns)
        return descriptor

    def _drop_descriptor(self, netns: str) -> None:
        self._namespaces.release(self._descriptors.pop(netns))

    def _descriptor(self, netns: str) -> int:
        if netns in self._descriptors:
            return self._descriptors[netns]
        descriptor = self._namespaces.open(netns)
        if descriptor is None:
            raise KernelError("open namespace", netns, errno.ENOENT)
        return self._hold(netns, descriptor)

    def _netlink(self, netns: str) -> Netlink:
        if netns in self._inner:
            return self._inner[netns]
        with self._namespaces.inside(self._descriptor(netns)):
            return self._keep(netns, Netlink())


def _set(path: str, value: bytes) -> None:
    """Write a kernel setting. One that does not exist (no IPv6) needs no value."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.write(descriptor, value)
    finally:
        os.close(descriptor)
