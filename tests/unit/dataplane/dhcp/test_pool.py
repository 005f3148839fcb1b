"""What a port is told, option by option: Neutron's semantics (opts, precedence, suppression) and booting."""

from __future__ import annotations

import pytest

from dataplane.dhcp import boot
from dataplane.dhcp.policy import Policy
from dataplane.dhcp.pool import Pool, build_pool, hostname, overrides, read_port_options
from dataplane.model import ExtraDhcpOpt, HostRoute, Ip, Network, Port, Subnet
from tests.unit.dataplane.dhcp import guest

ROUTES = (
    b"\x18\xc0\0\2" + guest.ip("10.0.0.254")
    + b"\x20" + guest.ip("169.254.169.254") + bytes(4)
    + b"\0" + guest.ip("10.0.0.1")
)  # fmt: skip


def pool(
    port: Port | None = None,
    subnet: Subnet = guest.SUBNET,
    network: Network | None = None,
    client: int = 0,
    policy: Policy | None = None,
) -> Pool:
    port = port or guest.port()
    read = read_port_options(port)
    assert not read.problems
    own = overrides(read.options, client)
    network = network or guest.network(subnet)
    return build_pool(network, subnet, port, port.fixed_ips[0].ip_address, policy or Policy(), own, client)


def test_the_usual_port() -> None:
    found = pool()
    assert found.options == {
        1: guest.ip("255.255.255.0"),
        28: guest.ip("10.0.0.255"),
        26: b"\x05\xaa",
        121: ROUTES,
        3: guest.ip("10.0.0.1"),
        6: guest.ip("10.0.0.2") + guest.ip("10.0.0.3"),
        12: b"host-10-0-0-5",
        15: b"blue.example",
        249: ROUTES,
    }
    assert found[1:] == (bytes(4), b"", b"")


def test_a_port_to_port_prefix_has_no_broadcast_address() -> None:
    subnet = guest.subnet(cidr="10.0.0.4/31", gateway_ip=Ip("10.0.0.4"))
    assert 28 not in pool(subnet=subnet).options


@pytest.mark.parametrize("servers", [("0.0.0.0",), ("10.0.0.2", "0.0.0.0"), (), ("2001:db8::1",)])
def test_no_dns_server(servers: tuple[str, ...]) -> None:
    assert 6 not in pool(subnet=guest.subnet(dns_nameservers=tuple(map(Ip, servers)))).options


def test_ipv6_dns_servers_are_left_out() -> None:
    subnet = guest.subnet(dns_nameservers=(Ip("2001:db8::1"), Ip("10.0.0.2")))
    assert pool(subnet=subnet).options[6] == guest.ip("10.0.0.2")


def test_without_a_gateway_option_3_is_suppressed() -> None:
    found = pool(subnet=guest.subnet(gateway_ip=None)).options
    assert 3 not in found
    assert b"\0" + guest.ip("10.0.0.1") not in found[121]


def test_a_default_host_route_is_the_gateway() -> None:
    route = HostRoute(destination="0.0.0.0/0", nexthop=Ip("10.0.0.9"))
    found = pool(subnet=guest.subnet(gateway_ip=None, host_routes=(route,))).options
    assert found[3] == guest.ip("10.0.0.9")
    assert found[121].endswith(b"\0" + guest.ip("10.0.0.9"))


def test_no_mtu_and_no_routes() -> None:
    found = pool(
        network=guest.network(mtu=0), subnet=guest.subnet(host_routes=()), policy=Policy(metadata_route=False)
    ).options
    assert not {26, 121, 249} & set(found)


@pytest.mark.parametrize(
    ("own", "policy", "expected"), [("", "openstacklocal", b"openstacklocal"), ("", "", None), ("a.", "b", b"a")]
)
def test_domain(own: str, policy: str, expected: bytes | None) -> None:
    found = pool(network=guest.network(dns_domain=own), policy=Policy(domain=policy)).options
    assert found.get(15) == expected


@pytest.mark.parametrize(
    ("dns_name", "expected"),
    [("web", "web"), ("web.blue.example.", "web.blue.example"), ("", "host-10-0-0-5"), ("a..b", "host-10-0-0-5")],
)
def test_hostname(dns_name: str, expected: str) -> None:
    assert hostname(guest.port(dns_name=dns_name), guest.ADDRESS) == expected


def test_the_ports_options_win() -> None:
    found = pool(guest.port(("mtu", "1400"), ("6", "8.8.8.8"), ("hostname", "mine"), ("224", "raw"))).options
    assert found[26] == b"\x05\x78"
    assert found[6] == bytes([8, 8, 8, 8])
    assert found[12] == b"mine"
    assert found[224] == b"raw"


def test_another_router_is_also_the_default_route() -> None:
    found = pool(guest.port(("router", "10.0.0.9"))).options
    assert found[3] == guest.ip("10.0.0.9")
    assert found[121].endswith(b"\0" + guest.ip("10.0.0.9"))


