"""The security-group model read directly: the slow and obvious oracle of the policy compiler.

Every packet is judged by looking at all objects, with `ipaddress` and sentences of the Neutron API; nothing is shared
with `dataplane.policy`, not even the names of protocols.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

from dataplane.desired import Desired
from dataplane.model import FirewallRule, Port, SecurityGroup, SecurityGroupRule

PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "ipv6-icmp": 58, "sctp": 132, "gre": 47}


class Packet(NamedTuple):
    """A packet; of ICMP `sport` and `dport` are type and code."""

    source: IPv4Address | IPv6Address
    destination: IPv4Address | IPv6Address
    protocol: int
    sport: int = 0
    dport: int = 0
    mac: str = ""
    later_fragment: bool = False
    """Then nothing is known of ports, type and code."""


def verdict(state: Desired, port: Port, direction: str, packet: Packet) -> str:
    """`drop`, `reject`, `allow` or `track`."""
    filtered = port.port_security_enabled and not port.device_owner.startswith("network:")
    version = packet.source.version
    udp = None if packet.later_fragment or packet.protocol != 17 else (packet.sport, packet.dport)
    kind = None if packet.later_fragment or packet.protocol != 58 or version == 4 else packet.sport
    to_server, to_client = ((68, 67), (67, 68)) if version == 4 else ((546, 547), (547, 546))
    if filtered and direction == "egress":
        if not may_send(port, packet, udp == to_server, kind):
            return "drop"
        if udp == to_server:
            return "allow"
        if udp == to_client or kind == 134:
            return "drop"
        if kind in (130, 133, 135, 136) or (int(packet.source) == 0 and kind in (131, 135, 143)):
            return "allow"
    if filtered and direction == "ingress" and (udp == to_client or kind in (130, 134, 135, 136)):
        return "allow"
    policy_id = port.ingress_firewall_policy_id if direction == "ingress" else port.egress_firewall_policy_id
    if policy_id is not None:
        policy = state.firewall_policies.get(policy_id)
        action = first_action(policy.firewall_rules if policy else (), packet)
        if action != "allow":
            return "reject" if action == "reject" else "drop"
    if not filtered:
        return "allow"
    found = {
        group.stateful
        for group in groups(state, port)
        for rule in rules(group)
        if allows(state, port, rule, direction, packet)
    }
    return "track" if True in found else "allow" if False in found else "drop"


def may_send(port: Port, packet: Packet, dhcp: bool, kind: int | None) -> bool:
    """Port security: MAC and address belong together and to the port, or nobody has an address yet."""
    own = packet.mac == port.mac_address
    if not own and not any(pair.mac_address == packet.mac for pair in port.allowed_address_pairs):
        return False
    if int(packet.source) == 0:
        if packet.source.version == 4 and own and dhcp:
            return True
        if kind in (131, 135, 143) and packet.destination in ip_network("ff02::/16"):
            return True
    return owns(port, packet.mac, packet.source)


def owns(port: Port, mac: str, address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is the port's at this MAC."""
    if mac == port.mac_address:
        if any(ip_address(fixed.ip_address) == address for fixed in port.fixed_ips):
            return True
        digits = port.mac_address.replace(":", "")
        interface = (int(digits[:6], 16) << 40 | 0xFFFE << 24 | int(digits[6:], 16)) ^ 2 << 56
        if address.version == 6 and int(address) == 0xFE80 << 112 | interface:
            return True
    return any(
        (pair.mac_address or port.mac_address) == mac and covers(pair.ip_address, address)
        for pair in port.allowed_address_pairs
    )


def may_claim(port: Port, mac: str, address: IPv4Address | IPv6Address, said: str | None) -> bool:
    """Whether ARP or neighbour discovery from a MAC may say that an address is there, or at the MAC `said`."""
    if not port.port_security_enabled or port.device_owner.startswith("network:"):
        return True
    return said in (None, mac) and owns(port, mac, address)


def begins(packet: Packet) -> bool:
    """Whether a packet may begin a connection, or is of none ever."""
    if packet.protocol == 1 and packet.source.version == 4:
        return packet.sport in (8, 13, 15, 17, 42)
    if packet.protocol == 58 and packet.source.version == 6:
        return packet.sport in (128, 160, *range(130, 137), 143)
    return True


