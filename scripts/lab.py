"""Stand-in VMs and a daemon to try them on: what the demo, the tests and the benchmarks share.

A stand-in VM is a network namespace with one device, `eth0`; the other end of that veth pair carries the device name
of the VM's port, as a hypervisor's tap would. Clients in it are the real ones. Everything is made with the ordinary
tools (`ip`, `udhcpc`, `curl`), so that what happens here can be repeated by hand.

Only for use inside a private namespace (scripts/run and scripts/test make it): names are not checked against the host.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).resolve().parent
METADATA_URL = "http://169.254.169.254"


def run(
    *argv: str | Path, netns: str | None = None, check: bool = True, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in namespace `netns` if given; its output is text in the result.

    Raises subprocess.CalledProcessError with the output as a note if `check` and the command fails.
    """
    command = [*(["ip", "netns", "exec", netns] if netns else []), *map(str, argv)]
    done = subprocess.run(command, text=True, capture_output=True, **options)
    if check and done.returncode:
        error = subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        error.add_note(f"{done.stdout}{done.stderr}".strip())
        raise error
    return done


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """Poll `condition` until it gives a true value and return that; TimeoutError naming `what` otherwise."""
    deadline = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


@dataclass(frozen=True)
class Lease:
    """What udhcpc was given: `variables` are its script's (`ip`, `mask`, `lease`, `staticroutes`, ...)."""

    variables: Mapping[str, str]
    seconds: float
    """From the start of the client to the configured address."""

    @property
    def address(self) -> str:
        return self.variables["ip"]


@dataclass(frozen=True)
class Answer:
    """One HTTP answer as curl saw it."""

    status: int
    body: str
    seconds: float


