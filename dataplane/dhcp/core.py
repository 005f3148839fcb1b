"""The DHCPv4 server of one network, without I/O: frames in, frames and lease events out (RFC 2131).

A guest is known by where its packet came from: the network is this object, and the port is the one with the frame's
source MAC (behind a configured relay, the message's `chaddr`). The port's data alone decides the answer; no lease is
needed to give it, so a restart or a migration changes nothing.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final

from dataplane.dhcp import constants as c
from dataplane.dhcp.counters import DROP_REASONS, Counters
from dataplane.dhcp.handle_discover import bootp, discover
from dataplane.dhcp.handle_other import decline, inform, release
from dataplane.dhcp.handle_request import request
from dataplane.dhcp.hold import Hold
from dataplane.dhcp.packet import Output, Packet, Send
from dataplane.dhcp.policy import Policy, ServerIdentity
from dataplane.dhcp.respond import Responder
from dataplane.dhcp.served import ServedPort, TokenBucket
from dataplane.dhcp.template import PortTemplate
from dataplane.dhcp.wire import decode
from dataplane.errors import WireError
from dataplane.leases import LeaseEvent
from dataplane.model import Network, Port, PortId
from fastpath.framing import FrameError, parse_udp4

__all__ = ["DROP_REASONS", "Counters", "Dhcp4Core", "LeaseEvent", "Output", "Policy", "Send", "ServerIdentity"]

_Handler = Callable[[Responder, Packet, ServedPort, tuple[PortTemplate, ...], float], list[Output]]

_HANDLERS: Final[dict[int, _Handler]] = {
    c.BOOTP: bootp,
    c.DISCOVER: discover,
    c.REQUEST: request,
    c.DECLINE: decline,
    c.RELEASE: release,
    c.INFORM: inform,
}
_SERVER_TYPES: Final = frozenset({c.OFFER, c.ACK, c.NAK})
# What an unknown guest waits for an answer to. A BOOTP request waits only if it would be answered.
_HELD_TYPES: Final = frozenset({c.DISCOVER, c.REQUEST, c.INFORM})

STRANGERS: Final = 20
"""All unknown MACs and relays of a network together may send as much as so many ports (chosen: a boot storm of VMs
whose ports are not here yet passes, and the noise of one network costs the others little)."""


class Dhcp4Core:
    """DHCPv4 for one network. Times are Unix seconds; the object reads no clock."""

    def __init__(self, network: Network, identity: ServerIdentity, policy: Policy | None = None) -> None:
        self.counters = Counters()
        self._policy = policy or Policy()
        self._responder = Responder(network, identity, self._policy, self.counters)
        self._relays = _relays(network)
        self._strangers = _strangers(self._policy)
        self._by_mac: dict[bytes, ServedPort] = {}
        self._by_id: dict[PortId, ServedPort] = {}
        self._hold = Hold(self._policy.hold_seconds, self._policy.hold_limit, self.counters)

    @property
    def network(self) -> Network:
        """The network as it was last set."""
        return self._responder.network

    @property
    def held(self) -> int:
        """How many packets wait for their port."""
        return len(self._hold)

    def problems(self, port_id: PortId) -> tuple[str, ...]:
        """Entries of the port's `extra_dhcp_opts` that are left out, each with the reason; empty if unknown."""
        port = self._by_id.get(port_id)
        return port.problems if port else ()

    def set_policy(self, policy: Policy) -> None:
        """Serve by other switches from now on; what is held stays held."""
        self._policy = self._responder.policy = policy
        self._strangers = _strangers(policy)
        self._hold.configure(policy.hold_seconds, policy.hold_limit)
        for port in self._by_id.values():
            port.forget_templates()
            port.bucket = TokenBucket(policy.rate, policy.burst)

    def set_network(self, network: Network, now: float) -> list[Output]:
        """Take the network's new data; all templates are built again when next needed.

        Returns answers to held packets whose ports are now served.
        """
        self._responder.network = network
        self._relays = _relays(network)
        for port in self._by_id.values():
            port.forget_templates()
        outputs: list[Output] = []
        for mac in self._hold:
            if mac in self._by_mac:
                outputs += self._answer_held(self._by_mac[mac], now)
        return outputs

    def set_port(self, port: Port, now: float) -> list[Output]:
        """Serve a port of this node, or take its new data. Returns the answer to its held packet, if there is one."""
        old = self._by_id.get(port.id)
        if old is not None:
            self._forget_mac(old)
        bucket = old.bucket if old is not None else TokenBucket(self._policy.rate, self._policy.burst)
        served = ServedPort(port, bucket)
        self._by_id[port.id] = served
        self._by_mac[served.mac] = served
        return self._answer_held(served, now)

    def remove_port(self, port_id: PortId) -> None:
        """Forget a port; unknown ids are fine."""
        port = self._by_id.pop(port_id, None)
        if port is not None:
            self._forget_mac(port)

    def receive(self, frame: bytes, now: float, *, check_udp: bool = True) -> list[Output]:
        """Take a whole Ethernet frame in and return what to send and what happened.

        `check_udp=False`: the kernel says that the UDP checksum is not filled in yet (TP_STATUS_CSUMNOTREADY).
        Never raises for anything that a guest can send: a bad packet is counted under its reason in `DROP_REASONS`.
        """
        try:
            udp = parse_udp4(frame, check_udp)
        except FrameError as error:
            self.counters.drop(error.reason)
            return []
        if udp.dst_port != c.SERVER_PORT:
            self.counters.drop("not_server_port")
            return []
        src_mac, payload = udp.src_mac, udp.payload
        port = self._by_mac.get(src_mac)
        # Before the message is read: a flood must stay cheap. Our relays speak for many ports (see below).
        if payload[24:28] not in self._relays:
            bucket = self._strangers if port is None else port.bucket
            if not bucket.take(now):
                self.counters.drop("rate_limited")
                return []
        try:
            message = decode(payload)
        except WireError as error:
            self.counters.drop(error.reason)
            return []
        return self._receive(Packet(message, src_mac, udp.src_ip, udp.src_port), port, now)

    def tick(self, now: float) -> None:
        """Give up on packets that were held too long. Call it about once a second while `held` is not 0."""
        self._hold.expire(now)

    def _receive(self, packet: Packet, port: ServedPort | None, now: float) -> list[Output]:
        message, counters = packet.message, self.counters
        kind = message.message_type
        if message.payload[0] != c.BOOTREQUEST or kind in _SERVER_TYPES:
            counters.drop("rogue_server")
            return []
        if kind not in _HANDLERS:
            counters.drop("leasequery" if kind == c.LEASEQUERY else "unknown_type")
            return []
        name = c.MESSAGE_NAMES[kind]
        counters.received[name] = counters.received.get(name, 0) + 1
        chaddr = message.payload[28:34]
        if packet.relayed:
            if message.giaddr not in self._relays:
                counters.drop("unknown_relay")
                return []
            port = self._by_mac.get(chaddr)
            if port is not None and not port.bucket.take(now):
                counters.drop("rate_limited")
                return []
        elif chaddr != packet.src_mac:
            counters.drop("chaddr_spoofed")
            return []
        if port is None:
            return self._unanswered(packet, "unknown_mac", now)
        return self._serve(packet, port, now)

    def _serve(self, packet: Packet, port: ServedPort, now: float) -> list[Output]:
        """Answer a message of a known port."""
        message, responder = packet.message, self._responder
        templates = port.templates(responder.network, responder.identity, responder.policy)
        if not templates:
            return self._unanswered(packet, "not_served", now)
        if port.client_id is not None and message.options.get(c.CLIENT_ID, port.client_id) != port.client_id:
            return responder.drop("client_id_mismatch")
        return _HANDLERS[message.message_type](responder, packet, port, templates, now)

    def _unanswered(self, packet: Packet, reason: str, now: float) -> list[Output]:
        """No port, or none with an address: silence, but the guest's last question is held."""
        message = packet.message
        if message.message_type in _HELD_TYPES or (message.message_type == c.BOOTP and self._policy.bootp):
            self._hold.put(message.chaddr, packet, reason, now)
        else:
            self.counters.drop(reason)
        return []

    def _answer_held(self, port: ServedPort, now: float) -> list[Output]:
        packet = self._hold.take(port.mac, now)
        if packet is None:
            return []
        if packet.relayed and packet.message.giaddr not in self._relays:
            return self._responder.drop("unknown_relay")
        outputs = self._serve(packet, port, now)
        if any(isinstance(output, Send) for output in outputs):
            self.counters.note("answered_from_hold")
        return outputs

    def _forget_mac(self, port: ServedPort) -> None:
        """Another port may have taken the MAC already."""
        if self._by_mac.get(port.mac) is port:
            del self._by_mac[port.mac]


def _strangers(policy: Policy) -> TokenBucket:
    return TokenBucket(policy.rate * STRANGERS, policy.burst * STRANGERS)


def _relays(network: Network) -> frozenset[bytes]:
    return frozenset(ipaddress.IPv4Address(ip).packed for ip in network.dhcp_relays if ":" not in ip)
