"""Reply templates: what a port is told is put together when the port changes, and only patched for each packet.

A reply is the request's transaction id, flags, giaddr and chaddr, the port's addresses, a block of encoded options
and the options that echo the request's. Blocks are cached by message kind, lease time, client class and parameter
request list; a guest always sends the same few.
"""

from __future__ import annotations

import ipaddress
import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple

from dataplane.dhcp import boot
from dataplane.dhcp import constants as c
from dataplane.dhcp.options import PortOption
from dataplane.dhcp.overflow import FILE_ROOM, SNAME_ROOM, Item, lay_out
from dataplane.dhcp.policy import Policy, ServerIdentity
from dataplane.dhcp.pool import Pool, build_pool, overrides
from dataplane.dhcp.wire import Message, encode_option
from dataplane.model import Ip, Network, Port, Subnet

REPLY_HEAD: Final = bytes((c.BOOTREPLY, c.ETHERNET, c.MAC_BYTES, 0))
NO_SECS: Final = b"\0\0"
END: Final = bytes((c.END,))

# A client sends a few different request lists in its life (ROM, iPXE, installer, system); an attacker many.
MAX_BLOCKS: Final = 32
# Of a BOOTP reply: 64 bytes of vendor area with cookie and END (RFC 951, RFC 1497).
_BOOTP_ROOM: Final = c.MIN_PAYLOAD_BYTES - c.OPTIONS_START - 1

# Sent without being asked for (53 goes first in any case).
_ALWAYS: Final = (
    c.SERVER_ID,
    c.LEASE_TIME,
    c.RENEWAL_TIME,
    c.REBINDING_TIME,
    c.SUBNET_MASK,
    c.BROADCAST_ADDRESS,
    c.INTERFACE_MTU,
)
_ALWAYS_BOOT: Final = (c.VENDOR_CLASS, c.VENDOR_ENCAPSULATED)
# Kept in a message that is too small for all.
_KEPT: Final = frozenset(
    {c.MESSAGE_TYPE, *_ALWAYS, *_ALWAYS_BOOT, c.CLIENT_ID, c.RAPID_COMMIT, c.CLIENT_MACHINE_ID}
)  # fmt: skip
_TIMES: Final = (c.LEASE_TIME, c.RENEWAL_TIME, c.REBINDING_TIME)


class Reply(NamedTuple):
    """A payload and what did not fit it."""

    payload: bytes
    options_dropped: int = 0
    relay_option_dropped: bool = False


class _Variant(NamedTuple):
    """The template for one class of client."""

    pool: Pool
    client: int
    fields: bytes
    """sname, file and cookie."""