@dataclass
class Vm:
    """A stand-in VM: namespace `name`, device `eth0` with `mac`, plugged in as `device`."""

    name: str
    device: str
    mac: str
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def plug(self) -> Vm:
        """Make the namespace and the veth pair; the daemon finds `device` by its name."""
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.device, "type", "veth",
            "peer", "name", "eth0", "address", self.mac, "netns", self.name)  # fmt: skip
        run("ip", "link", "set", "lo", "up", netns=self.name)
        run("ip", "link", "set", "eth0", "up", netns=self.name)
        run("ip", "link", "set", self.device, "up")
        return self

    def unplug(self) -> None:
        """End what was started in the VM and remove it with its device."""
        for process in self.processes:
            stop(process)
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        self.processes.clear()
        run("ip", "link", "del", self.device, check=False)
        run("ip", "netns", "del", self.name, check=False)

    def run(self, *argv: str | Path, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command inside the VM."""
        return run(*argv, netns=self.name, check=check, **options)

    def start(self, *argv: str | Path, log: Path = Path("/dev/null"), **options: Any) -> subprocess.Popen[str]:
        """Start a long-running command inside the VM, its output in `log`; `unplug` ends it."""
        with log.open("w") as output:
            command = ["ip", "netns", "exec", self.name, *map(str, argv)]
            process = subprocess.Popen(command, text=True, **{"stdout": output, "stderr": output, **options})
        self.processes.append(process)
        return process

    def set_address(self, cidr: str) -> None:
        """Configure the VM by hand, as a guest without DHCP: an address and the on-link metadata route."""
        run("ip", "address", "add", cidr, "dev", "eth0", netns=self.name)
        run("ip", "route", "add", "169.254.169.254", "dev", "eth0", netns=self.name)

    def dhcp(self, directory: Path, *options: str, seconds: float = 15.0) -> Lease:
        """Lease an address with udhcpc and configure `eth0` with it; `directory` holds the result file."""
        result = directory / f"{self.name}.lease"
        result.unlink(missing_ok=True)
        began = time.monotonic()
        run("busybox", "udhcpc", "-f", "-n", "-q", "-t", "10", "-T", "1", "-i", "eth0", "-s", SCRIPTS / "udhcpc.script",
            "-O", "121", "-O", "26", *options, netns=self.name, timeout=seconds,
            env={**os.environ, "LEASE_FILE": str(result)})  # fmt: skip
        elapsed = time.monotonic() - began
        lines = (line.partition("=") for line in result.read_text().splitlines())
        return Lease({key: value.strip("'") for key, _, value in lines}, elapsed)

    def get(self, path: str, *options: str, seconds: float = 15.0) -> Answer:
        """Fetch a metadata path with curl; status 0 when there was no answer."""
        done = run("curl", "-sS", "--max-time", f"{seconds:g}", "-w", "\n%{http_code} %{time_total}", *options,
                   METADATA_URL + path, netns=self.name, check=False)  # fmt: skip
        body, _, tail = done.stdout.rpartition("\n")
        status, elapsed = tail.split()
        return Answer(int(status), body, float(elapsed))


def stop(process: subprocess.Popen[Any], seconds: float = 30.0) -> int:
    """Ask a process to end, insist after `seconds`, and return its exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


class Keeper:
    """The part of a service manager that keeps descriptors over a restart: FDSTORE of sd_notify(3)."""

    def __init__(self, path: Path) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65536)), hard))
        self.path = path
        self.kept: dict[str, list[int]] = {}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._thread = threading.Thread(target=self._listen, name="keeper", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._socket, 65536, 253)
            lines = dict(line.partition("=")[::2] for line in data.decode().splitlines())
            name = lines.get("FDNAME", "")
            if "FDSTORE" in lines:
                # Out of the way of the numbers that the next process is going to get them by.
                high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 8192) for descriptor in descriptors]
                self.kept[name] = [*self.kept.get(name, ()), *high]  # at once, for who looks meanwhile
                for descriptor in descriptors:
                    os.close(descriptor)
            elif "FDSTOREREMOVE" in lines:
                for descriptor in self.kept.pop(name, ()):
                    os.close(descriptor)
            elif "STOP" in lines:
                return

    def give(self) -> tuple[Callable[[], None], dict[str, str]]:
        """What a child calls before it becomes the daemon, and the environment that tells it of its descriptors."""
        rows = [(name, descriptor) for name, descriptors in self.kept.items() for descriptor in descriptors]

        def place() -> None:
            for number, (_, descriptor) in enumerate(rows, 3):
                os.dup2(descriptor, number)

        names = ":".join(name for name, _ in rows)
        return place, {"NOTIFY_SOCKET": str(self.path), "LISTEN_FDS": str(len(rows)), "LISTEN_FDNAMES": names}

    def forget(self) -> None:
        """Close what is kept: at the same time, as the kernel makes each packet socket wait."""
        closers = [threading.Thread(target=os.close, args=[fd]) for fds in self.kept.values() for fd in fds]
        self.kept.clear()
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join()

    def close(self) -> None:
        """Let go of everything."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"STOP=1", str(self.path))
        self._thread.join()
        self._socket.close()
        self.forget()


class Daemon:
    """The nodeplane daemon as a process of its own, with its state below `directory`."""

    keeper: Keeper | None = None
    """Who keeps its sockets over a restart; None: nobody."""

    def __init__(self, directory: Path, config: str = "", environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.socket = directory / "control.sock"
        self.config = directory / "nodeplane.toml"
        self.log = directory / "daemon.log"
        self.environment = {**os.environ, **(environment or {})}
        self.process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        text = config if "[node]" in config else f'[node]\nname = "lab"\nstate_dir = "{directory / "state"}"\n{config}'
        if "[control]" not in text:
            text += f'\n[control]\nsocket = "{self.socket}"\n'
        self.config.write_text(text)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self, wait: bool = True, seconds: float = 60.0) -> Daemon:
        """Start the process; with `wait`, return when it says that it is ready."""
        place, more = self.keeper.give() if self.keeper else (None, {})
        command = [sys.executable, "-m", "dataplane.cli", "run", "--config", str(self.config)]
        if self.keeper:
            command = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", *command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=SCRIPTS.parent,
                env={**self.environment, **more}, preexec_fn=place, close_fds=self.keeper is None,
            )  # fmt: skip
        if wait:
            wait_until(self._ready, f"daemon ready (see {self.log})", seconds)
        return self

    def _ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"daemon ended with {self.process.returncode}:\n{self.log.read_text()[-4000:]}")
        return self.cli("status", "--brief", check=False).returncode == 0

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        assert self.process is not None
        return stop(self.process)

    def kill(self) -> None:
        """SIGKILL: what a crash looks like."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def cli(self, *argv: str | Path, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the `nodeplane` command against this daemon."""
        return run(sys.executable, "-m", "dataplane.cli", "--socket", self.socket, *argv,
                   check=check, env=self.environment, cwd=SCRIPTS.parent, **options)  # fmt: skip

    def apply(self, document: Mapping[str, Any], *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Apply a document given as data and wait until the node has carried it out."""
        return self.cli("apply", "-f", "-", "--wait", *options, input=json.dumps(document), check=check)

    def clear(self) -> None:
        """Plan toward nothing: apply an empty document with --prune."""
        self.apply({}, "--prune")

    def metrics(self) -> dict[str, float]:
        """Every sample of the control socket's /metrics, by its text `name{labels}`."""
        text = run("curl", "-sS", "--unix-socket", self.socket, "http://control/metrics").stdout
        rows = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    def get(self, kind: str) -> list[dict[str, Any]]:
        """`nodeplane get KIND` as data."""
        rows: list[dict[str, Any]] = json.loads(self.cli("get", kind, "-o", "json").stdout)
        return rows

    def status(self) -> dict[str, Any]:
        """`nodeplane status` as data."""
        status: dict[str, Any] = json.loads(self.cli("status", "-o", "json").stdout)
        return status


def daemon_memory(pid: int) -> int:
    """Proportional set size of a process in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"no Pss for {pid}")


def documents(*tenants: str, cidr: str = "10.0.0.0/24", mac: str = "02:00:00:00:00:05",
              address: str = "10.0.0.5") -> dict[str, Sequence[dict[str, Any]]]:  # fmt: skip
    """A document with one network, port and instance per tenant: the same range, address and MAC in each.

    Ids are `<tenant>-net`, `<tenant>-subnet`, `<tenant>-port` and a UUID; the port's device is `tap-<tenant>`.
    """
    networks, ports, instances = [], [], []
    gateway = cidr.rsplit(".", 1)[0] + ".1"
    for number, tenant in enumerate(tenants, 1):
        instance = f"00000000-0000-4000-8000-{number:012x}"
        networks.append({
            "id": f"{tenant}-net", "name": tenant, "vni": 100 + number, "mtu": 1450,
            "subnets": [{"id": f"{tenant}-subnet", "cidr": cidr, "gateway_ip": gateway, "dns_nameservers": [gateway]}],
        })  # fmt: skip
        ports.append({
            "id": f"{tenant}-port", "network_id": f"{tenant}-net", "mac_address": mac, "device": f"tap-{tenant}",
            "device_id": instance, "fixed_ips": [{"subnet_id": f"{tenant}-subnet", "ip_address": address}],
        })  # fmt: skip
        instances.append({
            "id": instance, "project_id": f"{tenant}-project", "name": f"{tenant}-vm", "hostname": f"{tenant}-vm",
            "keys": [{"name": tenant, "data": f"ssh-ed25519 AAAA{tenant}"}], "user_data": f"#!/bin/sh\necho {tenant}\n",
        })  # fmt: skip
    return {"networks": networks, "ports": ports, "instances": instances}