def covers(text: str, address: IPv4Address | IPv6Address) -> bool:
    net = ip_network(text)
    return net.version == address.version and address in net


def project(state: Desired, port: Port) -> str:
    if port.project_id:
        return port.project_id
    return next((vm.project_id for vm in state.instances.values() if vm.id == port.device_id), "")


def group_ids(state: Desired, port: Port) -> set[str]:
    """The groups that a port is in; the project's default group if it names none."""
    if port.security_groups is not None:
        return set(port.security_groups)
    mine = project(state, port)
    for group in state.security_groups.values():
        if group.name == "default" and group.project_id == mine:
            return {group.id}
    return {f"default of {mine}"}


def groups(state: Desired, port: Port) -> list[SecurityGroup]:
    found = []
    for key in group_ids(state, port):
        if key in state.security_groups:
            found.append(state.security_groups[key])  # type: ignore[index]
        elif key.startswith("default of "):
            found.append(SecurityGroup(id=key, name="default"))  # type: ignore[arg-type]
    return found


def rules(group: SecurityGroup) -> Iterable[SecurityGroupRule]:
    if group.security_group_rules is not None:
        return group.security_group_rules
    made = [SecurityGroupRule(id="x", direction="egress", ethertype=e) for e in ("IPv4", "IPv6")]
    if group.name == "default":
        made += [
            SecurityGroupRule(id="x", direction="ingress", ethertype=e, remote_group_id=group.id)
            for e in ("IPv4", "IPv6")
        ]
    return made


def allows(state: Desired, port: Port, rule: SecurityGroupRule, direction: str, packet: Packet) -> bool:
    remote = packet.source if direction == "ingress" else packet.destination
    if rule.direction != direction or rule.ethertype != f"IPv{packet.source.version}":
        return False
    if not protocol_fits(rule.protocol, packet.protocol):
        return False
    if rule.port_range_min is not None:
        if packet.later_fragment:
            return False
        if packet.protocol in (1, 58):
            if packet.sport != rule.port_range_min or rule.port_range_max not in (None, packet.dport):
                return False
        elif not rule.port_range_min <= packet.dport <= (rule.port_range_max or 0):
            return False
    if rule.remote_ip_prefix is not None:
        return covers(rule.remote_ip_prefix, remote)
    if rule.remote_address_group_id is not None:
        addresses = state.address_groups.get(rule.remote_address_group_id)
        return addresses is not None and any(covers(text, remote) for text in addresses.addresses)
    if rule.remote_group_id is not None:
        on_link = any(covers(subnet.cidr, remote) for subnet in state.networks[port.network_id].subnets)
        on_link = on_link or covers("169.254.0.0/16", remote) or covers("fe80::/10", remote)
        return any(
            any(covers(text, remote) for text in addresses_of(member))
            for member in state.ports.values()
            if rule.remote_group_id in group_ids(state, member)
            and (member.network_id == port.network_id or not on_link)
        )
    return True


def addresses_of(port: Port) -> list[str]:
    return [fixed.ip_address for fixed in port.fixed_ips] + [pair.ip_address for pair in port.allowed_address_pairs]


def protocol_fits(wanted: str | None, number: int) -> bool:
    return wanted is None or (PROTOCOLS[wanted] if wanted in PROTOCOLS else int(wanted)) == number


def first_action(ordered: Iterable[FirewallRule], packet: Packet) -> str:
    for rule in ordered:
        if not rule.enabled or rule.ip_version != packet.source.version:
            continue
        if not protocol_fits(rule.protocol, packet.protocol):
            continue
        if rule.source_ip_address and not covers(rule.source_ip_address, packet.source):
            continue
        if rule.destination_ip_address and not covers(rule.destination_ip_address, packet.destination):
            continue
        wanted = [(rule.source_port, packet.sport), (rule.destination_port, packet.dport)]
        if any(text for text, _ in wanted) and packet.later_fragment:
            continue
        if all(not text or low(text) <= port <= high(text) for text, port in wanted):
            return rule.action
    return "deny"


def low(text: str) -> int:
    return int(text.split(":")[0])


def high(text: str) -> int:
    return int(text.split(":")[-1])
