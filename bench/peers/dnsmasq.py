"""dnsmasq with the options and files that Neutron's DHCP agent gives it for a network."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.compile import MissingToolError
from bench.peers import debian

Host = tuple[str, str]
"""MAC and address."""


def program() -> debian.Program:
    """dnsmasq. Raises MissingToolError where it is not there, or where it cannot run."""
    found = debian.need("dnsmasq", "dnsmasq")
    if Path("/proc/self/setgroups").read_text().strip() == "deny":
        raise MissingToolError("dnsmasq insists on setgroups(2), which a user namespace refuses: run as root")
    return found


def write_files(directory: Path, network: str, hosts: Sequence[Host], gateway: str, server: str, *,
                leases: bool = True) -> None:  # fmt: skip
    """The host, addn_hosts and opts files, and the initial lease file that Neutron makes up."""
    names = [(mac, address, f"host-{address.replace('.', '-')}") for mac, address in hosts]
    domain = "openstacklocal"
    (directory / "host").write_text("".join(f"{mac},{name}.{domain},{address}\n" for mac, address, name in names))
    (directory / "addn_hosts").write_text("".join(f"{ip}\t{name}.{domain} {name}\n" for _, ip, name in names))
    if leases:
        (directory / "leases").write_text("".join(f"0 {mac} {address} * *\n" for mac, address, _ in names))
    tag, routes = f"tag:subnet-{network}", f"169.254.169.254/32,{server},0.0.0.0/0,{gateway}"
    (directory / "opts").write_text(
        f"{tag},option:dns-server,{server}\n{tag},option:classless-static-route,{routes}\n{tag},249,{routes}\n"
        f"{tag},option:router,{gateway}\n"
    )


def command(directory: Path, network: str, subnet: str, netmask: str, leases: int) -> list[str]:
    """Neutron's command line; dnsmasq stays root because its files are private to the run."""
    return [
        str(program().path), "--no-hosts", "--no-resolv", f"--pid-file={directory}/pid",
        f"--dhcp-hostsfile={directory}/host", f"--addn-hosts={directory}/addn_hosts",
        f"--dhcp-optsfile={directory}/opts", f"--dhcp-leasefile={directory}/leases", "--dhcp-match=set:ipxe,175",
        "--dhcp-userclass=set:ipxe6,iPXE", "--local-service", "--bind-dynamic",
        f"--dhcp-range=set:subnet-{network},{subnet},static,{netmask},86400s", "--dhcp-option-force=option:mtu,1450",
        f"--dhcp-lease-max={leases}", "--conf-file=/dev/null", "--domain=openstacklocal", "--user=root",
    ]  # fmt: skip


def start(netns: str, argv: Sequence[str]) -> None:
    """Start dnsmasq as a daemon; its files are read when this returns."""
    subprocess.run(["ip", "netns", "exec", netns, *argv], check=True, stderr=subprocess.DEVNULL,
                   env=debian.full(program().environment))  # fmt: skip


def pid(directory: Path) -> int:
    """Process id of the started dnsmasq."""
    return int((directory / "pid").read_text())