class PortTemplate:
    """Replies to one port at one of its addresses."""

    __slots__ = (
        "_blocks",
        "_inputs",
        "_own",
        "_shortest",
        "_variants",
        "address",
        "ip",
        "lease_seconds",
        "mask",
        "prefix",
    )

    def __init__(
        self,
        network: Network,
        subnet: Subnet,
        port: Port,
        ip: Ip,
        identity: ServerIdentity,
        policy: Policy,
        own: Sequence[PortOption],
    ) -> None:
        """Build for a fixed address of `port` in `subnet`; `own` is the port's extra_dhcp_opts, read."""
        net = ipaddress.IPv4Network(subnet.cidr)
        self.ip = ip
        self.address = ipaddress.IPv4Address(ip).packed
        """`ip` as 4 bytes."""
        self.prefix, self.mask = int(net.network_address), int(net.netmask)
        self._inputs = (network, subnet, port, identity, policy)
        self._own = tuple(own)
        self._variants: dict[int, _Variant] = {}
        self._blocks: dict[tuple[int, int, int, bytes], bytes] = {}
        lease = self._variant(0).pool.options.get(c.LEASE_TIME)
        self._shortest = policy.min_lease_time
        self.lease_seconds = policy.lease_seconds if lease is None else int.from_bytes(lease, "big")
        """The configured lease time: the longest that is promised."""

    def contains(self, address: bytes) -> bool:
        """Whether 4 raw bytes are an address of the subnet."""
        return int.from_bytes(address, "big") & self.mask == self.prefix

    def lease_for(self, asked: bytes | None) -> int:
        """The lease time of a reply: the configured one, or what the client asks for if that is less.

        The client's wish is raised to `Policy.min_lease_time` first, as dnsmasq does to two minutes.
        """
        if asked is None:
            return self.lease_seconds
        return min(self.lease_seconds, max(int.from_bytes(asked, "big"), self._shortest))

    def reply(
        self, message: Message, kind: int, *, ciaddr: bytes, lease: int, limit: int, echo: Sequence[Item], relay: bytes
    ) -> Reply:
        """The payload of an answer to `message`.

        `kind` is OFFER, ACK, INFORM (the ACK to an INFORM: no address, no times) or BOOTP. `lease` is in seconds and
        unused by the last two. `limit` is the payload's size in bytes. `echo` holds the options that go back to the
        client, encoded; `relay` is option 82, encoded, or empty: it is the last option and never in an overloaded
        field (RFC 3046 section 2.1).
        """
        options = message.options
        client = boot.client_class(options)
        variant = self._variants.get(client) or self._variant(client)
        requested = options.get(c.PARAMETER_REQUEST_LIST, b"")
        key = (kind, lease, client, requested)
        block = self._blocks.get(key)
        if block is None:
            block = self._remember(key, variant)
        tail = b"".join([data for _, data in echo]) if echo else b""
        fields = variant.fields
        if kind == c.BOOTP:
            limit = c.MIN_PAYLOAD_BYTES
        room = limit - c.OPTIONS_START - 1
        options_dropped, relay_dropped = 0, False
        if len(block) + len(tail) + len(relay) > room:
            block, fields, options_dropped, relay_dropped = self._squeeze(
                kind, lease, variant, requested, echo, relay, room
            )
            tail = b""
            if relay_dropped:
                relay = b""
        payload = message.payload
        parts = (
            REPLY_HEAD,
            payload[4:8],
            NO_SECS,
            payload[10:12],
            ciaddr,
            c.ANY if kind == c.INFORM else self.address,
            variant.pool.siaddr,
            payload[24:44],  # giaddr and chaddr
            fields,
            block,
            tail,
            relay,
            END,
        )
        return Reply(b"".join(parts).ljust(c.MIN_PAYLOAD_BYTES, b"\0"), options_dropped, relay_dropped)

    def _variant(self, client: int) -> _Variant:
        network, subnet, port, _, policy = self._inputs
        pool = build_pool(network, subnet, port, self.ip, policy, overrides(self._own, client), client)
        fields = pool.sname.ljust(64, b"\0") + pool.file.ljust(128, b"\0") + c.COOKIE
        variant = self._variants[client] = _Variant(pool, client, fields)
        return variant

    def _remember(self, key: tuple[int, int, int, bytes], variant: _Variant) -> bytes:
        kind, lease, _, requested = key
        block = b"".join([data for _, data in self._items(kind, lease, variant, requested)])
        if len(requested) <= 255:
            if len(self._blocks) >= MAX_BLOCKS:
                self._blocks.clear()
            self._blocks[key] = block
        return block

    def _items(self, kind: int, lease: int, variant: _Variant, requested: bytes) -> list[Item]:
        """The options of a reply in their order: the message type, what is always sent, what was asked for."""
        identity = self._inputs[3]
        values = {code: value for code, value in variant.pool.options.items() if code not in _TIMES}
        if kind != c.BOOTP:
            values[c.SERVER_ID] = identity.address
        if kind in (c.OFFER, c.ACK):
            values.update(self._times(lease, variant.pool))
        always = _ALWAYS + _ALWAYS_BOOT if variant.client & (boot.PXE | boot.HTTP) else _ALWAYS
        if requested:
            codes = [code for code in always if code not in requested] + list(requested)
        else:
            codes = [*always, *(code for code in values if code != c.CLASSLESS_ROUTES_MICROSOFT)]
        items: list[Item] = []
        if kind != c.BOOTP:
            items.append((c.MESSAGE_TYPE, encode_option(c.MESSAGE_TYPE, bytes((c.ACK if kind == c.INFORM else kind,)))))
        items += [(code, encode_option(code, values[code])) for code in dict.fromkeys(codes) if code in values]
        return items

    def _times(self, lease: int, pool: Pool) -> dict[int, bytes]:
        """Options 51, 58 and 59; T1 < T2 < lease, or the last two are left out, as for a lease without an end.

        T1 and T2 are earlier by up to an eighth of T1, always by the same for one MAC, so that VMs which started
        together do not renew together (RFC 2131 section 4.4.5).
        """
        times = {c.LEASE_TIME: lease.to_bytes(4, "big")}
        if lease == c.INFINITE_LEASE:
            return times
        port = self._inputs[2]
        early = zlib.crc32(port.mac_address.encode()) % (lease // 16 + 1)
        renewal, rebinding = lease // 2 - early, lease * 7 // 8 - early
        own_renewal, own_rebinding = pool.options.get(c.RENEWAL_TIME), pool.options.get(c.REBINDING_TIME)
        wanted = (
            renewal if own_renewal is None else int.from_bytes(own_renewal, "big"),
            rebinding if own_rebinding is None else int.from_bytes(own_rebinding, "big"),
        )
        if 0 < wanted[0] < wanted[1] < lease:
            renewal, rebinding = wanted
        if 0 < renewal < rebinding < lease:
            times[c.RENEWAL_TIME] = renewal.to_bytes(4, "big")
            times[c.REBINDING_TIME] = rebinding.to_bytes(4, "big")
        return times

    def _squeeze(
        self, kind: int, lease: int, variant: _Variant, requested: bytes, echo: Sequence[Item], relay: bytes, room: int
    ) -> tuple[bytes, bytes, int, bool]:
        """The options field, the fields before it, the number of options dropped and whether option 82 was."""
        items = self._items(kind, lease, variant, requested)
        items[1:1] = echo  # behind the message type
        relay_dropped = sum(len(data) for code, data in items if code in _KEPT) + len(relay) > room
        if not relay_dropped:
            room -= len(relay)
        pool = variant.pool
        overload = kind != c.BOOTP
        layout = lay_out(
            items,
            _KEPT,
            room,
            file_room=FILE_ROOM if overload and not pool.file else 0,
            sname_room=SNAME_ROOM if overload and not pool.sname else 0,
        )
        sname = layout.sname + END if layout.sname else pool.sname
        file = layout.file + END if layout.file else pool.file
        fields = sname.ljust(64, b"\0") + file.ljust(128, b"\0") + c.COOKIE
        return layout.options, fields, len(layout.dropped), relay_dropped
