"""The client matrix: udhcpc, dhclient, dhcpcd and systemd-networkd, always with both tenants."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts import lab
from tests.netns.conftest import inside

NETWORKD = os.environ.get("NODEPLANE_NETWORKD") or "/lib/systemd/systemd-networkd"
Configure = Callable[[lab.Vm, Path], None]


def is_user_namespace() -> bool:
    return Path("/proc/self/uid_map").read_text().split()[2] != "4294967295"


def addresses(vm: lab.Vm) -> list[str]:
    return re.findall(r"inet (\S+)", vm.run("ip", "-4", "address", "show", "dev", "eth0").stdout)


def routes(vm: lab.Vm) -> str:
    return vm.run("ip", "-4", "route").stdout


def udhcpc(vm: lab.Vm, directory: Path) -> None:
    vm.dhcp(directory)


def dhclient(vm: lab.Vm, directory: Path) -> None:
    """With our own script: the packaged one writes resolv.conf, which here is the host's."""
    script = directory / "dhclient-script"
    script.write_text(DHCLIENT_SCRIPT)
    script.chmod(0o755)
    config = directory / "dhclient.conf"
    config.write_text("option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;\n"
                      "request subnet-mask, routers, domain-name-servers, interface-mtu,\n"
                      "  rfc3442-classless-static-routes;\n"
                      "timeout 15;\n")  # fmt: skip
    vm.run("dhclient", "-4", "-1", "-v", "-cf", config, "-lf", directory / f"{vm.name}.leases",
           "-pf", directory / f"{vm.name}.pid", "-sf", script, "eth0", timeout=30)  # fmt: skip


DHCLIENT_SCRIPT = """#!/bin/sh
case "$reason" in
PREINIT) ip link set "$interface" up ;;
BOUND|RENEW|REBIND|REBOOT)
    ip address flush dev "$interface"
    ip address add "$new_ip_address/$new_subnet_mask" dev "$interface"
    ip route replace 169.254.169.254 dev "$interface" ;;
EXPIRE|FAIL|RELEASE) ip address flush dev "$interface" ;;
esac
exit 0
"""


def dhcpcd(vm: lab.Vm, directory: Path) -> None:
    if is_user_namespace():
        pytest.skip("dhcpcd drops privileges to a user that a user namespace does not map")
    config = directory / "dhcpcd.conf"
    config.write_text("duid\npersistent\noption classless_static_routes, interface_mtu\n"
                      "require dhcp_server_identifier\n"
                      "nohook resolv.conf, hostname\nnoarp\nipv4only\n")  # fmt: skip
    # Two of them at once: each has its own pid file, sockets and leases.
    private = (
        "mkdir -p /run/dhcpcd; for folder in /run/dhcpcd /var/lib/dhcpcd; do mount -t tmpfs tmpfs $folder; done; exec "
    )
    command = f"dhcpcd -4 -B -d -f {config} -t 15 eth0"
    vm.start("unshare", "--mount", "sh", "-euc", private + command, log=directory / f"{vm.name}.dhcpcd")


def networkd(vm: lab.Vm, directory: Path) -> None:
    """As networkd runs in a container: a /run of its own, and no udev (it takes that from a read-only /sys)."""
    if is_user_namespace() or not shutil.which(NETWORKD):
        pytest.skip("systemd-networkd needs root and its binary")
    script = f"""
    mount -t tmpfs tmpfs /run && mount -o remount,ro /sys
    mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp
    chown -R systemd-network /run/systemd/netif
    cat > /run/systemd/network/10-eth0.network <<EOF
[Match]
Name=eth0
[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no
[DHCPv4]
ClientIdentifier=mac
EOF
    exec {NETWORKD}
    """
    vm.start("unshare", "--mount", "sh", "-euc", script, log=directory / f"{vm.name}.networkd",
             env={**os.environ, "SYSTEMD_LOG_LEVEL": "debug"})  # fmt: skip


@pytest.mark.parametrize("client", [udhcpc, dhclient, dhcpcd, networkd], ids=lambda client: client.__name__)
def test_every_client_is_configured(
    client: Configure, daemon: lab.Daemon, tenants: dict[str, lab.Vm], tmp_path: Path
) -> None:
    for vm in tenants.values():
        client(vm, tmp_path)
    for tenant, vm in tenants.items():
        try:
            lab.wait_until(lambda vm=vm: addresses(vm) == ["10.0.0.5/24"], f"{tenant} configured", 20)  # type: ignore[misc]
            lab.wait_until(lambda vm=vm: "169.254.169.254" in routes(vm), f"{tenant} has the metadata route", 20)  # type: ignore[misc]
        except TimeoutError as error:
            for log in tmp_path.glob(f"{vm.name}.*"):
                error.add_note(log.read_text()[-4000:])
            error.add_note(routes(vm))
            raise
        assert f"{tenant}-project" in vm.get("/openstack/latest/meta_data.json").body
    leases = daemon.get("leases")
    assert {(row["network_id"], row["address"], row["state"]) for row in leases} == {
        ("blue-net", "10.0.0.5", "bound"), ("green-net", "10.0.0.5", "bound")}  # fmt: skip


def running_udhcpc(vm: lab.Vm, directory: Path) -> subprocess.Popen[str]:
    result = directory / f"{vm.name}.lease"
    process = vm.start("busybox", "udhcpc", "-f", "-i", "eth0", "-s", lab.SCRIPTS / "udhcpc.script", "-O", "121",
                       env={**os.environ, "LEASE_FILE": str(result)})  # fmt: skip
    lab.wait_until(result.exists, "first lease")
    return process


