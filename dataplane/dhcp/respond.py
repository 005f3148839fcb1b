"""Makes answers: the destination of a reply (RFC 2131 section 4.1), what is echoed, and the events that go with it."""

from __future__ import annotations

from typing import Final

from dataplane.dhcp import boot
from dataplane.dhcp import constants as c
from dataplane.dhcp.counters import Counters
from dataplane.dhcp.overflow import Item
from dataplane.dhcp.packet import Output, Packet, Send
from dataplane.dhcp.policy import Policy, ServerIdentity
from dataplane.dhcp.served import ServedPort
from dataplane.dhcp.template import END, NO_SECS, REPLY_HEAD, PortTemplate
from dataplane.dhcp.wire import Message, encode_option, relay_suboptions
from dataplane.leases import LeaseEvent, LeaseEventKind
from dataplane.model import Ip, Network
from fastpath.framing import udp4_frame

RAPID_COMMIT: Final[Item] = (c.RAPID_COMMIT, encode_option(c.RAPID_COMMIT, b""))
_NAK_TYPE: Final = encode_option(c.MESSAGE_TYPE, bytes((c.NAK,)))
_NAK_TEXT: Final = encode_option(c.MESSAGE, b"address is not this port's")
_EMPTY_FIELDS: Final = bytes(64 + 128) + c.COOKIE
_UNPRINTABLE: Final = bytes(octet for octet in range(256) if not 0x21 <= octet <= 0x7E)
# A guest's name is shown and journalled, never used; RFC 1035 allows no longer one.
_HOSTNAME_BYTES: Final = 255


