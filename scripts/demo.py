"""The main job on real input: two tenants with the same range, address and MAC, one process serving both.

Run by `scripts/run` inside a private namespace. Starts the daemon, applies examples/two-tenants.yaml, plugs in two
stand-in VMs, lets `udhcpc` and `curl` run in them, prints who got what, and serves until Ctrl-C; with `--once` it
ends there, with status 0 if every VM got its own lease and its own metadata.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from scripts.lab import Daemon, Vm

EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "two-tenants.yaml"
META_DATA = "/openstack/latest/meta_data.json"


@dataclass(frozen=True)
class Row:
    """What one VM asked for and what it got."""

    tenant: str
    device: str
    lease: str
    lease_seconds: float
    instance: str
    hostname: str
    metadata_seconds: float
    mistakes: tuple[str, ...]


def boot(vm: Vm, tenant: str, port: dict[str, Any], instance: dict[str, Any], directory: Path) -> Row:
    """Do what a VM does at its first boot, and compare with what the document says it should get."""
    mistakes: list[str] = []

    def expect(what: str, got: str, wanted: str) -> str:
        if got != wanted:
            mistakes.append(f"{what}: got {got!r}, wanted {wanted!r}")
        return got

    lease = vm.dhcp(directory)
    expect("address", lease.address, port["fixed_ips"][0]["ip_address"])
    meta = vm.get(META_DATA)
    expect("status of meta_data.json", str(meta.status), "200")
    document = json.loads(meta.body) if meta.status == 200 else {}
    expect("instance", document.get("uuid", ""), instance["id"])
    expect("project", document.get("project_id", ""), instance["project_id"])
    ec2 = vm.get("/latest/meta-data/local-ipv4")
    expect("EC2 local-ipv4", ec2.body, port["fixed_ips"][0]["ip_address"])
    user_data = vm.get("/openstack/latest/user_data")
    expect("user data", user_data.body, instance["user_data"])
    return Row(tenant, vm.device, f"{lease.address}/{lease.variables.get('mask', '?')}", lease.seconds,
               document.get("uuid", "-"), document.get("hostname", "-"), meta.seconds, tuple(mistakes))  # fmt: skip


def table(rows: list[Row]) -> Table:
    """Who got which lease and whose metadata, with the times."""
    title = "Two tenants with the same range, address and MAC (times: udhcpc, curl)"
    shown = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("VM", "lease", "ms", "instance", "host name", "ms", "metadata"):
        shown.add_column(heading, justify="right" if heading == "ms" else "left", no_wrap=True)
    for row in rows:
        verdict = "[red]WRONG" if row.mistakes else "[green]its own"
        shown.add_row(row.tenant, row.lease, f"{row.lease_seconds * 1e3:.0f}", row.instance[:8], row.hostname,
                      f"{row.metadata_seconds * 1e3:.1f}", verdict)  # fmt: skip
    return shown


def serve(console: Console, daemon: Daemon, vms: list[Vm]) -> None:
    """Keep the daemon and the VMs until Ctrl-C, with a status line that is renewed every second."""
    user = "" if is_root() else " --user --preserve-credentials"
    console.print(
        "\nServing until Ctrl-C. To look around from another terminal:\n"
        f"  nsenter --target $(pgrep -nf 'dataplane.cli run') --net --mount{user} \\\n"
        f"    ip netns exec {vms[0].name} curl http://169.254.169.254/latest/meta-data/",
        soft_wrap=True,
    )
    began = time.monotonic()
    with Live(console=console, auto_refresh=False) as live:
        while daemon.process is not None and daemon.process.poll() is None:
            status = daemon.cli("status", "--brief", check=False).stdout.strip() or "no answer"
            live.update(f"[dim]{time.monotonic() - began:5.0f} s[/]  {status}", refresh=True)
            time.sleep(1)
    raise RuntimeError(f"the daemon ended; its log is {daemon.log}:\n{daemon.log.read_text()[-2000:]}")


def is_root() -> bool:
    """Whether this is the real root: a plain user's namespace maps one id only (user_namespaces(7))."""
    return Path("/proc/self/uid_map").read_text().split()[2] == "4294967295"


def run(once: bool, directory: Path) -> int:
    """The whole show; returns the exit status."""
    console = Console()
    document = yaml.safe_load(EXAMPLE.read_text())
    daemon = Daemon(directory)
    names = {network["id"]: network["name"] for network in document["networks"]}
    vms = [Vm(f"vm-{names[port['network_id']]}", port["device"], port["mac_address"]) for port in document["ports"]]
    instances = {instance["id"]: instance for instance in document["instances"]}
    try:
        began = time.monotonic()
        daemon.start()
        console.print(f"daemon ready after {time.monotonic() - began:.2f} s (pid {daemon.pid})")
        began = time.monotonic()
        daemon.cli("apply", "-f", EXAMPLE, "--wait")
        console.print(f"{EXAMPLE.name} applied after {time.monotonic() - began:.2f} s")
        for vm in vms:
            vm.plug()
        rows = [
            boot(vm, names[port["network_id"]], port, instances[port["device_id"]], directory)
            for vm, port in zip(vms, document["ports"], strict=True)
        ]
        console.print(table(rows))
        mistakes = [f"{row.tenant}: {mistake}" for row in rows for mistake in row.mistakes]
        for mistake in mistakes:
            console.print(f"[red]{mistake}")
        if not once and not mistakes:
            serve(console, daemon, vms)
        return 1 if mistakes else 0
    except (subprocess.CalledProcessError, RuntimeError, TimeoutError) as error:
        console.print(f"[red]{error}\n{''.join(getattr(error, '__notes__', []))}")
        return 1
    except KeyboardInterrupt:
        console.print("\nended")
        return 0
    finally:
        for vm in vms:
            vm.unplug()
        if daemon.process is not None:
            daemon.stop()


def main() -> int:
    """Parse the command line and run in a directory that goes with it."""
    parser = argparse.ArgumentParser(prog="scripts/run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--once", action="store_true", help="end after the table: 0 if everyone got its own, else 1")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    directory = Path(tempfile.mkdtemp(prefix="nodeplane-demo-"))
    try:
        return run(arguments.once, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
