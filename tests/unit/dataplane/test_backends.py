"""Own documents or Nova's, by network and node; whose they are; and when they are forgotten."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dataplane import store_writer
from dataplane.backends import Backends
from dataplane.callers import Callers
from dataplane.desired import Desired
from dataplane.metadata_view import Defaults
from dataplane.model import (
    Change,
    DesiredState,
    FixedIp,
    Instance,
    InstanceId,
    Ip,
    Mac,
    Network,
    NetworkId,
    Port,
    PortId,
    Subnet,
    SubnetId,
)
from dataplane.password_book import PasswordBook
from dataplane.store import Store
from metadata.backend import OwnBackend
from metadata.http1 import Request
from metadata.identity import NO_INSTANCE, NO_NOVA, OTHER_PROJECT, Caller, Known, Verdict
from metadata.nova import NovaBackend
from metadata.nova_proxy import NovaProxy
from metadata.responses import Response
from metadata.upstream import Answer
from tests.unit.metadata.asking import settings

UUID = InstanceId("00000000-0000-4000-8000-000000000001")
MAC = Mac("02:00:00:00:00:05")
NETWORK = Network(
    NetworkId("blue"),
    subnets=(Subnet(SubnetId("s"), "10.0.0.0/24"), Subnet(SubnetId("s6"), "2001:db8::/64")),
)
PORT = Port(
    PortId("p"), NETWORK.id, MAC, device_id=UUID,
    fixed_ips=(FixedIp(SubnetId("s6"), Ip("2001:db8::5")), FixedIp(SubnetId("s"), Ip("10.0.0.5"))),
)  # fmt: skip
INSTANCE = Instance(UUID, "blue-project")
CALLER = Caller("blue", MAC, "10.0.0.5")


class Nobody:
    """An upstream that is never asked."""

    async def ask(self, *arguments: Any) -> Answer:
        raise AssertionError

    async def close(self) -> None:
        pass


def nova() -> NovaProxy:
    return NovaProxy(settings("http://nova"), Nobody())


def callers(*objects: Network | Port | Instance, backends: Backends) -> tuple[Callers, Desired]:
    desired = Desired()
    desired.apply(Change(1, objects))
    return Callers(desired, Defaults(domain="novalocal"), backends), desired


def backend(verdict: Verdict) -> object:
    assert isinstance(verdict, Known)
    return verdict.backend


@pytest.mark.parametrize(
    ("of_network", "of_node", "kind"),
    [
        (None, "own", OwnBackend),
        (None, "nova", NovaBackend),
        ("own", "nova", OwnBackend),
        ("nova", "own", NovaBackend),
    ],
)
def test_the_network_says_it_before_the_node(of_network: Any, of_node: Any, kind: type) -> None:
    network = msgspec.structs.replace(NETWORK, metadata_backend=of_network)
    found, _ = callers(network, PORT, INSTANCE, backends=Backends(nova=nova(), default=of_node))
    assert isinstance(backend(found.lookup(CALLER)), kind)
    assert backend(found.lookup(CALLER)) is backend(found.lookup(CALLER))


def test_nova_needs_no_instance_of_ours_but_its_project() -> None:
    backends = Backends(nova=nova(), default="nova")
    found, _ = callers(NETWORK, PORT, backends=backends)
    assert found.lookup(CALLER) is NO_INSTANCE
    found, _ = callers(NETWORK, msgspec.structs.replace(PORT, project_id="blue"), backends=backends)
    made = backend(found.lookup(CALLER))
    assert isinstance(made, NovaBackend)
    assert (made.subject.project_id, made.subject.instance_id, made.subject.address) == ("blue", UUID, "10.0.0.5")
    router = msgspec.structs.replace(PORT, project_id="blue", device_id="router one")
    found, _ = callers(NETWORK, router, backends=backends)
    assert found.lookup(CALLER) is NO_INSTANCE


def test_no_nova() -> None:
    network = msgspec.structs.replace(NETWORK, metadata_backend="nova")
    found, _ = callers(network, PORT, INSTANCE, backends=Backends())
    assert found.lookup(CALLER) is NO_NOVA


@pytest.mark.parametrize("default", ["own", "nova"])
def test_a_port_with_an_instance_of_another_project_is_refused(default: Any) -> None:
    port = msgspec.structs.replace(PORT, project_id="green-project")
    found, _ = callers(NETWORK, port, INSTANCE, backends=Backends(nova=nova(), default=default))
    assert found.lookup(CALLER) is OTHER_PROJECT


@pytest.mark.parametrize(
    "change",
    [
        Change(2, (msgspec.structs.replace(PORT, name="x"),)),
        Change(2, (msgspec.structs.replace(INSTANCE, name="x"),)),
        Change(2, (msgspec.structs.replace(NETWORK, mtu=1400),)),
        Change(2, deletes=(("instances", UUID),)),
        Change(2, deletes=(("ports", PORT.id),)),
    ],
)
def test_a_change_forgets_at_once(change: Change) -> None:
    found, desired = callers(NETWORK, PORT, INSTANCE, backends=Backends(nova=nova(), default="nova"))
    made = backend(found.lookup(CALLER))
    assert isinstance(made, NovaBackend)
    made._shelf.put(("/", ""), Response(200, "", b""), 0.0)
    undo = desired.apply(change)
    found.forget((*undo.puts, *change.puts))
    assert len(made._shelf) == 0
    verdict = found.lookup(CALLER)
    assert not isinstance(verdict, Known) or verdict.backend is not made


def test_a_reload_forgets_all() -> None:
    found, _ = callers(NETWORK, PORT, INSTANCE, backends=Backends(nova=nova(), default="nova"))
    made = backend(found.lookup(CALLER))
    found.defaults = Defaults(domain="else")
    assert backend(found.lookup(CALLER)) is not made


@pytest.mark.asyncio
async def test_a_password_is_kept_once_and_survives(tmp_path: Path) -> None:
    for again in (False, True):
        store = await Store.open(tmp_path / "db")
        if not again:
            await store.apply(msgspec.convert({"instances": [{"id": UUID, "project_id": "b"}]}, DesiredState))
        found, _ = callers(NETWORK, PORT, INSTANCE, backends=Backends(PasswordBook(store, lambda: 1)))
        verdict = found.lookup(CALLER)
        assert isinstance(verdict, Known)

        async def ask(method: str, body: bytes | None = None, known: Known = verdict) -> Response:
            request = Request(method, b"/openstack/latest/%70assword/", True, body)
            answer = known.backend.answer(request, CALLER, 0.0)
            came = answer if isinstance(answer, Response) else await answer
            assert isinstance(came, Response)
            return came

        if not again:
            assert (await ask("GET")).body == b""
            assert (await ask("POST")).status == 404
            assert (await ask("DELETE")).status == 400
            assert (await ask("POST", bytes(1021))).status == 400
            # Both find none; only one is first.
            answers = await asyncio.gather(ask("POST", b"\x00\xff"), ask("POST", b"other"))
            assert [answer.status for answer in answers] == [200, 409]
        assert (await ask("POST", b"again")).status == 409
        assert (await ask("GET")).body == b"\x00\xff"
        await store.close()


@pytest.mark.asyncio
async def test_a_password_that_the_store_does_not_take_may_be_posted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk is no mistake of ours: the guest comes again, and the operator is told."""
    store = await Store.open(tmp_path / "db")
    await store.apply(msgspec.convert({"instances": [{"id": UUID, "project_id": "b"}]}, DesiredState))
    found, _ = callers(NETWORK, PORT, INSTANCE, backends=Backends(PasswordBook(store, lambda: store.position)))
    known = found.lookup(CALLER)
    assert isinstance(known, Known)

    def full(*arguments: Any, **named: Any) -> bool:
        raise sqlite3.OperationalError("database or disk is full")

    statuses = []
    for work in (full, store_writer.save_password):
        monkeypatch.setattr(store_writer, "save_password", work)
        posted = known.backend.answer(Request("POST", b"/openstack/latest/password", True, b"s3cr3t"), CALLER, 0.0)
        assert not isinstance(posted, Response)
        answer = await posted
        statuses.append((answer.status, dict(answer.headers).get("Retry-After")))
    assert statuses == [(503, "1"), (200, None)]
    assert [record.message for record in caplog.records] == ["passwords.not_kept"]
    assert "s3cr3t" not in caplog.text
    await store.close()


@pytest.mark.asyncio
async def test_a_password_that_was_posted_before_a_rebuild_became_known_is_not_kept(tmp_path: Path) -> None:
    """The model follows the store some milliseconds behind; who is answered by then is the machine before."""
    store = await Store.open(tmp_path / "db")
    await store.apply(msgspec.convert({"instances": [{"id": UUID, "project_id": "b"}]}, DesiredState))
    seen = store.position
    found, _ = callers(NETWORK, PORT, INSTANCE, backends=Backends(PasswordBook(store, lambda: seen)))
    known = found.lookup(CALLER)
    assert isinstance(known, Known)
    posted = known.backend.answer(Request("POST", b"/openstack/latest/password", True, b"old"), CALLER, 0.0)
    assert not isinstance(posted, Response)
    await store.apply(
        msgspec.convert({"instances": [{"id": UUID, "project_id": "b", "image_id": "other"}]}, DesiredState)
    )
    seen = store.position  # the model catches up before the request goes on
    assert (await posted).status == 409
    assert store.password(UUID) == b""
    await store.close()
