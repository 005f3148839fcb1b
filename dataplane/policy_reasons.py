"""Why a packet is let through or dropped: stable names, and what they mean as a sentence."""

from __future__ import annotations

from typing import Final, Literal

Reason = Literal[
    "not_here",
    "not_filtered",
    "mac_spoofed",
    "ip_spoofed",
    "neighbour_spoofed",
    "malformed",
    "not_ip",
    "arp",
    "dhcp_client",
    "dhcp_answer",
    "dhcp_server",
    "neighbour_discovery",
    "router_advertisement",
    "firewall_rule",
    "firewall_default",
    "group_rule",
    "default_deny",
    "no_connection",
]

MEANINGS: Final[dict[Reason, str]] = {
    "not_here": "the port is not on this node",
    "not_filtered": "the port is not filtered: port_security_enabled is false, or its owner is the network",
    "mac_spoofed": "the source MAC is neither the port's nor one of its allowed address pairs'",
    "ip_spoofed": "the source address is neither the port's nor one of its allowed address pairs'",
    "neighbour_spoofed": "ARP or neighbour discovery says that an address or a MAC is the port's which is not",
    "malformed": "the packet is cut, or its headers contradict each other",
    "not_ip": "the frame is neither IP nor ARP",
    "arp": "every guest may use ARP",
    "dhcp_client": "every guest may ask a DHCP server",
    "dhcp_answer": "every guest may get a DHCP server's answer",
    "dhcp_server": "no guest may be a DHCP server",
    "neighbour_discovery": "every guest may do neighbour discovery",
    "router_advertisement": "no guest may send router advertisements",
    "firewall_rule": "a rule of the port's firewall policy says so",
    "firewall_default": "no rule of the port's firewall policy allows it",
    "group_rule": "a rule of a security group allows it",
    "default_deny": "no rule of the port's security groups allows it",
    "no_connection": "a rule of a stateful group would allow it, but it begins no connection and belongs to none",
}
