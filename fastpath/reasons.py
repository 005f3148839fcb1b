"""Why a stage drops a packet: the numbers that a batch's `verdict` column holds, with their stable names."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Reason(IntEnum):
    """A verdict; 0 lets the packet go on. Numbers are stable: new ones are added at the end."""

    PASS = 0
    TRUNCATED = 1
    NOT_IP = 2
    IP_VERSION = 3
    IP_HEADER_LENGTH = 4
    IP_TOTAL_LENGTH = 5
    IP_OPTIONS = 6
    IP_FRAGMENT = 7
    IP_CHECKSUM = 8
    NOT_UDP = 9
    UDP_LENGTH = 10
    UDP_CHECKSUM = 11
    UDP_ZERO_CHECKSUM = 12
    UDP_PORT = 13
    VXLAN_FLAGS = 14
    VXLAN_RESERVED = 15
    VXLAN_GPE = 16
    VXLAN_GBP = 17
    VNI_UNKNOWN = 18
    VTEP_NOT_ALLOWED = 19
    ECN = 20
    INNER_SHORT = 21
    INNER_SOURCE_MAC = 22
    TUNNEL_UNKNOWN = 23
    TOO_LONG = 24
    NO_HEADROOM = 25
    HOP_LIMIT = 26
    DESTINATION = 27
    TCP_HEADER_LENGTH = 28
    LAYER4_CHECKSUM = 29
    METERED = 30
    CONNECTIONS_FULL = 31
    ZONE_FULL = 32
    DENIED = 33
    CT_INVALID = 34


MEANING: Final[dict[Reason, str]] = {
    Reason.PASS: "goes on",
    Reason.TRUNCATED: "the frame ends inside a header",
    Reason.NOT_IP: "the EtherType is neither IPv4 nor IPv6",
    Reason.IP_VERSION: "the version field contradicts the EtherType",
    Reason.IP_HEADER_LENGTH: "the IPv4 header length is below 20 bytes or runs past the frame",
    Reason.IP_TOTAL_LENGTH: "the IP length is shorter than its headers or runs past the frame",
    Reason.IP_OPTIONS: "the outer IPv4 header has options, or the outer IPv6 header is followed by extension headers",
    Reason.IP_FRAGMENT: "the outer datagram is a fragment (RFC 7348 section 4.3)",
    Reason.IP_CHECKSUM: "the outer IPv4 header checksum is wrong",
    Reason.NOT_UDP: "the outer protocol is not UDP",
    Reason.UDP_LENGTH: "the UDP length contradicts the IP length or has no room for VXLAN",
    Reason.UDP_CHECKSUM: "the outer UDP checksum is wrong",
    Reason.UDP_ZERO_CHECKSUM: "the outer UDP checksum is zero over IPv6 where that is not allowed (RFC 6936)",
    Reason.UDP_PORT: "the UDP destination port is not the VTEP's",
    Reason.VXLAN_FLAGS: "the VXLAN I flag is not set",
    Reason.VXLAN_RESERVED: "reserved bits of the VXLAN header are set and the policy is strict",
    Reason.VXLAN_GPE: "the frame is VXLAN-GPE with a payload that is not Ethernet, or an OAM packet",
    Reason.VXLAN_GBP: "the frame carries a group policy and the VTEP does not take it",
    Reason.VNI_UNKNOWN: "no network has this VNI",
    Reason.VTEP_NOT_ALLOWED: "the source VTEP may not send for this VNI",
    Reason.ECN: "congestion was marked on a packet that cannot carry the mark (RFC 6040 section 4.2)",
    Reason.INNER_SHORT: "the inner frame is shorter than an Ethernet header",
    Reason.INNER_SOURCE_MAC: "the inner source MAC is zero or multicast",
    Reason.TUNNEL_UNKNOWN: "the tunnel number is not in the table",
    Reason.TOO_LONG: "the packet would not fit the outer length fields or the tunnel's MTU",
    Reason.NO_HEADROOM: "there is no room before the packet for the outer headers",
    Reason.HOP_LIMIT: "the inner TTL or hop limit, which the outer header inherits, is zero",
    Reason.DESTINATION: "the outer destination is not an address of this VTEP",
    Reason.TCP_HEADER_LENGTH: "the TCP header length is below 20 bytes or runs past the datagram",
    Reason.LAYER4_CHECKSUM: "the TCP, UDP, ICMP or ICMPv6 checksum is wrong",
    Reason.METERED: "more than its meter's rate and burst (fastpath.meter)",
    Reason.CONNECTIONS_FULL: "the connection is new and the table has no room for it",
    Reason.ZONE_FULL: "the connection is new and its zone has as many as it may have",
    Reason.DENIED: "no rule lets it pass (fastpath.verdicts)",
    Reason.CT_INVALID: "connection tracking takes it for invalid",
}