def test_a_blank_router_takes_the_default_route_away() -> None:
    found = pool(guest.port(("router", ""))).options
    assert 3 not in found
    assert found[121] == found[249] == ROUTES[: -len(b"\0" + guest.ip("10.0.0.1"))]


def test_blank_routes_take_both_route_options_away() -> None:
    assert not {121, 249} & set(pool(guest.port(("classless-static-route", ""))).options)


def test_own_routes_are_mirrored() -> None:
    found = pool(guest.port(("121", "10.0.0.0/8,10.0.0.1"))).options
    assert found[121] == found[249] == b"\x08\x0a" + guest.ip("10.0.0.1")


def test_the_client_id_is_never_an_option() -> None:
    assert 61 not in pool(guest.port(("client-id", "ff:00:01"))).options


def test_ipv6_options_are_for_others() -> None:
    option = ExtraDhcpOpt(opt_name="59", opt_value="http://x", ip_version=6)
    assert pool(guest.port(extra_dhcp_opts=(option,))).options == pool().options


def test_a_wrong_option_is_left_out_and_reported() -> None:
    read = read_port_options(guest.port(("mtu", "1400"), ("bootfil", "x"), ("26", "no")))
    assert [option.code for option in read.options] == [26]
    assert [problem.split(" ")[0] for problem in read.problems] == ["extra_dhcp_opts[1]", "extra_dhcp_opts[2]"]


@pytest.mark.parametrize(("value", "disabled"), [("true", True), ("True", True), ("false", False), (None, False)])
def test_dhcp_disabled(value: str | None, disabled: bool) -> None:
    read = read_port_options(guest.port(("dhcp_disabled", value)))
    assert read.disabled is disabled
    assert not read.problems


class TestBoot:
    IRONIC = (
        ("tag:!ipxe,67", "undionly.kpxe"),
        ("tag:ipxe,67", "http://10.0.0.9:8080/boot.ipxe"),
        ("66", "10.0.0.9"),
        ("150", "10.0.0.9"),
        ("server-ip-address", "10.0.0.8"),
    )

    def test_a_rom(self) -> None:
        found = pool(guest.port(*self.IRONIC), client=boot.PXE)
        assert found.siaddr == guest.ip("10.0.0.8")
        assert (found.sname, found.file) == (b"10.0.0.9", b"undionly.kpxe")
        assert found.options[67] == b"undionly.kpxe\0"
        assert found.options[66] == b"10.0.0.9\0"
        assert found.options[60] == b"PXEClient"
        assert found.options[43][:3] == b"\x06\x01\x08"
        assert 255 not in found.options
        assert 175 not in found.options

    def test_ipxe_gets_its_script_and_does_not_wait(self) -> None:
        found = pool(guest.port(*self.IRONIC), client=boot.PXE | boot.IPXE)
        assert found.options[67] == b"http://10.0.0.9:8080/boot.ipxe\0"
        assert found.options[175] == b"\xb0\1\1"

    def test_http_boot(self) -> None:
        found = pool(guest.port(("67", "http://10.0.0.9/x.efi")), client=boot.HTTP)
        assert found.options[67] == b"http://10.0.0.9/x.efi"
        assert found.options[60] == b"HTTPClient"
        assert 43 not in found.options

    def test_a_rom_without_a_boot_file_is_told_nothing(self) -> None:
        assert not {43, 60} & set(pool(client=boot.PXE).options)

    def test_own_vendor_options_win(self) -> None:
        found = pool(guest.port(("67", "x"), ("60", "mine"), ("43", "01:02")), client=boot.PXE)
        assert (found.options[60], found.options[43]) == (b"mine", b"\1\2")

    @pytest.mark.parametrize(
        ("options", "siaddr"),
        [
            ((("66", "10.0.0.9"),), "10.0.0.9"),
            ((("66", "boot.example"), ("150", "10.0.0.7,10.0.0.8")), "10.0.0.7"),
            ((("66", "boot.example"),), "0.0.0.0"),
        ],
    )
    def test_siaddr(self, options: tuple[tuple[str, str], ...], siaddr: str) -> None:
        assert pool(guest.port(*options)).siaddr == guest.ip(siaddr)

    def test_names_too_long_for_the_fields_are_options_only(self) -> None:
        found = pool(guest.port(("66", "s" * 64), ("67", "f" * 128)))
        assert (found.sname, found.file) == (b"", b"")
        assert found.options[67] == b"f" * 128 + b"\0"

    def test_a_later_entry_beats_an_earlier_one_and_a_tagged_one_any(self) -> None:
        read = read_port_options(guest.port(("tag:ipxe,67", "script"), ("67", "a"), ("67", "b"), ("tag:x,67", "c")))
        assert overrides(read.options, 0)[67] == b"b"
        assert overrides(read.options, boot.IPXE)[67] == b"script"
