"""Neutron's metadata path: its real agent and haproxy, in front of a stand-in for Nova."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.compile import MissingToolError
from bench.peers import debian
from scripts.lab import wait_until

VENV = debian.CACHE / "neutron"
PYTHON = VENV / "bin" / "python"
CODE = Path(__file__).with_name("neutron_code.py")
PLAIN = ("-P", "-W", "ignore")
"""Python options: the script's folder, where this module is called neutron, too, stays out of the import path."""
NETWORK = "2f5b2f3e-3c0d-4c5e-9a53-000000000001"
NOVA = "127.0.0.1:18775"
"""Where the stand-in for nova-api-metadata listens, in the root namespace."""

# fake:// is oslo.messaging's in-memory bus; report_interval 0 keeps the agent from reporting to it.
CONFIG = """[DEFAULT]
state_path = {directory}
metadata_proxy_socket = {directory}/metadata_proxy
nova_metadata_host = {host}
nova_metadata_port = {port}
metadata_proxy_shared_secret = secret
transport_url = fake://
{more}[AGENT]
report_interval = 0
[oslo_concurrency]
lock_path = {directory}
"""


class AgentPort(NamedTuple):
    """What neutron-server says of a port."""

    network_id: str
    address: str
    device_id: str
    project_id: str


def install() -> None:
    """Neutron from PyPI in its own virtual environment. Raises MissingToolError when that fails."""
    python = getattr(sys, "_base_executable", sys.executable)
    try:
        subprocess.run([python, "-m", "venv", VENV], check=True, capture_output=True)
        subprocess.run([PYTHON, "-m", "pip", "-q", "install", "neutron"], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise MissingToolError(f"neutron cannot be installed from PyPI: {str(error.stderr)[-500:]}") from error


def version() -> str:
    """Neutron's release."""
    return _run("-c", "from importlib.metadata import version; print(version('neutron'))").strip()


def start_agent(directory: Path, ports: Sequence[AgentPort], workers: int | None = None) -> subprocess.Popen[bytes]:
    """Start neutron-metadata-agent; its socket is `directory`/metadata_proxy. Its default: cpus/2 worker threads."""
    config = directory / "agent.ini"
    host, _, port = NOVA.partition(":")
    more = f"metadata_workers = {workers}\n" if workers else ""
    config.write_text(CONFIG.format(directory=directory, host=host, port=port, more=more))
    known = directory / "ports.json"
    known.write_text(json.dumps([port._asdict() for port in ports]))
    environment = {"PORTS": str(known)}
    log_file = directory / "agent.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen([PYTHON, *PLAIN, CODE, "agent", "--config-file", config], stdout=log, stderr=log,
                                   env=debian.full(environment))  # fmt: skip

    def listening() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"neutron-metadata-agent ended: {log_file.read_text()[-1000:]}")
        return (directory / "metadata_proxy").exists()

    wait_until(listening, "neutron-metadata-agent's socket", 60)
    return process


def haproxy_config(directory: Path) -> Path:
    """Have Neutron write the haproxy configuration of the network."""
    pidfile = directory / f"{NETWORK}.pid"
    return Path(_run(*PLAIN, CODE, "haproxy", NETWORK, directory / "metadata_proxy", directory, pidfile).split()[-1])


def change_seconds(directory: Path, hosts: int) -> float:
    """What Neutron's own DHCP driver takes to write one changed port of `hosts`, before it signals dnsmasq."""
    return float(_run(*PLAIN, CODE, "change", directory, hosts).split()[-1])


def _run(*argv: object) -> str:
    if not PYTHON.exists():
        raise MissingToolError("neutron is not here: run again with --with neutron")
    return subprocess.run([PYTHON, *map(str, argv)], check=True, capture_output=True, text=True).stdout
