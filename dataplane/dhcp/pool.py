"""Everything a port could be told: its options by code, from network, subnet and the port's own `extra_dhcp_opts`."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from dataplane.dhcp import boot
from dataplane.dhcp import constants as c
from dataplane.dhcp.options import PortOption, encode_name, from_extra
from dataplane.dhcp.policy import Policy
from dataplane.dhcp.routes import announced_routes, encode_routes, gateway_of
from dataplane.model import Ip, Network, Port, Subnet

SIADDR: Final = 255
"""The code under which an operator sets the field siaddr."""

# Neutron: addresses that stand for "announce no DNS server".
_NO_DNS: Final = "0.0.0.0"
_NUL: Final = b"\0"


class Pool(NamedTuple):
    """What one class of client may get at one address of a port."""

    options: dict[int, bytes]
    """Values by code, in the order in which they are sent to a client without a parameter request list."""
    siaddr: bytes
    sname: bytes
    """Contents of the field; empty: not used for booting."""
    file: bytes


class PortOptions(NamedTuple):
    """A port's `extra_dhcp_opts` for IPv4, read."""

    options: tuple[PortOption, ...]
    problems: tuple[str, ...]
    """One sentence for each entry that is left out because it cannot be read."""
    disabled: bool
    """The port wants no DHCP at all (ML2/OVN's `dhcp_disabled`)."""


def read_port_options(port: Port) -> PortOptions:
    """Read the entries for IPv4; a wrong one is left out and reported, and never stops the others."""
    options: list[PortOption] = []
    problems: list[str] = []
    disabled = False
    for index, extra in enumerate(port.extra_dhcp_opts):
        if extra.ip_version != 4:
            continue
        if extra.opt_name == "dhcp_disabled":
            disabled = (extra.opt_value or "").strip().lower() in ("1", "true", "yes")
            continue
        try:
            options.append(from_extra(extra))
        except ValueError as error:
            problems.append(f"extra_dhcp_opts[{index}] ({extra.opt_name!r}): {error}")
    return PortOptions(tuple(options), tuple(problems), disabled)


def overrides(options: Sequence[PortOption], client: int) -> dict[int, bytes | None]:
    """The port's own values for a client class: a later entry beats an earlier one, a tagged one any without tag."""
    ipxe = bool(client & boot.IPXE)
    fitting = [option for option in options if option.applies and option.ipxe in (None, ipxe)]
    fitting.sort(key=lambda option: option.ipxe is not None)  # stable
    return {option.code: option.value for option in fitting}


def build_pool(
    network: Network,
    subnet: Subnet,
    port: Port,
    address: Ip,
    policy: Policy,
    own: Mapping[int, bytes | None],
    client: int,
) -> Pool:
    """Merge what network, subnet and port say; the port's `own` values win. Blank values take an option away."""
    prefix = ipaddress.IPv4Network(subnet.cidr)
    options: dict[int, bytes] = {c.SUBNET_MASK: prefix.netmask.packed}
    if prefix.prefixlen < 31:  # a point-to-point or host prefix has no broadcast address (RFC 3021)
        options[c.BROADCAST_ADDRESS] = prefix.broadcast_address.packed
    if network.mtu:
        options[c.INTERFACE_MTU] = network.mtu.to_bytes(2, "big")
    gateway = _gateway(subnet, own)
    routes = announced_routes(network, subnet, metadata=policy.metadata_route, gateway=gateway)
    if routes:
        options[c.CLASSLESS_ROUTES] = encode_routes(routes)
    if gateway is not None:
        options[c.ROUTER] = ipaddress.IPv4Address(gateway).packed
    servers = [ip for ip in subnet.dns_nameservers if ":" not in ip]
    if servers and _NO_DNS not in servers:
        options[c.DNS_SERVER] = b"".join([ipaddress.IPv4Address(ip).packed for ip in servers])
    options[c.HOST_NAME] = hostname(port, address).encode()
    domain = (network.dns_domain or policy.domain).rstrip(".")
    if domain:
        options[c.DOMAIN_NAME] = domain.encode()
    if client & boot.IPXE:
        options[c.ETHERBOOT] = boot.IPXE_NO_PROXY
    for code, value in own.items():
        if value is None:
            options.pop(code, None)
        else:
            options[code] = value
    if c.CLASSLESS_ROUTES_MICROSOFT not in own and c.CLASSLESS_ROUTES in options:
        options[c.CLASSLESS_ROUTES_MICROSOFT] = options[c.CLASSLESS_ROUTES]
    options.pop(c.CLIENT_ID, None)  # names the client; never sent but as an echo
    return _with_boot(options, client)


def _gateway(subnet: Subnet, own: Mapping[int, bytes | None]) -> Ip | None:
    """The router that the guest will have: the default route of option 121 must lead there too."""
    if c.ROUTER not in own:
        return gateway_of(subnet)
    value = own[c.ROUTER]
    return None if value is None else Ip(str(ipaddress.IPv4Address(value[:4])))


def hostname(port: Port, address: Ip) -> str:
    """The port's `dns_name`, else Neutron's `host-10-0-0-5`. A name that is no domain name is not sent."""
    try:
        encode_name(port.dns_name)
    except ValueError:
        return "host-" + address.replace(".", "-")
    return port.dns_name.rstrip(".")


def _with_boot(options: dict[int, bytes], client: int) -> Pool:
    """Fill the boot fields from options 66, 67, 150 and 255, and add what PXE and HTTP clients wait for."""
    siaddr = options.pop(SIADDR, None)
    server, file = options.get(c.TFTP_SERVER, b""), options.get(c.BOOT_FILE, b"")
    if siaddr is None:
        siaddr = _literal(server) or options.get(c.TFTP_ADDRESSES, c.ANY)[:4]
    if client & boot.HTTP:
        if file:
            options.setdefault(c.VENDOR_CLASS, boot.HTTP_VENDOR_CLASS)
    else:
        # PXE ROMs read on until NUL; dnsmasq has always sent it.
        options.update({code: options[code] + _NUL for code in (c.TFTP_SERVER, c.BOOT_FILE) if code in options})
        if file and client & boot.PXE:
            options.setdefault(c.VENDOR_CLASS, boot.PXE_VENDOR_CLASS)
            options.setdefault(c.VENDOR_ENCAPSULATED, boot.PXE_SKIP_DISCOVERY)
    return Pool(options, siaddr, server if len(server) < 64 else b"", file if len(file) < 128 else b"")


def _literal(server: bytes) -> bytes | None:
    """The address that an option 66 holds as text, if it does."""
    try:
        return ipaddress.IPv4Address(server.decode()).packed
    except ValueError:
        return None
