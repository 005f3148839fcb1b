"""Ports move between networks, MACs, addresses and instances of a running daemon while guests ask without a pause.

Three networks with equal ranges, addresses and MACs; documents of the node's own and of a stand-in for Nova;
both address families, kept connections, tokens of others, and requests by the metadata agent's socket. Every answer
must be of one who owned the place between question and answer; a place that nobody owned is not answered.
"""

from __future__ import annotations

import copy
import json
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dataplane import names
from dataplane.control_client import ControlClient
from dataplane.model import NetworkId
from scripts import lab
from tests.moves import ADDRESSES, DOCUMENTS, MACS, NETWORKS, Guest, Owner, World, belongs, nova_body
from tests.netns.conftest import inside

SEED = int(os.environ.get("NODEPLANE_MOVES_SEED", "20261122"))
SECONDS = float(os.environ.get("NODEPLANE_MOVES_SECONDS", "6"))
NOVA_PORT = 8775
TOKEN = "X-aws-ec2-metadata-token"
SERVICE = {False: "169.254.169.254", True: "fd00:ec2::254"}
LINK = "fe80::a9fe:a9fe"


@dataclass
class Truth:
    """What should be, and what was asked and answered."""

    world: World
    past: list[World] = field(default_factory=list)
    """All states there were, the present one last."""
    acknowledged: int = 0
    """The last of them that the daemon said to have carried out."""
    tokens: dict[str, str] = field(default_factory=dict)
    """Tokens and their ports."""
    wrong: list[str] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    ended: bool = False

    def begin(self) -> World:
        """A copy of the present state becomes part of the past; returns it."""
        self.past.append(copy.deepcopy(self.world))
        return self.past[-1]

    def judge(self, guest: Guest, since: int, path: str, token: str | None, status: int, body: bytes) -> None:
        """Look at an answer to a request that was sent when the state `since` was acknowledged."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        owners = [world.owner(guest) for world in self.past[since:]]
        fit = [owner for owner in owners if owner is not None and self._opens(owner, token)]
        said = f"{guest} {path} {token=} -> {status} {body[:100]!r}; owners {owners}"
        if status != 200:
            there = not (path.startswith("/nocloud") and any(owner is not None and owner.nova for owner in owners))
            if len(fit) == len(owners) and there:
                self.wrong.append(f"not answered: {said}")
        elif not fit:
            self.wrong.append(said)
        elif path == "/latest/api/token":
            if len(set(owners)) == 1:
                self.tokens[body.decode()] = fit[0].port
        elif not any(_shows(owner, self.past[since:], path, body) for owner in fit):
            self.wrong.append(said)

    def _opens(self, owner: Owner, token: str | None) -> bool:
        if token is None:
            return not owner.tokens
        return token == "new" or self.tokens.get(token) == owner.port


def _shows(owner: Owner, worlds: list[World], path: str, body: bytes) -> bool:
    if not owner.nova:
        return belongs(owner, path, body)
    # Nova may be ahead of the node until that hears of a change, also of one that takes the instance from the guest.
    versions = {owner.version, *(world.versions[owner.instance] for world in worlds)}
    bodies = [nova_body(owner.instance, owner.project, each, path) for each in versions if each >= owner.version]
    return body in bodies


@pytest.fixture
def truth() -> Iterator[Truth]:
    """The truth, and a Nova that tells it."""
    made = Truth(World(random.Random(SEED)))
    made.begin()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            instance, project = self.headers["X-Instance-ID"], self.headers["X-Tenant-ID"]
            body = nova_body(instance, project, made.past[-1].versions[instance], self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", NOVA_PORT), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, name="nova")
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def daemon(tmp_path: Path, truth: Truth) -> Iterator[lab.Daemon]:
    config = f"""
