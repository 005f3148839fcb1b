"""A real kernel for each test, two tenants who share range, address and MAC, and proof that nothing is left behind."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
import pytest_asyncio

from dataplane import names
from dataplane.kernel import Kernel, Place
from dataplane.model import NetworkId
from dataplane.netns import Namespaces
from dataplane.packets import NetworkSockets
from dataplane.plan import DesiredNetwork, Plan, plan
from scripts import lab

T = TypeVar("T")

BLUE, GREEN = NetworkId("blue"), NetworkId("green")
MAC = "02:00:00:00:00:05"
ADDRESS = "10.0.0.5"
TENANTS = {each: DesiredNetwork(each, mtu=1450, devices=frozenset({f"tap-{each}"})) for each in (BLUE, GREEN)}


def ip(*arguments: str, netns: str = "") -> list[dict[str, Any]]:
    """Run `ip` with JSON output."""
    done = lab.run("ip", "-json", "-details", *(["-netns", netns] if netns else []), *arguments)
    return json.loads(done.stdout) if done.stdout else []


def device(name: str, netns: str = "") -> dict[str, Any]:
    """One device as `ip` shows it."""
    (shown,) = [link for link in ip("address", "show", netns=netns) if link.get("ifname") == name]
    return shown


def addresses(name: str, netns: str = "") -> list[str]:
    """All addresses of a device, both families."""
    return [f"{each['local']}/{each['prefixlen']}" for each in device(name, netns)["addr_info"]]


def everything() -> tuple[set[str], set[str]]:
    """Names of all devices of the root namespace and of all namespaces."""
    return {link["ifname"] for link in ip("link")}, set(Namespaces().names())


def inside(netns: str, function: Callable[[], T]) -> T:
    """Run a function on a thread of its own in a namespace; sockets it opens stay there."""

    def enter() -> T:
        namespaces = Namespaces()
        descriptor = namespaces.open(netns)
        assert descriptor is not None
        try:
            with namespaces.inside(descriptor):
                return function()
        finally:
            namespaces.release(descriptor)
            namespaces.close()

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(enter).result()


def reach_service(vm: lab.Vm) -> None:
    """Wait until the VM reaches its service: the kernel lets a new bridge port forward a moment after it is up."""
    vm.run("ping", "-c", "1", "-i", "0.2", "-w", "30", "169.254.169.254")


async def settle(kernel: Kernel, desired: Mapping[NetworkId, DesiredNetwork]) -> Plan:
    """Bring the kernel to what is desired, see that there is nothing left to do, and return what was done."""
    done = plan(await kernel.observe(desired), desired)
    assert done.errors == {}
    assert await kernel.apply(done.actions) == {}
    assert plan(await kernel.observe(desired), desired) == Plan({}, {})
    return done


async def open_sockets(kernel: Kernel, *networks: NetworkId) -> dict[NetworkId, NetworkSockets]:
    """Open the sockets of networks."""
    places = {each: Place(names.namespace(each), names.SERVICE_DEVICE) for each in networks}
    result: dict[NetworkId, NetworkSockets] = {}
    for each, sockets in (await kernel.open_sockets(places)).items():
        assert isinstance(sockets, NetworkSockets), sockets
        result[each] = sockets
    return result


@pytest_asyncio.fixture
async def kernel() -> AsyncIterator[Kernel]:
    """The kernel; what the test leaves of ours is taken down, and then all must be as it was before."""
    before = everything()
    instance = await Kernel.open()
    yield instance
    assert await instance.apply(plan(await instance.observe({}), {}).actions) == {}
    await instance.close()
    assert everything() == before


@pytest.fixture
def plug() -> Iterator[Callable[[str], lab.Vm]]:
    """Plug in stand-in VMs, all with the same MAC and address; all are unplugged at the end."""
    vms: list[lab.Vm] = []

    def plug(tenant: str) -> lab.Vm:
        vms.append(lab.Vm(f"vm-{tenant}", f"tap-{tenant}", MAC).plug())
        vms[-1].set_address(f"{ADDRESS}/24")
        return vms[-1]

    yield plug
    for vm in vms:
        vm.unplug()


@pytest_asyncio.fixture
async def tenants(plug: Callable[[str], lab.Vm], kernel: Kernel) -> dict[NetworkId, lab.Vm]:
    """Blue and green: networks made, VMs plugged in and configured, bridges forwarding."""
    vms = {each: plug(each) for each in TENANTS}
    await settle(kernel, TENANTS)
    for vm in vms.values():
        reach_service(vm)
    return vms
