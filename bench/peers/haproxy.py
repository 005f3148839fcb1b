"""haproxy as Neutron configures it for a network's metadata."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.peers import debian

# The text that neutron 29's HaproxyConfigurator writes; bench/peers/neutron_code.py has Neutron write its own.
CONFIG = """
global
    log         /dev/log local0 info
    log-tag     haproxy-metadata-proxy-{network}
    user        root
    group       root
    maxconn     1024
    nbthread    2
    pidfile     {directory}/{network}.pid
    daemon

defaults
    log global
    mode http
    option httplog
    option dontlognull
    option http-server-close
    option forwardfor
    retries                 3
    timeout http-request    30s
    timeout connect         30s
    timeout client          32s
    timeout server          32s
    timeout http-keep-alive 30s

listen listener
    bind {bind}

    {backend}

    http-request del-header X-Neutron-Router-ID
    http-request set-header X-Neutron-Network-ID {network}
"""
METADATA = "169.254.169.254:80"


def configure(directory: Path, network: str, *, socket: Path | None = None, body: Path | None = None,
              bind: str = METADATA) -> Path:  # fmt: skip
    """Write a configuration that passes requests on to a Unix socket, or answers all of them with `body`."""
    if body is not None:
        backend = f"http-request return status 200 content-type application/json file {body}"
    else:
        backend = f"server metadata {socket}"
    path = directory / f"{network}.conf"
    path.write_text(CONFIG.format(network=network, directory=directory, backend=backend, bind=bind))
    return path


def start(config: Path, netns: str | None = None) -> None:
    """Start haproxy as a daemon, as Neutron does; it is ready when this returns."""
    program = debian.need("haproxy", "haproxy")
    where = ["ip", "netns", "exec", netns] if netns else []
    subprocess.run([*where, str(program.path), "-f", str(config)], check=True, stderr=subprocess.DEVNULL,
                   env=debian.full(program.environment))  # fmt: skip


def pid(directory: Path, network: str) -> int:
    """Process id of the started haproxy."""
    return int((directory / f"{network}.pid").read_text().split()[0])