[metadata]
hold_seconds = 0.05
rate = 0.0
dropin_socket = "{tmp_path}/agent"
[nova]
url = "http://127.0.0.1:{NOVA_PORT}"
shared_secret = "s3cr3t"
"""
    instance = lab.Daemon(tmp_path / "daemon", config=config).start()
    yield instance
    instance.clear()
    instance.stop()
    assert "Traceback" not in instance.log.read_text()


def document(world: World) -> dict[str, object]:
    """The world's, with a port that keeps each network on this node."""
    made = world.document()
    made["ports"] += [
        {"id": f"{network}-anchor", "network_id": network, "mac_address": "02:00:00:00:00:77",
         "device": f"tap-{network}", "fixed_ips": [{"subnet_id": f"{network}-4", "ip_address": "10.0.0.77"}]}
        for network in NETWORKS
    ]  # fmt: skip
    return made


class Asker:
    """Asks in a loop, as what `guest` says; `connect` makes its connections."""

    def __init__(self, truth: Truth, number: int, connect: Callable[[Guest], socket.socket]) -> None:
        self.choose = random.Random(f"{SEED} {number}")
        self._truth = truth
        self._connect = connect
        self._kept: list[tuple[Guest, HTTPConnection]] = []

    def ask(self, guest: Guest) -> None:
        """One request; the connection is a new one, or one that was kept from an earlier guest of this place."""
        truth, choose = self._truth, self.choose
        guest, link = self._link(guest)
        method, path = "GET", choose.choice(list(DOCUMENTS))
        token = choose.choice([*[None] * 6, *list(truth.tokens)[-3:]])
        headers = {TOKEN: token} if token else {}
        if choose.random() < 0.1:
            method, path, token, headers = "PUT", "/latest/api/token", "new", {f"{TOKEN}-ttl-seconds": "60"}
        if guest.mac is None:
            headers |= {"X-OVN-Network-ID": guest.network, "X-Forwarded-For": guest.address}
        since = truth.acknowledged
        try:
            link.request(method, path, headers=headers)
            answer: HTTPResponse = link.getresponse()
            body = answer.read()
        except (OSError, HTTPException):
            truth.statuses[0] = truth.statuses.get(0, 0) + 1
            link.close()
            return
        truth.judge(guest, since, path, token, answer.status, body)
        if answer.will_close or choose.random() < 0.5:
            link.close()
        else:
            self._kept.append((guest, link))

    def close(self) -> None:
        for _, link in self._kept:
            link.close()

    def _link(self, guest: Guest) -> tuple[Guest, HTTPConnection]:
        if self._kept and (len(self._kept) > 8 or self.choose.random() < 0.4):
            return self._kept.pop(self.choose.randrange(len(self._kept)))
        link = HTTPConnection("169.254.169.254")
        link.sock = self._connect(guest)
        return guest, link


def pick(truth: Truth, choose: random.Random, network: str, mac: str | None) -> str:
    """Mostly an address that a port with this MAC has; who asks in vain waits, so that is seldom tried."""
    world = truth.past[-1]
    own = [each for each in ADDRESSES if world.owner(Guest(network, mac, each)) is not None]
    while choose.random() > 0.03:
        if own:
            return choose.choice(own)
        time.sleep(0.002)
    return choose.choice(ADDRESSES)


def work(truth: Truth, number: int, network: str) -> None:
    """Ask from inside the network's guest, which now and then gets another MAC."""

    def connect(guest: Guest) -> socket.socket:
        six = ":" in guest.address
        sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
        sock.settimeout(5)
        scope = socket.if_nametoindex("eth0")
        link = guest.address.startswith("fe80:")
        try:
            sock.bind((guest.address, 0, 0, scope if link else 0) if six else (guest.address, 0))
            sock.connect((LINK, 80, 0, scope) if link else (SERVICE[six], 80))
        except OSError:
            sock.close()
            raise
        return sock

    asker = Asker(truth, number, connect)
    vm = f"vm-{network}"
    while not truth.ended:
        ports = [port for port in truth.past[-1].ports.values() if port["network_id"] == network]
        mac = asker.choose.choice([port["mac_address"] for port in ports] * 3 + list(MACS))
        lab.run("ip", "-n", vm, "link", "set", "eth0", "address", mac)
        for space, device in ((vm, "eth0"), (names.namespace(NetworkId(network)), names.SERVICE_DEVICE)):
            lab.run("ip", "-n", space, "neigh", "flush", "dev", device)
        rounds = time.monotonic() + 0.7
        while not truth.ended and time.monotonic() < rounds:
            try:
                asker.ask(Guest(network, mac, pick(truth, asker.choose, network, mac)))
            except OSError:
                continue  # the connection was not made
    asker.close()


