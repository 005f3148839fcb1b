"""Guests and answers, with scapy as the second opinion: it builds every request and takes every reply apart."""

from __future__ import annotations

from typing import Any

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from dataplane.dhcp.core import Dhcp4Core, Output, Policy, Send, ServerIdentity
from dataplane.leases import LeaseEvent
from dataplane.model import (
    ExtraDhcpOpt,
    FixedIp,
    HostRoute,
    Ip,
    Mac,
    Network,
    NetworkId,
    Port,
    PortId,
    Subnet,
    SubnetId,
)

MAC = Mac("fa:16:3e:00:00:05")
OTHER_MAC = Mac("fa:16:3e:00:00:66")
SERVER_MAC = "02:00:00:00:00:01"
SERVER_ID = "169.254.169.254"
ADDRESS = Ip("10.0.0.5")
XID = 0x12345678
NOW = 1_000_000.0

IDENTITY = ServerIdentity(mac=bytes.fromhex(SERVER_MAC.replace(":", "")))
SUBNET = Subnet(
    id=SubnetId("s1"),
    cidr="10.0.0.0/24",
    gateway_ip=Ip("10.0.0.1"),
    dns_nameservers=(Ip("10.0.0.2"), Ip("10.0.0.3")),
    host_routes=(HostRoute(destination="192.0.2.0/24", nexthop=Ip("10.0.0.254")),),
)
NETWORK = Network(id=NetworkId("blue"), mtu=1450, dns_domain="blue.example.", subnets=(SUBNET,))

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
UDHCPC_LIST = bytes((1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42))


def subnet(**changes: Any) -> Subnet:
    """The subnet with changes."""
    return Subnet(**({field: getattr(SUBNET, field) for field in SUBNET.__struct_fields__} | changes))


def network(*subnets: Subnet, **changes: Any) -> Network:
    """The network with other subnets and changes."""
    fields = {field: getattr(NETWORK, field) for field in NETWORK.__struct_fields__}
    return Network(**(fields | {"subnets": subnets or NETWORK.subnets} | changes))


def port(*options: tuple[str, str | None], mac: str = MAC, address: str = ADDRESS, **changes: Any) -> Port:
    """A port with `extra_dhcp_opts` given as pairs of name and value."""
    fields: dict[str, Any] = {
        "id": PortId("port-" + mac[-2:]),
        "network_id": NETWORK.id,
        "mac_address": Mac(mac),
        "fixed_ips": (FixedIp(subnet_id=SUBNET.id, ip_address=Ip(address)),),
        "extra_dhcp_opts": tuple(ExtraDhcpOpt(opt_name=name, opt_value=value) for name, value in options),
    }
    return Port(**(fields | changes))


def core(*ports: Port, of: Network = NETWORK, **policy: Any) -> Dhcp4Core:
    """A server with ports; without any, with the usual one."""
    server = Dhcp4Core(of, IDENTITY, Policy(**policy))
    for each in ports or (port(),):
        assert server.set_port(each, NOW) == []
    return server


def u32(number: int) -> bytes:
    return number.to_bytes(4, "big")


def ip(text: str) -> bytes:
    return bytes(int(octet) for octet in text.split("."))


def frame(
    kind: int | None,
    *options: tuple[int, bytes],
    mac: str = MAC,
    chaddr: str | None = None,
    src_ip: str = "0.0.0.0",
    dst_ip: str = "255.255.255.255",
    dst_mac: str = "ff:ff:ff:ff:ff:ff",
    sport: int = 68,
    dport: int = 67,
    **fields: Any,
) -> bytes:
    """A guest's frame, built by scapy. `fields` go into the BOOTP header (flags, ciaddr, giaddr, op, ...)."""
    chosen = [(53, bytes((kind,)))] if kind is not None else []
    hardware = bytes.fromhex((chaddr or mac).replace(":", ""))
    values: dict[str, Any] = {"op": 1, "xid": XID, "chaddr": hardware}
    header = BOOTP(**(values | fields))
    layers = Ether(src=mac, dst=dst_mac) / IP(src=src_ip, dst=dst_ip) / UDP(sport=sport, dport=dport)
    return bytes(layers / header / DHCP(options=[*chosen, *options, "end"]))


class Answer:
    """A reply frame, taken apart by scapy; making one checks what every reply must be."""

    def __init__(self, raw: bytes) -> None:
        packet = Ether(raw)
        again = packet.copy()
        del again[IP].chksum, again[UDP].chksum, again[IP].len, again[UDP].len
        assert bytes(again) == raw, "a length or checksum is not what scapy computes"
        assert packet[UDP].chksum != 0
        self.ether, self.ip, self.udp = packet[Ether], packet[IP], packet[UDP]
        self.payload = bytes(packet[UDP].payload)
        self.bootp = BOOTP(self.payload)
        assert len(self.payload) >= 300
        assert self.bootp.op == 2
        assert self.bootp.htype == 1
        assert self.bootp.hlen == 6
        assert self.bootp.hops == 0
        assert self.bootp.secs == 0
        assert self.udp.sport == 67
        assert self.ether.src == SERVER_MAC
        assert self.ip.src == SERVER_ID
        self.items = read(self.payload[240:])
        """Code and value in the order of the options field."""
        self.codes = [code for code, _ in self.items]

    @property
    def options(self) -> dict[int, bytes]:
        """Joined options (RFC 3396) of the options field, file and sname."""
        found: dict[int, bytes] = {}
        overload = dict(self.items).get(52, b"\0")[0]
        items = list(self.items)
        if overload & 1:
            items += read(self.payload[108:236])
        if overload & 2:
            items += read(self.payload[44:108])
        for code, value in items:
            found[code] = found.get(code, b"") + value
        return found

    @property
    def kind(self) -> int:
        """Option 53."""
        return self.options[53][0]

    @property
    def names(self) -> dict[str, Any]:
        """The options as scapy reads them."""
        return {option[0]: option[1] for option in self.bootp[DHCP].options if isinstance(option, tuple)}


def read(field: bytes) -> list[tuple[int, bytes]]:
    """The options of a field up to END, which must be there; only zeros may follow."""
    items = []
    at = 0
    while field[at] != 255:
        if field[at] == 0:
            at += 1
            continue
        items.append((field[at], field[at + 2 : at + 2 + field[at + 1]]))
        at += 2 + field[at + 1]
    assert not any(field[at + 1 :]), "something follows END"
    return items


def answers(outputs: list[Output]) -> list[Answer]:
    """The frames among outputs."""
    return [Answer(output.frame) for output in outputs if isinstance(output, Send)]


def events(outputs: list[Output]) -> list[LeaseEvent]:
    """The events among outputs."""
    return [output for output in outputs if isinstance(output, LeaseEvent)]


def ask(server: Dhcp4Core, raw: bytes, now: float = NOW) -> Answer:
    """Give a frame to the server, which must answer once."""
    found = answers(server.receive(raw, now))
    assert len(found) == 1, server.counters.dropped
    return found[0]


def silent(server: Dhcp4Core, raw: bytes, reason: str, now: float = NOW) -> list[LeaseEvent]:
    """Give a frame to the server, which must not answer and count `reason` once; return the events."""
    before = server.counters.dropped.get(reason, 0)
    outputs = server.receive(raw, now)
    assert not answers(outputs)
    assert server.counters.dropped.get(reason, 0) == before + 1, server.counters.dropped
    return events(outputs)