BROADCAST = b"\xff" * 6
PORTS = bytes([0, 68, 0, 67])
"""Of a client and of a server, in network order."""


def listen() -> socket.socket:
    """Hears all of the VM's frames from now on, in both directions."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    sock.bind(("eth0", 0x0003))
    sock.setblocking(False)
    return sock


def before_the_answer(wire: socket.socket) -> list[bytes]:
    """The MACs that the VM's DHCP packets went to, until the service's first one came."""
    asked: list[bytes] = []
    while True:
        frame = wire.recv(2000)
        if frame[12:14] != b"\x08\x00" or frame[23] != socket.IPPROTO_UDP:
            continue
        ports = frame[34:38]
        if ports == PORTS:
            asked.append(frame[:6])
        elif ports[:2] == PORTS[2:]:
            return asked


def lease_row(daemon: lab.Daemon, network: str) -> dict[str, object]:
    [row] = [row for row in daemon.get("leases") if row["network_id"] == network]
    return row


def test_renewal_is_unicast_and_answered(daemon: lab.Daemon, tenants: dict[str, lab.Vm], tmp_path: Path) -> None:
    for tenant, vm in tenants.items():
        process = running_udhcpc(vm, tmp_path)
        (tmp_path / f"{vm.name}.lease").unlink()
        renewed = f"dhcp.renewed network={tenant}-net"
        assert renewed not in daemon.log.read_text()
        wire = inside(vm.name, listen)
        process.send_signal(signal.SIGUSR1)
        lab.wait_until(lambda line=renewed: line in daemon.log.read_text(), f"{tenant}'s request answered")  # type: ignore[misc]
        lab.wait_until((tmp_path / f"{vm.name}.lease").exists, f"{tenant} renewed")
        # The first request is unicast; udhcpc asks by broadcast only when that was not answered for 3 s. (It may lose
        # an answer that comes before it has closed the socket it asked from, and then asks by broadcast as well.)
        with wire:
            asked = before_the_answer(wire)
        assert asked
        assert BROADCAST not in asked
        assert addresses(vm) == ["10.0.0.5/24"]


def test_release_is_noted_and_does_not_touch_the_neighbour(
    daemon: lab.Daemon, tenants: dict[str, lab.Vm], tmp_path: Path
) -> None:
    processes = {tenant: running_udhcpc(vm, tmp_path) for tenant, vm in tenants.items()}
    processes["blue"].send_signal(signal.SIGUSR2)
    lab.wait_until(lambda: lease_row(daemon, "blue-net")["state"] == "released", "blue released")
    assert lease_row(daemon, "green-net")["state"] == "bound"
    assert tenants["blue"].dhcp(tmp_path).address == "10.0.0.5"


def test_changed_address_is_refused_and_replaced(
    daemon: lab.Daemon, tenants: dict[str, lab.Vm], tmp_path: Path
) -> None:
    """INIT-REBOOT with the old address (RFC 2131 4.3.2): NAK, then the new one; green keeps its own."""
    for vm in tenants.values():
        dhclient(vm, tmp_path)
        stop_dhclient(vm, tmp_path)
    changed = lab.documents("blue")["ports"][0] | {
        "fixed_ips": [{"subnet_id": "blue-subnet", "ip_address": "10.0.0.50"}]}  # fmt: skip
    daemon.apply({"ports": [changed]})
    for vm in tenants.values():
        dhclient(vm, tmp_path)
        stop_dhclient(vm, tmp_path)
    assert addresses(tenants["blue"]) == ["10.0.0.50/24"]
    assert addresses(tenants["green"]) == ["10.0.0.5/24"]
    assert daemon.metrics()['nodeplane_dhcp_packets_sent_total{family="4",type="nak"}'] >= 1


def stop_dhclient(vm: lab.Vm, directory: Path) -> None:
    file = directory / f"{vm.name}.pid"
    # It is written by the process that stays, maybe after the one that was waited for has ended.
    pid = int(lab.wait_until(lambda: file.exists() and file.read_text().strip(), "dhclient's process id"))
    file.unlink()
    os.kill(pid, signal.SIGTERM)
    lab.wait_until(lambda: not Path(f"/proc/{pid}").exists(), "dhclient ended")


def test_conflict_is_declined(daemon: lab.Daemon, two_ports: tuple[object, lab.Vm, lab.Vm], tmp_path: Path) -> None:
    """udhcpc -a finds the address in use by ARP and declines it; the squatter is not our business, the event is."""
    _, vm, squatter = two_ports
    squatter.set_address("10.0.0.5/24")
    probe = ("busybox", "arping", "-q", "-D", "-c", "1", "-w", "1", "-I", "eth0", "10.0.0.5")
    lab.wait_until(lambda: vm.run(*probe, check=False).returncode == 1, "the squatter heard")
    vm.start("busybox", "udhcpc", "-f", "-a", "-i", "eth0", "-s", lab.SCRIPTS / "udhcpc.script")
    lab.wait_until(lambda: daemon.metrics().get(
        'nodeplane_dhcp_packets_received_total{family="4",type="decline"}', 0) >= 1, "DECLINE")  # fmt: skip
    lab.wait_until(lambda: "dhcp.declined" in daemon.log.read_text(), "the event")