def work_by_agent(truth: Truth, number: int, path: str) -> None:
    """Ask through the metadata agent's socket, as haproxies of all networks."""

    def connect(guest: Guest) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(5)
        sock.connect(path)
        return sock

    asker = Asker(truth, number, connect)
    while not truth.ended:
        network = asker.choose.choice(NETWORKS)
        asker.ask(Guest(network, None, pick(truth, asker.choose, network, None)))
        time.sleep(0.002)
    asker.close()


def configure(vm: lab.Vm) -> None:
    """All addresses at once, and the ways to the service."""
    vm.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
    for each in ADDRESSES:
        prefix, options = ("64", ["nodad"]) if ":" in each else ("24", [])
        vm.run("ip", "address", "add", f"{each}/{prefix}", "dev", "eth0", *options)
    vm.run("ip", "route", "add", SERVICE[False], "dev", "eth0")
    vm.run("ip", "-6", "route", "add", SERVICE[True], "dev", "eth0")


def test_what_nova_may_answer_while_an_instance_changes() -> None:
    guest, path = Guest("red", MACS[0], "10.0.0.5"), "/openstack/latest/user_data"
    truth = Truth(World(random.Random(1)))
    owner = truth.begin().owner(guest)
    assert owner is not None
    assert owner.nova
    assert not owner.tokens
    del truth.world.ports[owner.port]
    truth.world.put_instance(int(owner.instance[-12:], 16))
    truth.begin()
    for version in (owner.version, owner.version + 1):
        truth.judge(guest, 0, path, None, 200, nova_body(owner.instance, owner.project, version, path))
    assert truth.wrong == []
    for wrong in (
        nova_body(owner.instance, owner.project, owner.version - 1, path),
        nova_body(owner.instance, "another", owner.version, path),
        nova_body("another", owner.project, owner.version, path),
    ):
        truth.judge(guest, 0, path, None, 200, wrong)
    truth.judge(guest, 1, path, None, 200, nova_body(owner.instance, owner.project, owner.version, path))
    assert len(truth.wrong) == 4


def test_no_answer_is_anothers_while_everything_moves(
    daemon: lab.Daemon, truth: Truth, plug: Callable[..., lab.Vm], tmp_path: Path
) -> None:
    print(f"NODEPLANE_MOVES_SEED={SEED}")
    control = ControlClient(str(daemon.socket))

    def follow() -> None:
        body = json.dumps(document(truth.begin())).encode()
        outcome = json.loads(control.post("v1", "apply", body=body, seconds=60.0, prune="true", wait=50.0))
        assert outcome["applied"] is True
        truth.acknowledged = len(truth.past) - 1

    def seen_all() -> bool:
        """Whether there was enough of everything, however slow the machine."""
        return (
            len(truth.past) > 10
            and truth.statuses.get(200, 0) > 100
            and {401, 403, 503} <= truth.statuses.keys()
            and bool(truth.tokens)
        )

    follow()
    for network in NETWORKS:
        configure(plug(network))
    with ThreadPoolExecutor(len(NETWORKS) + 1) as pool:
        done = [
            pool.submit(inside, f"vm-{network}", partial(work, truth, number, network))
            for number, network in enumerate(NETWORKS)
        ]
        done.append(pool.submit(work_by_agent, truth, len(NETWORKS), str(tmp_path / "agent")))
        began = time.monotonic()
        try:
            while (
                (time.monotonic() < began + SECONDS or (not seen_all() and time.monotonic() < began + SECONDS + 60))
                and not truth.wrong
                and not any(each.done() for each in done)
            ):
                truth.world.steps(1)
                follow()
                time.sleep(0.05)
        finally:
            truth.ended = True
        for each in done:
            each.result()
    assert truth.wrong == []
    assert seen_all(), (len(truth.past), truth.statuses, len(truth.tokens))
    print(len(truth.past), truth.statuses)
