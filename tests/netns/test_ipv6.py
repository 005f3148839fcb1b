"""The service's two IPv6 addresses: in every network, of two tenants who share even these, and what repairs them."""

from __future__ import annotations

import select
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from dataplane import names
from dataplane.kernel import Kernel, Place
from dataplane.model import METADATA_IPV6, METADATA_IPV6_LINK, Adopt, NetworkId
from dataplane.packets import NetworkSockets
from dataplane.plan import SERVICE_ADDRESSES, DesiredNetwork
from metadata.identity import peer_address, syn_source
from scripts import lab
from tests.netns.conftest import BLUE, GREEN, MAC, TENANTS, addresses, device, inside, open_sockets, settle

pytestmark = pytest.mark.asyncio

TCP_SAVED_SYN = 28
BOTH = [METADATA_IPV6_LINK, METADATA_IPV6]


@pytest_asyncio.fixture
async def sockets(kernel: Kernel, tenants: dict[NetworkId, lab.Vm]) -> AsyncIterator[dict[NetworkId, NetworkSockets]]:
    """Sockets of both networks, with both VMs plugged in and given IPv6."""
    for vm in tenants.values():
        vm.run("ip", "address", "add", "2001:db8::5/64", "dev", "eth0", "nodad")
        vm.run("ip", "-6", "route", "add", METADATA_IPV6, "dev", "eth0")
        lab.wait_until(lambda vm=vm: link_local(vm), "a link-local address")  # type: ignore[misc]
    opened = await open_sockets(kernel, *TENANTS)
    yield opened
    for each in opened.values():
        each.close()


def link_local(vm: lab.Vm) -> str:
    """The VM's link-local address once it may be used; empty before."""
    found = [each for each in device("eth0", vm.name)["addr_info"] if each["local"].startswith("fe80:")]
    return found[0]["local"] if found and not found[0].get("tentative") else ""


def connect(tenant: NetworkId, address: str, source: str = "") -> socket.socket:
    """A connection from the tenant's VM."""

    def opener() -> socket.socket:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        sock.settimeout(5)
        scope = socket.if_nametoindex("eth0")
        if source:
            sock.bind((source, 0, 0, scope if source.startswith("fe80:") else 0))
        sock.connect((address, 80, 0, scope if address.startswith("fe80:") else 0))
        return sock

    return inside(f"vm-{tenant}", opener)


def accept(sockets: NetworkSockets, address: str) -> tuple[str | None, str]:
    """MAC and address of the next caller of one of the service's addresses."""
    (listening,) = [each for each in sockets.metadata if each.getsockname()[0].partition("%")[0] == address]
    assert select.select([listening], [], [], 5)[0]
    accepted, peer = listening.accept()
    with accepted:
        saved = accepted.getsockopt(socket.IPPROTO_TCP, TCP_SAVED_SYN, 256)
        return syn_source(saved), peer_address(peer[0])


@pytest.mark.parametrize("address", BOTH)
async def test_each_tenant_reaches_its_own_service_and_the_syn_has_its_mac(
    sockets: dict[NetworkId, NetworkSockets], tenants: dict[NetworkId, lab.Vm], address: str
) -> None:
    tenants[GREEN].run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
    for each, mac in ((BLUE, MAC), (GREEN, "02:00:00:00:00:99")):
        with connect(each, address):
            found, peer = accept(sockets[each], address)
            assert found == mac
            assert peer.startswith("fe80:") if address == METADATA_IPV6_LINK else peer == "2001:db8::5"
        for other in sockets.values():
            for listening in other.metadata:
                with pytest.raises(BlockingIOError):
                    listening.accept()


@pytest.mark.parametrize("address", BOTH)
async def test_privacy_and_link_local_addresses_come_with_the_mac(
    sockets: dict[NetworkId, NetworkSockets], tenants: dict[NetworkId, lab.Vm], address: str
) -> None:
    tenants[BLUE].run("ip", "address", "add", "2001:db8::1d2c:3b4a:5968:7786/64", "dev", "eth0", "nodad")
    tenants[BLUE].run("ip", "address", "add", "fe80::1:2:3:4/64", "dev", "eth0", "nodad")
    for source in ("2001:db8::1d2c:3b4a:5968:7786", "fe80::1:2:3:4"):
        with connect(BLUE, address, source):
            assert accept(sockets[BLUE], address) == (MAC, source)


async def test_a_namespace_of_an_earlier_version_gets_ipv6_in_place(kernel: Kernel) -> None:
    await settle(kernel, TENANTS)
    netns = names.namespace(BLUE)
    for setting in ("accept_ra=1", "autoconf=1", "addr_gen_mode=0", "disable_ipv6=1"):
        lab.run("sysctl", "-qw", f"net.ipv6.conf.svc0.{setting}", netns=netns)
    assert [each for each in addresses("svc0", netns) if ":" in each] == []
    before = device("svc0", netns)["ifindex"]
    done = await settle(kernel, TENANTS)
    assert list(done.actions) == [BLUE]
    assert sorted(addresses("svc0", netns)) == sorted(SERVICE_ADDRESSES)
    assert device("svc0", netns)["ifindex"] == before


async def test_an_address_that_a_guest_could_not_have_given_goes_again(kernel: Kernel) -> None:
    await settle(kernel, TENANTS)
    netns = names.namespace(GREEN)
    lab.run("ip", "address", "add", "2001:db8::66/64", "dev", "svc0", netns=netns)
    lab.run("ip", "-6", "route", "del", "default", netns=netns)
    assert list((await settle(kernel, TENANTS)).actions) == [GREEN]
    assert sorted(addresses("svc0", netns)) == sorted(SERVICE_ADDRESSES)


async def test_below_the_least_mtu_of_ipv6_there_is_ipv4_only_and_it_comes_with_the_mtu(kernel: Kernel) -> None:
    netns = names.namespace(BLUE)
    for mtu in (1200, 1400, 1279, 1280):
        await settle(kernel, {BLUE: DesiredNetwork(BLUE, mtu=mtu)})
        wanted = SERVICE_ADDRESSES if mtu >= 1280 else SERVICE_ADDRESSES[:1]
        assert sorted(addresses("svc0", netns)) == sorted(wanted), mtu


async def test_an_adopted_namespace_is_listened_in_and_not_changed(kernel: Kernel) -> None:
    adopting = {BLUE: DesiredNetwork(BLUE, adopt=Adopt(netns="qdhcp-blue", device="tap9"))}
    lab.run("ip", "netns", "add", "qdhcp-blue")
    try:
        lab.run("ip", "-n", "qdhcp-blue", "link", "add", "tap9", "type", "bridge")
        lab.run("ip", "-n", "qdhcp-blue", "link", "set", "tap9", "up")
        before = addresses("tap9", "qdhcp-blue")
        await settle(kernel, adopting)
        sockets = (await kernel.open_sockets({BLUE: Place("qdhcp-blue", "tap9")}))[BLUE]
        assert isinstance(sockets, NetworkSockets)
        assert [each.getsockname()[0].partition("%")[0] for each in sockets.metadata][1:] == BOTH
        assert addresses("tap9", "qdhcp-blue") == before
        # The address is its owner's to give: with it, the listener that was there before is reached.
        lab.run("ip", "-n", "qdhcp-blue", "address", "add", f"{METADATA_IPV6}/128", "dev", "tap9", "nodad")
        sockets.close()
    finally:
        lab.run("ip", "netns", "del", "qdhcp-blue")
