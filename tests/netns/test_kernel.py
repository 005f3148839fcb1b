"""Observe, plan and apply on the real kernel, always with two tenants."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from dataplane import names
from dataplane.errors import ForeignObjectError, KernelError
from dataplane.kernel import Kernel, Place
from dataplane.links import LinkEvent
from dataplane.model import Adopt, NetworkId
from dataplane.packets import NetworkSockets
from dataplane.plan import PLUGGED_COST, SERVICE_ADDRESSES, DesiredNetwork, Plan, plan, serving_on, waiting_for
from scripts import lab
from tests.netns.conftest import (
    BLUE,
    GREEN,
    TENANTS,
    addresses,
    device,
    everything,
    ip,
    open_sockets,
    reach_service,
    settle,
)

pytestmark = pytest.mark.asyncio


async def test_two_networks_look_to_ip_as_designed(kernel: Kernel) -> None:
    await settle(kernel, TENANTS)
    for network_id in TENANTS:
        bridge, veth, netns = names.bridge(network_id), names.veth(network_id), names.namespace(network_id)
        shown = device(bridge)
        assert shown["ifalias"] == f"nodeplane:{network_id}"
        assert shown["address"] == names.bridge_mac(network_id).hex(":")
        settings = shown["linkinfo"]["info_data"]
        assert (settings["stp_state"], settings["forward_delay"], settings["mcast_snooping"]) == (0, 0, 0)
        (link,) = ip("link", "show", bridge)
        assert link["inet6_addr_gen_mode"] == "none"
        outer = device(veth)
        assert (outer["master"], outer["mtu"], outer["ifalias"]) == (bridge, 1450, f"nodeplane:{network_id}")
        assert (outer["num_tx_queues"], outer["num_rx_queues"]) == (1, 1)
        for name in (bridge, veth):
            assert "UP" in device(name)["flags"]
            assert addresses(name) == []
        inner = device("svc0", netns)
        assert (inner["address"], inner["mtu"]) == (names.service_mac(network_id).hex(":"), 1450)
        assert inner["operstate"] == "UP"
        assert sorted(addresses("svc0", netns)) == sorted(SERVICE_ADDRESSES)
        flags = {each["local"]: each for each in inner["addr_info"]}
        assert not any("tentative" in each for each in flags.values())
        assert device("lo", netns)["ifalias"] == f"nodeplane:{network_id}"
        assert [each["dev"] for each in ip("-6", "route", "show", "default", netns=netns)] == ["svc0"]
        (route,) = ip("route", netns=netns)
        assert (route["dst"], route["dev"], route["prefsrc"]) == ("default", "svc0", "169.254.169.254")


async def test_a_service_namespace_forwards_nothing_and_takes_nothing_from_guests(kernel: Kernel) -> None:
    await settle(kernel, TENANTS)
    for network_id in TENANTS:
        settings = {"ipv4/conf/svc0/forwarding": "0", "ipv4/conf/svc0/accept_redirects": "0",
                    "ipv4/conf/all/accept_redirects": "0", "ipv6/conf/svc0/accept_ra": "0",
                    "ipv6/conf/svc0/accept_redirects": "0", "ipv6/conf/svc0/forwarding": "0",
                    "ipv6/conf/svc0/autoconf": "0", "ipv6/conf/svc0/disable_ipv6": "0"}  # fmt: skip
        for path, value in settings.items():
            shown = lab.run("cat", f"/proc/sys/net/{path}", netns=names.namespace(network_id)).stdout
            assert shown.strip() == value, path


async def test_vms_reach_their_service_and_not_each_other(kernel: Kernel, tenants: dict[NetworkId, lab.Vm]) -> None:
    for vm in tenants.values():
        reach_service(vm)
    tenants[GREEN].run("ip", "address", "add", "10.0.0.6/24", "dev", "eth0")
    assert tenants[BLUE].run("ping", "-c", "1", "-W", "1", "10.0.0.6", check=False).returncode == 1


async def test_a_restart_adopts_what_is_there_and_changes_nothing(
    kernel: Kernel, tenants: dict[NetworkId, lab.Vm]
) -> None:
    before = {name: (device(name)["ifindex"], device(name)["flags"]) for name in everything()[0]}
    namespaces = {each: serving_on(state, TENANTS[each]) for each, state in (await kernel.observe(TENANTS)).items()}
    events = await kernel.watch()
    second = await Kernel.open()
    states = await second.observe(TENANTS)
    assert plan(states, TENANTS) == Plan({}, {})
    await settle(second, TENANTS)
    for sockets in (await open_sockets(second, *TENANTS)).values():
        sockets.close()
    await second.close()
    # A device of our own after all that: its event is the first, so nothing happened before it.
    lab.run("ip", "link", "add", "marker", "type", "bridge")
    try:
        first = await anext(aiter(events))
        assert {event.name for event in first} == {"marker"}
    finally:
        events.close()
        lab.run("ip", "link", "del", "marker")
    assert {name: (device(name)["ifindex"], device(name)["flags"]) for name in everything()[0]} == before
    after = {each: serving_on(state, TENANTS[each]) for each, state in (await kernel.observe(TENANTS)).items()}
    assert after == namespaces
    assert None not in after.values()


async def test_actions_done_twice_do_no_harm(kernel: Kernel) -> None:
    todo = plan(await kernel.observe(TENANTS), TENANTS)
    assert await kernel.apply(todo.actions) == {}
    indexes = {name: device(name)["ifindex"] for name in everything()[0]}
    errors = await kernel.apply(todo.actions)
    # The namespace's name is taken by then, which the next observation takes for right.
    assert all(isinstance(error, KernelError) for error in errors.values())
    assert {name: device(name)["ifindex"] for name in everything()[0]} == indexes
    assert plan(await kernel.observe(TENANTS), TENANTS) == Plan({}, {})


@pytest.mark.parametrize(
    "damage",
    [
        "ip link set {bridge} down",
        "ip link set {bridge} mtu 1500",
        "ip link set {bridge} type bridge stp_state 1",
        "ip link set {bridge} type bridge mcast_snooping 1",
        "sysctl -qw net.ipv6.conf.{bridge}.disable_ipv6=0",
        "sysctl -qw net.ipv4.conf.{bridge}.rp_filter=0",
        "ip link set {veth} down",
        "ip link set {veth} nomaster",
        "ip link set {veth} mtu 9000",
        "ip link set {veth} addrgenmode eui64",
        "ip link del {veth}",
        "ip link del {bridge}",
        "ip netns del {netns}",
        "ip -n {netns} link set svc0 down",
        "ip -n {netns} link set lo down",
        "ip -n {netns} link set svc0 mtu 576",
        "ip -n {netns} link set svc0 address 02:11:11:11:11:11",
        "ip -n {netns} link del svc0",
        "ip -n {netns} address flush dev svc0",
        "ip -n {netns} address add 10.0.0.2/24 dev svc0",
        "ip -n {netns} route flush table main",
        "ip link set tap-blue nomaster",
        "ip link set tap-blue down",
    ],
)
async def test_damage_is_repaired_without_touching_the_neighbour(
    kernel: Kernel, tenants: dict[NetworkId, lab.Vm], damage: str
) -> None:
    green = (await kernel.refresh({GREEN: TENANTS[GREEN]}))[GREEN]
    command = damage.format(bridge=names.bridge(BLUE), veth=names.veth(BLUE), netns=names.namespace(BLUE))
    lab.run(*command.split())
    refreshed = await kernel.refresh({BLUE: TENANTS[BLUE]})
    assert set(plan(refreshed, TENANTS | {GREEN: TENANTS[GREEN]}).actions) >= {BLUE}
    done = await settle(kernel, TENANTS)
    assert set(done.actions) == {BLUE}
    reach_service(tenants[BLUE])
    assert (await kernel.refresh({GREEN: TENANTS[GREEN]}))[GREEN] == green


async def test_a_small_mtu_and_back_leaves_no_address(kernel: Kernel, tenants: dict[NetworkId, lab.Vm]) -> None:
    for mtu in (576, 1450, 9000, 576, 1280):
        await settle(kernel, {**TENANTS, BLUE: DesiredNetwork(BLUE, mtu=mtu, devices=TENANTS[BLUE].devices)})
        assert device(names.veth(BLUE))["mtu"] == device("svc0", names.namespace(BLUE))["mtu"] == mtu
        for name in (names.bridge(BLUE), names.veth(BLUE)):
            assert addresses(name) == []
    reach_service(tenants[BLUE])


async def test_refresh_says_of_some_what_observe_says_of_all(kernel: Kernel, tenants: dict[NetworkId, lab.Vm]) -> None:
    everything_seen = await kernel.observe(TENANTS)
    assert await kernel.refresh(TENANTS) == everything_seen
    many = {NetworkId(f"net-{number}"): DesiredNetwork(NetworkId(f"net-{number}")) for number in range(40)}
    assert {**await kernel.refresh({**many, **TENANTS})} == {**await kernel.observe({**many, **TENANTS})}


async def test_the_bulk_path_and_networks_nobody_wants_any_more(kernel: Kernel) -> None:
    many = {NetworkId(f"net-{number}"): DesiredNetwork(NetworkId(f"net-{number}")) for number in range(70)}
    await settle(kernel, many)
    await settle(kernel, TENANTS)
    assert set(await kernel.observe({})) == set(TENANTS)


async def test_a_device_is_plugged_when_it_appears_and_forgotten_when_it_goes(
    kernel: Kernel, plug: Callable[[str], lab.Vm]
) -> None:
    await settle(kernel, TENANTS)
    state = (await kernel.observe(TENANTS))[BLUE]
    assert waiting_for(state, TENANTS[BLUE]) == ("device tap-blue",)
    events = aiter(watch := await kernel.watch())
    vm = plug("blue")
    seen: list[LinkEvent] = []
    while not any(event.name == "tap-blue" for event in seen):
        seen += await anext(events)
    assert next(event for event in seen if event.name == "tap-blue").change == "appeared"
    todo = plan(await kernel.refresh({BLUE: TENANTS[BLUE]}), {BLUE: TENANTS[BLUE]})
    assert await kernel.apply(todo.actions) == {}
    shown = device("tap-blue")
    assert shown["master"] == names.bridge(BLUE)
    assert shown["linkinfo"]["info_slave_data"]["cost"] == PLUGGED_COST
    reach_service(vm)
    vm.unplug()
    while not any((event.change, event.name) == ("gone", "tap-blue") for event in seen):
        seen += await anext(events)
    watch.close()
    assert plan(await kernel.observe(TENANTS), TENANTS) == Plan({}, {})


async def test_a_port_that_moves_takes_its_device_along(kernel: Kernel, tenants: dict[NetworkId, lab.Vm]) -> None:
    moved = {BLUE: DesiredNetwork(BLUE), GREEN: DesiredNetwork(GREEN, devices=frozenset({"tap-blue"}))}
    await settle(kernel, moved)
    assert device("tap-blue")["master"] == names.bridge(GREEN)
    assert "master" not in device("tap-green")


async def test_foreign_devices_stay_as_they_are(kernel: Kernel, plug: Callable[[str], lab.Vm]) -> None:
    """A tap in somebody else's bridge, and somebody else's uplink in ours, with the networks and without them."""
    vm = plug("blue")
    lab.run("ip", "link", "add", "br-foreign", "type", "bridge")
    lab.run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "uplink-far")
    try:
        lab.run("ip", "link", "set", vm.device, "master", "br-foreign")
        await settle(kernel, TENANTS)
        state = (await kernel.observe(TENANTS))[BLUE]
        assert waiting_for(state, TENANTS[BLUE]) == ("device tap-blue, which is plugged into something else",)
        lab.run("ip", "link", "set", "uplink", "master", names.bridge(BLUE))
        await settle(kernel, TENANTS)
        assert device("uplink")["master"] == names.bridge(BLUE)
        foreign = {name: device(name) for name in ("br-foreign", vm.device)}
        await settle(kernel, {})
        assert {name: device(name)["flags"] for name in foreign} == {name: foreign[name]["flags"] for name in foreign}
        assert device(vm.device)["master"] == "br-foreign"
        assert "UP" not in device("uplink")["flags"]
    finally:
        lab.run("ip", "link", "del", "uplink")
        lab.run("ip", "link", "del", "br-foreign")


@pytest.mark.parametrize(
    ("make", "remove"),
    [
        ("ip link add {bridge} type bridge", "ip link del {bridge}"),
        ("ip link add {bridge} type veth peer name other", "ip link del {bridge}"),
        ("ip link add {veth} type veth peer name other", "ip link del {veth}"),
        ("ip netns add {netns}", "ip netns del {netns}"),
    ],
)
async def test_a_foreign_object_of_our_name_fails_its_network_only(kernel: Kernel, make: str, remove: str) -> None:
    own = {"bridge": names.bridge(BLUE), "veth": names.veth(BLUE), "netns": names.namespace(BLUE)}
    lab.run(*make.format(**own).split())
    try:
        before = everything(), ip("link")
        todo = plan(await kernel.observe(TENANTS), TENANTS)
        assert isinstance(todo.errors[BLUE], ForeignObjectError)
        assert set(todo.actions) == {GREEN}
        assert await kernel.apply(todo.actions) == {}
        assert set(await kernel.observe({})) == {GREEN}
        # Made between observation and action: found out before anything of it is changed.
        late = await kernel.apply(plan({}, {BLUE: TENANTS[BLUE]}).actions)
        assert isinstance(late[BLUE], ForeignObjectError | KernelError)
        await kernel.apply(plan(await kernel.observe({}), {}).actions)
        assert (everything(), ip("link")) == before
    finally:
        lab.run(*remove.format(**own).split())


def show_adopted() -> str:
    return "".join(
        lab.run("ip", "-4", what, netns="qdhcp-blue").stdout for what in ("link", "address", "route", "neighbour")
    )


async def test_an_adopted_namespace_is_served_and_not_touched(kernel: Kernel) -> None:
    adopting = {
        BLUE: DesiredNetwork(BLUE, adopt=Adopt(netns="qdhcp-blue", device="tap9")),
        GREEN: TENANTS[GREEN],
    }
    todo = plan(await kernel.observe(adopting), adopting)
    assert BLUE not in todo.actions
    assert waiting_for((await kernel.observe(adopting))[BLUE], adopting[BLUE]) == ("namespace qdhcp-blue",)
    lab.run("ip", "netns", "add", "qdhcp-blue")
    try:
        lab.run("ip", "-n", "qdhcp-blue", "link", "add", "tap9", "type", "bridge")
        lab.run("ip", "-n", "qdhcp-blue", "address", "add", "10.0.0.2/24", "dev", "tap9")
        lab.run("ip", "-n", "qdhcp-blue", "link", "set", "tap9", "up")
        before = show_adopted()
        await settle(kernel, adopting)
        state = (await kernel.observe(adopting))[BLUE]
        assert state.adopted is not None
        assert state.adopted.device is not None
        assert {each for each in state.adopted.addresses if ":" not in each} == {"10.0.0.2/24"}
        assert state.adopted.device.address.hex(":") == device("tap9", "qdhcp-blue")["address"]
        assert waiting_for(state, adopting[BLUE]) == ()
        assert serving_on(state, adopting[BLUE]) == (state.adopted.inode, state.adopted.device.index)
        opened = await kernel.open_sockets({BLUE: Place("qdhcp-blue", "tap9")})
        sockets = opened[BLUE]
        assert isinstance(sockets, NetworkSockets)
        sockets.close()
        await settle(kernel, {})
        assert show_adopted() == before
    finally:
        lab.run("ip", "netns", "del", "qdhcp-blue")


async def test_teardown_while_a_vm_is_plugged_leaves_the_vm(kernel: Kernel, tenants: dict[NetworkId, lab.Vm]) -> None:
    await settle(kernel, {BLUE: TENANTS[BLUE]})
    assert names.bridge(GREEN) not in everything()[0]
    assert "UP" in device("tap-green")["flags"]
    reach_service(tenants[BLUE])
    await settle(kernel, {})
    assert everything()[1] == {"vm-blue", "vm-green"}


async def test_a_refused_action_fails_its_network_only(kernel: Kernel) -> None:
    desired = {BLUE: DesiredNetwork(BLUE, mtu=70000), GREEN: TENANTS[GREEN]}
    errors = await kernel.apply(plan(await kernel.observe(desired), desired).actions)
    assert set(errors) == {BLUE}
    error = errors[BLUE]
    assert isinstance(error, KernelError)
    assert error.target == names.veth(BLUE)
    assert plan(await kernel.observe({GREEN: desired[GREEN]}), {GREEN: desired[GREEN]}).actions.keys() == {BLUE}


async def test_sockets_of_a_place_that_is_not_there_are_an_error(kernel: Kernel) -> None:
    await settle(kernel, TENANTS)
    places = {BLUE: Place("np-nowhere", "svc0"), GREEN: Place(names.namespace(GREEN), "svc9")}
    opened = await kernel.open_sockets(places)
    assert all(isinstance(error, KernelError) for error in opened.values())


async def test_a_namespace_ends_when_its_sockets_close(kernel: Kernel) -> None:
    await settle(kernel, TENANTS)
    sockets = await open_sockets(kernel, BLUE)
    before = serving_on((await kernel.observe(TENANTS))[BLUE], TENANTS[BLUE])
    await settle(kernel, {GREEN: TENANTS[GREEN]})
    await settle(kernel, TENANTS)
    assert serving_on((await kernel.observe(TENANTS))[BLUE], TENANTS[BLUE]) != before
    sockets[BLUE].close()


async def test_calls_from_many_tasks_take_turns(kernel: Kernel) -> None:
    await settle(kernel, TENANTS)
    results = await asyncio.gather(*(kernel.refresh(TENANTS) for _ in range(20)))
    assert all(result == results[0] for result in results)