class Responder:
    """Answers for one network. `network` is replaced when it changes."""

    def __init__(self, network: Network, identity: ServerIdentity, policy: Policy, counters: Counters) -> None:
        self.network = network
        self.identity = identity
        self.policy = policy
        self.counters = counters
        self.server_id = identity.address
        """Option 54, 4 bytes."""
        self._server_id_option = encode_option(c.SERVER_ID, self.server_id)

    def drop(self, reason: str) -> list[Output]:
        """Count the packet as dropped; there is no output."""
        self.counters.drop(reason)
        return []

    def event(
        self, kind: LeaseEventKind, port: ServedPort, packet: Packet, ip: Ip, now: float, lease: int = 0
    ) -> LeaseEvent:
        """The event of a message about address `ip`."""
        options = packet.message.options
        client_id = options.get(c.CLIENT_ID)
        return LeaseEvent(
            kind,
            self.network.id,
            port.port.id,
            port.port.mac_address,
            ip,
            now,
            lease,
            sanitise(options.get(c.HOST_NAME, b"")),
            client_id.hex(":") if client_id else "",
        )

    def reply(
        self,
        packet: Packet,
        port: ServedPort,
        template: PortTemplate,
        kind: int,
        *,
        ciaddr: bytes = c.ANY,
        lease: int = 0,
        extra: tuple[Item, ...] = (),
        destination: bytes | None = None,
    ) -> Send:
        """An OFFER, ACK, INFORM (its ACK) or BOOTP reply from the port's template; see `PortTemplate.reply`.

        `ciaddr` is what goes into the field. `destination` overrides the address that section 4.1 gives.
        """
        message = packet.message
        options = message.options
        echo = list(extra)
        if kind != c.BOOTP:
            if c.CLIENT_ID in options and self.policy.echo_client_id:
                echo.append((c.CLIENT_ID, encode_option(c.CLIENT_ID, options[c.CLIENT_ID])))
            if c.CLIENT_MACHINE_ID in options and boot.client_class(options) & boot.PXE:
                echo.append((c.CLIENT_MACHINE_ID, encode_option(c.CLIENT_MACHINE_ID, options[c.CLIENT_MACHINE_ID])))
        relay = encode_option(c.RELAY_AGENT, options[c.RELAY_AGENT]) if c.RELAY_AGENT in options else b""
        reply = template.reply(
            message, kind, ciaddr=ciaddr, lease=lease, limit=self._limit(options), echo=echo, relay=relay
        )
        if reply.options_dropped:
            self.counters.note("option_dropped", reply.options_dropped)
        if reply.relay_option_dropped:
            self.counters.note("relay_option_dropped")
        if destination is None:
            fallback = c.BROADCAST if message.payload[10] & 0x80 else template.address
            destination = fallback if ciaddr == c.ANY else ciaddr
        return self._send(packet, port, kind, destination, reply.payload)

    def nak(self, packet: Packet, port: ServedPort, asked: bytes, now: float) -> list[Output]:
        """Refuse the address `asked` (4 bytes): by broadcast, and through a relay with the BROADCAST bit set."""
        message = packet.message
        options = message.options
        payload = message.payload
        flags = bytes((payload[10] | 0x80, payload[11])) if packet.relayed else payload[10:12]
        parts = [_NAK_TYPE, self._server_id_option]
        room = self._limit(options) - c.OPTIONS_START - 1 - len(_NAK_TYPE) - len(self._server_id_option)
        relay = encode_option(c.RELAY_AGENT, options[c.RELAY_AGENT]) if c.RELAY_AGENT in options else b""
        if c.CLIENT_ID in options and self.policy.echo_client_id:
            parts.append(encode_option(c.CLIENT_ID, options[c.CLIENT_ID]))
            room -= len(parts[-1])
        if len(relay) > room:
            relay = b""
            self.counters.note("relay_option_dropped")
        if len(relay) + len(_NAK_TEXT) <= room:
            parts.append(_NAK_TEXT)
        head = (REPLY_HEAD, payload[4:8], NO_SECS, flags, c.ANY, c.ANY, c.ANY, payload[24:44], _EMPTY_FIELDS)
        reply = b"".join((*head, *parts, relay, END)).ljust(c.MIN_PAYLOAD_BYTES, b"\0")
        event = self.event("nak", port, packet, Ip(".".join(map(str, asked))), now)
        return [self._send(packet, port, c.NAK, c.BROADCAST, reply), event]

    def _limit(self, options: dict[int, bytes]) -> int:
        """The largest payload: option 57 (at least 576, also without the option) or the MTU, without IPv4 and UDP."""
        asked = options.get(c.MAX_MESSAGE_SIZE)
        size = c.MIN_MAX_MESSAGE_SIZE if asked is None else max(c.MIN_MAX_MESSAGE_SIZE, int.from_bytes(asked, "big"))
        return min(size, self.network.mtu or size) - c.IPV4_UDP_BYTES

    def _send(self, packet: Packet, port: ServedPort, kind: int, destination: bytes, payload: bytes) -> Send:
        """Frame a payload: to the port's own MAC whatever the message says, or back to the relay that passed it on."""
        name = "ack" if kind == c.INFORM else c.MESSAGE_NAMES[kind]
        sent = self.counters.sent
        sent[name] = sent.get(name, 0) + 1
        mac, to_port = port.mac, c.CLIENT_PORT
        if packet.relayed:
            mac, destination = packet.src_mac, packet.message.giaddr
            to_port = _relay_port(packet.message, packet.src_port)
        return Send(udp4_frame(mac, self.identity.mac, self.server_id, destination, c.SERVER_PORT, to_port, payload))


def _relay_port(message: Message, src_port: int) -> int:
    """67, or the port that the relay sent from if it says so (RFC 8357)."""
    relay = message.options.get(c.RELAY_AGENT)
    if relay is not None and c.RELAY_SOURCE_PORT in relay_suboptions(relay):
        return src_port
    return c.SERVER_PORT


def sanitise(text: bytes) -> str:
    """A guest's string for logs and lists: printable ASCII only, at most 255 characters."""
    return text[:_HOSTNAME_BYTES].translate(None, _UNPRINTABLE).decode("ascii") if text else ""
