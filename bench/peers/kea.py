"""Kea's DHCPv4 server with one reservation per host and leases in a memory file."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.peers import debian
from bench.peers.dnsmasq import Host


def configure(directory: Path, device: str, subnet: str, relay: str, router: str, hosts: Sequence[Host],
              sockets: str) -> Path:  # fmt: skip
    """Write the configuration: memfile kept on disk, one thread, warnings only, sockets of type udp or raw."""
    config: dict[str, Any] = {
        "interfaces-config": {"interfaces": [device], "dhcp-socket-type": sockets, "re-detect": False},
        "lease-database": {"type": "memfile", "persist": True, "name": f"{directory}/leases.csv", "lfc-interval": 0},
        "valid-lifetime": 86400,
        "multi-threading": {"enable-multi-threading": False},
        "subnet4": [{
            "id": 1, "subnet": subnet, "relay": {"ip-addresses": [relay]},
            "option-data": [
                {"name": "routers", "data": router}, {"name": "domain-name-servers", "data": router},
                {"name": "interface-mtu", "data": "1450", "always-send": True},
            ],
            "reservations": [{"hw-address": mac, "ip-address": address} for mac, address in hosts],
        }],
        "loggers": [{"name": "kea-dhcp4", "severity": "WARN", "output_options": [{"output": f"{directory}/kea.log"}]}],
    }  # fmt: skip
    path = directory / "kea.json"
    path.write_text(json.dumps({"Dhcp4": config}))
    return path


def start(netns: str, directory: Path, config: Path) -> subprocess.Popen[bytes]:
    """Start the server in the foreground."""
    program = debian.need("kea-dhcp4", "kea")
    environment = {"KEA_PIDFILE_DIR": str(directory), "KEA_LOCKFILE_DIR": str(directory), **program.environment}
    with (directory / "kea.out").open("wb") as log:
        return subprocess.Popen(["ip", "netns", "exec", netns, str(program.path), "-c", str(config)], stdout=log,
                                stderr=log, env=debian.full(environment))  # fmt: skip
