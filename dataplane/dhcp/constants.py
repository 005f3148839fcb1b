"""Numbers of DHCPv4: first what the standards say, then what we chose and why."""

from __future__ import annotations

from typing import Final

# --- What the standards say -------------------------------------------------------------------------------------

SERVER_PORT: Final = 67
CLIENT_PORT: Final = 68

# RFC 2131 section 2: the fixed part of a message, in bytes.
HEADER_BYTES: Final = 236
COOKIE: Final = b"\x63\x82\x53\x63"
OPTIONS_START: Final = HEADER_BYTES + len(COOKIE)
SNAME: Final = slice(44, 108)
FILE: Final = slice(108, 236)

BOOTREQUEST: Final = 1
BOOTREPLY: Final = 2
ETHERNET: Final = 1
"""`htype` of Ethernet (RFC 1700)."""
MAC_BYTES: Final = 6
FLAG_BROADCAST: Final = 0x8000

# RFC 2132 section 9.6, RFC 4388.
DISCOVER: Final = 1
OFFER: Final = 2
REQUEST: Final = 3
DECLINE: Final = 4
ACK: Final = 5
NAK: Final = 6
RELEASE: Final = 7
INFORM: Final = 8
LEASEQUERY: Final = 10
BOOTP: Final = 0
"""Ours: a message without option 53."""

MESSAGE_NAMES: Final[dict[int, str]] = {
    BOOTP: "bootp",
    DISCOVER: "discover",
    OFFER: "offer",
    REQUEST: "request",
    DECLINE: "decline",
    ACK: "ack",
    NAK: "nak",
    RELEASE: "release",
    INFORM: "inform",
    LEASEQUERY: "leasequery",
}

PAD: Final = 0
SUBNET_MASK: Final = 1
ROUTER: Final = 3
DNS_SERVER: Final = 6
HOST_NAME: Final = 12
DOMAIN_NAME: Final = 15
INTERFACE_MTU: Final = 26
BROADCAST_ADDRESS: Final = 28
VENDOR_ENCAPSULATED: Final = 43
REQUESTED_ADDRESS: Final = 50
LEASE_TIME: Final = 51
OVERLOAD: Final = 52
MESSAGE_TYPE: Final = 53
SERVER_ID: Final = 54
PARAMETER_REQUEST_LIST: Final = 55
MESSAGE: Final = 56
MAX_MESSAGE_SIZE: Final = 57
RENEWAL_TIME: Final = 58
REBINDING_TIME: Final = 59
VENDOR_CLASS: Final = 60
CLIENT_ID: Final = 61
TFTP_SERVER: Final = 66
BOOT_FILE: Final = 67
USER_CLASS: Final = 77
RAPID_COMMIT: Final = 80
RELAY_AGENT: Final = 82
CLIENT_MACHINE_ID: Final = 97
CLASSLESS_ROUTES: Final = 121
TFTP_ADDRESSES: Final = 150
ETHERBOOT: Final = 175
"""iPXE's encapsulated options."""
CLASSLESS_ROUTES_MICROSOFT: Final = 249
END: Final = 255

OVERLOAD_FILE: Final = 1
OVERLOAD_SNAME: Final = 2

# RFC 3046 section 2, RFC 3527, RFC 8357: sub-options of the relay agent option.
RELAY_LINK_SELECTION: Final = 5
RELAY_SOURCE_PORT: Final = 19

# RFC 2132 section 9.10: the smallest value of option 57, and what holds without it (RFC 2131 section 2).
MIN_MAX_MESSAGE_SIZE: Final = 576
IPV4_UDP_BYTES: Final = 28
INFINITE_LEASE: Final = 0xFFFFFFFF
ANY: Final = b"\x00\x00\x00\x00"
BROADCAST: Final = b"\xff\xff\xff\xff"
BROADCAST_MAC: Final = b"\xff" * MAC_BYTES

# --- What we chose ----------------------------------------------------------------------------------------------

# A message is padded to BOOTP's 300 bytes (RFC 1542 section 2.1): the Linux in-kernel client ignores shorter ones.
MIN_PAYLOAD_BYTES: Final = 300
# A guest's packet has some twenty options; the limit bounds the work for one packet.
MAX_OPTIONS: Final = 128
# RFC 2132 section 9.14 gives one option of at most 255 bytes; a longer one made by RFC 3396 is an attack on buffers.
MAX_CLIENT_ID_BYTES: Final = 255
# dnsmasq's floor for a lease time that the client asked for.
MIN_LEASE_SECONDS: Final = 120
# Neutron's default.
LEASE_SECONDS: Final = 86400
