"""The second backend against a stand-in that checks as Nova does."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
from aiohttp import web

from metadata.backend import RetiredError
from metadata.http1 import Request
from metadata.nova import NovaBackend
from tests.nova import nova
from tests.unit.metadata.asking import Clock, ask, proxy, subject
from tests.unit.metadata.lab import until
from tests.unit.metadata.sample import BARE, FULL

META_DATA = "/openstack/latest/meta_data.json"


@pytest.mark.asyncio
async def test_documents_come_through_byte_by_byte_and_signed() -> None:
    async with nova(FULL) as upstream, proxy(upstream) as shared:
        backend = NovaBackend(shared, subject(FULL))
        found = await ask(backend, "/openstack/latest/user_data")
        assert (found.status, found.body) == (200, FULL.user_data)
        assert found.content_type == "text/plain; charset=UTF-8"
        (asked,) = upstream.asked
        assert asked.headers["X-Instance-ID"] == FULL.uuid
        assert asked.headers["X-Tenant-ID"] == "blue-project"
        assert asked.headers["X-Forwarded-For"] == "10.0.0.5"
        assert asked.headers["Accept-Encoding"] == "identity"
        assert shared.counters.requests == {"200": 1}


@pytest.mark.asyncio
async def test_only_allowed_headers_are_forwarded() -> None:
    async with nova(FULL) as upstream, proxy(upstream) as shared:
        await ask(
            NovaBackend(shared, subject(FULL)), META_DATA, user_agent="me/1", accept="text/plain", range="bytes=0-1",
            x_forwarded_for="10.0.0.6", x_aws_ec2_metadata_token="t", metadata_flavor="Google",
        )  # fmt: skip
        headers = upstream.asked[0].headers
        assert {name.lower() for name in headers} == {
            "host", "accept-encoding", "user-agent", "accept", "range", "x-openstack-request-id",
            "x-instance-id", "x-tenant-id", "x-forwarded-for", "x-instance-id-signature",
        }  # fmt: skip
        assert headers["X-Forwarded-For"] == "10.0.0.5"
        assert headers["X-Openstack-Request-Id"].startswith("req-")


@pytest.mark.asyncio
async def test_nova_refuses_another_project_and_an_unknown_instance() -> None:
    async with nova(FULL) as upstream, proxy(upstream) as shared:
        unknown = "00000000-0000-4000-8000-000000000002"
        for wrong in (subject(FULL, project_id="green-project"), subject(FULL, instance_id=unknown)):
            assert (await ask(NovaBackend(shared, wrong), META_DATA)).status == 404


@pytest.mark.asyncio
async def test_the_other_secret_is_tried_and_remembered(caplog: pytest.LogCaptureFixture) -> None:
    async with nova(FULL, secret="new") as upstream, proxy(upstream, secrets=("old", "new")) as shared:
        backend = NovaBackend(shared, subject(FULL))
        assert (await ask(backend, META_DATA)).status == 200
        assert (await ask(backend, "/openstack")).status == 200
        assert shared.counters.requests == {"403": 1, "200": 2}
    async with nova(FULL, secret="third") as upstream, proxy(upstream, secrets=("old", "new")) as shared:
        assert (await ask(NovaBackend(shared, subject(FULL)), META_DATA)).status == 403
    assert [record.message for record in caplog.records] == ["metadata.nova_forbidden"]
    assert "old" not in str(vars(caplog.records[0])["fields"])


@pytest.mark.asyncio
async def test_equal_requests_share_one_fetch() -> None:
    async with nova(FULL) as upstream, proxy(upstream) as shared:
        upstream.stalled.add(FULL.uuid)
        backend = NovaBackend(shared, subject(FULL))
        asking = [
            asyncio.create_task(ask(backend, path)) for path in [META_DATA, META_DATA + "/", "//" + META_DATA] * 5
        ]
        await until(lambda: upstream.asked)
        asking[0].cancel()  # a guest that goes takes nothing from the others
        upstream.go_on.set()
        answers = await asyncio.gather(*asking[1:])
        assert len(upstream.asked) == 1
        assert {found.status for found in answers} == {200}
        assert shared.counters.hits == {"coalesced": 14}


@pytest.mark.asyncio
async def test_documents_are_kept_for_a_short_time() -> None:
    clock = Clock()
    async with nova(FULL) as upstream, proxy(upstream, clock) as shared:
        backend = NovaBackend(shared, subject(FULL))
        first = await ask(backend, META_DATA)
        assert await ask(backend, META_DATA) is first
        assert await ask(backend, META_DATA, "HEAD", accept="*/*") is first
        assert len(upstream.asked) == 1
        clock.now += 10
        assert await ask(backend, META_DATA) is not first
        assert len(upstream.asked) == 2
        assert shared.counters.hits == {"fresh": 2}
        await ask(backend, META_DATA, range="bytes=0-1")
        await ask(backend, META_DATA, if_none_match="x")
        await ask(backend, META_DATA, accept="text/html")
        await ask(backend, META_DATA + "?x=y")
        assert len(upstream.asked) == 6


@pytest.mark.asyncio
async def test_dates_of_aws_are_nova_s_newest_documents_and_kept_once() -> None:
    async with nova(FULL) as upstream, proxy(upstream) as shared:
        backend = NovaBackend(shared, subject(FULL))
        newest = await ask(backend, "/latest/user-data")
        assert newest.status == 200
        for version in ("2016-09-02", "2019-10-01", "2021-03-23"):
            assert await ask(backend, f"/{version}/user-data") is newest
        assert upstream.paths == ["/latest/user-data"]
        assert (await ask(backend, "/2008-12-31/meta-data/ami-id")).status == 200
        assert upstream.paths[1:] == ["/2008-09-01/meta-data/ami-id"]
        assert (
            backend.upstream(Request("GET", b"/2019-10-01/user-data", True, None, {}))[1]
            == f"{upstream.url}/latest/user-data"
        )
        # What AWS added, and what is no date, is Nova's to refuse.
        for path in (
            "/2021-03-23/dynamic/instance-identity/document",
            "/2021-13-01/user-data",
            "/latest/meta-data/mac",
        ):
            assert (await ask(backend, path)).status == 404


@pytest.mark.asyncio
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "POST", "TRACE", "x"])
async def test_other_methods_are_for_passwords_only(method: str) -> None:
    async with nova(FULL) as upstream, proxy(upstream) as shared:
        backend = NovaBackend(shared, subject(FULL))
        for path in (META_DATA, "/latest/user-data", "/latest/meta-data/"):
            found = await ask(backend, path, method, b"x")
            assert found.status == 405
            assert dict(found.headers)["Allow"] == "GET, HEAD"
        assert not upstream.asked
        found = await ask(backend, "/openstack/latest/password", method, b"x")
        assert found.status == {"POST": 200, "TRACE": 405, "x": 405}.get(method, 400)


@pytest.mark.asyncio
async def test_another_port_of_the_same_instance_asks_for_itself() -> None:
    async with nova(FULL) as upstream, proxy(upstream) as shared:
        one, two = NovaBackend(shared, subject(FULL)), NovaBackend(shared, subject(FULL, port_id="q"))
        assert await ask(one, META_DATA) is not await ask(two, META_DATA)
        assert len(upstream.asked) == 2


@pytest.mark.asyncio
async def test_what_is_missing_is_not_kept() -> None:
    async with nova(BARE) as upstream, proxy(upstream) as shared:
        backend = NovaBackend(shared, subject(BARE))
        for _ in range(2):
            assert (await ask(backend, "/openstack/latest/user_data")).status == 404
        assert len(upstream.asked) == 2
        assert (await ask(backend, "/\xff")).status == 404
        assert len(upstream.asked) == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("failure", ["away", "500", "broken"])
async def test_an_old_document_is_better_than_none(failure: str) -> None:
    clock = Clock()
    async with nova(FULL) as upstream, proxy(upstream, clock) as shared:
        backend = NovaBackend(shared, subject(FULL))
        first = await ask(backend, META_DATA)
        clock.now += 20
        if failure == "away":
            await upstream.stop()
        else:
            upstream.hook = _broken if failure == "broken" else _error
        assert await ask(backend, META_DATA) is first
        assert backend.failing
        assert await ask(backend, META_DATA) is first
        assert shared.counters.hits["stale"] == 2
        await until(lambda: not shared.tasks)
        clock.now += 600
        assert (await ask(backend, META_DATA)).status == {"away": 503, "500": 500, "broken": 502}[failure]
        if failure == "away":
            await upstream.start()
        upstream.hook = None
        found = await ask(backend, META_DATA)
        assert found.status == 200
        assert found is not first


@pytest.mark.asyncio
async def test_what_fails_for_one_project_makes_no_other_s_documents_old() -> None:
    clock = Clock()
    green = msgspec.structs.replace(BARE, uuid="00000000-0000-4000-8000-000000000002", project_id="green")
    async with nova(FULL, green) as upstream, proxy(upstream, clock) as shared:
        blue, other = NovaBackend(shared, subject(FULL)), NovaBackend(shared, subject(green, port_id="q"))
        first = await ask(other, META_DATA)
        clock.now += 20

        async def fails_for_blue(request: web.Request) -> web.Response | None:
            return await _error(request) if request.headers["X-Instance-ID"] == FULL.uuid else None

        upstream.hook = fails_for_blue
        assert (await ask(blue, META_DATA)).status == 500
        assert await ask(other, META_DATA) is not first
        assert "stale" not in shared.counters.hits


async def _error(request: web.Request) -> web.Response:
    return web.Response(status=500, text="ouch")


async def _broken(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    request.transport.close()
    return web.Response()


@pytest.mark.asyncio
async def test_a_slow_nova_does_not_keep_those_waiting_who_have_a_document() -> None:
    clock = Clock()
    async with nova(FULL) as upstream, proxy(upstream, clock, stale_after=0.02) as shared:
        backend = NovaBackend(shared, subject(FULL))
        first = await ask(backend, META_DATA)
        upstream.stalled.add(FULL.uuid)
        clock.now += 20
        assert await ask(backend, META_DATA) is first
        upstream.go_on.set()
        await until(lambda: not shared.tasks)
        assert await ask(backend, META_DATA) is not first
        assert len(upstream.asked) == 2


@pytest.mark.asyncio
async def test_a_missing_document_ends_the_old_one() -> None:
    clock = Clock()
    async with nova(FULL) as upstream, proxy(upstream, clock) as shared:
        backend = NovaBackend(shared, subject(FULL))
        await ask(backend, META_DATA)
        clock.now += 20
        del upstream.instances[FULL.uuid]
        assert (await ask(backend, META_DATA)).status == 404
        upstream.hook = _error
        upstream.instances[FULL.uuid] = FULL
        assert (await ask(backend, META_DATA)).status == 500


@pytest.mark.asyncio
async def test_timeouts_by_route() -> None:
    async with (
        nova(FULL) as upstream,
        proxy(upstream, timeout=0.05, vendordata_timeout=5.0, password_timeout=0.06) as shared,
    ):
        upstream.stalled.add(FULL.uuid)
        backend = NovaBackend(shared, subject(FULL))
        vendordata = asyncio.create_task(ask(backend, "/openstack/latest/vendor_data2.json"))
        assert (await ask(backend, META_DATA)).status == 504
        assert (await ask(backend, "/openstack/latest/password", "POST", b"x")).status == 504
        assert not vendordata.done()
        upstream.go_on.set()
        assert (await vendordata).status == 200
        assert shared.counters.requests == {"timeout": 2, "200": 1}


@pytest.mark.asyncio
async def test_a_stall_for_one_project_moves_nobody_else() -> None:
    green = msgspec.structs.replace(BARE, uuid="00000000-0000-4000-8000-000000000002", project_id="green")
    async with nova(FULL, green) as upstream, proxy(upstream, connections=8, connections_per_project=2) as shared:
        upstream.stalled.add(FULL.uuid)
        blues = [NovaBackend(shared, subject(FULL, port_id=f"p{number}")) for number in range(50)]
        asking = [asyncio.create_task(ask(blue, META_DATA)) for blue in blues]
        await until(lambda: len(upstream.asked) == 2)
        for number in range(20):
            found = await ask(NovaBackend(shared, subject(green, port_id=f"g{number}")), META_DATA)
            assert found.status == 200
        assert len(upstream.asked) == 22
        assert not any(task.done() for task in asking)
        upstream.go_on.set()
        assert {found.status for found in await asyncio.gather(*asking)} == {200}


@pytest.mark.asyncio
async def test_too_many_of_one_project() -> None:
    async with (
        nova(FULL) as upstream,
        proxy(upstream, connections_per_project=1, waiting_per_project=1) as shared,
    ):
        upstream.stalled.add(FULL.uuid)
        asking = [
            asyncio.create_task(ask(NovaBackend(shared, subject(FULL, port_id=str(number))), META_DATA))
            for number in range(3)
        ]
        await until(lambda: any(task.done() for task in asking))
        upstream.go_on.set()
        assert sorted(found.status for found in await asyncio.gather(*asking)) == [200, 200, 503]


@pytest.mark.asyncio
async def test_retired_ports_forget_and_waiting_requests_are_asked_again() -> None:
    async with nova(FULL) as upstream, proxy(upstream) as shared:
        backend = NovaBackend(shared, subject(FULL))
        await ask(backend, "/openstack")
        assert shared.library.size > 0
        upstream.stalled.add(FULL.uuid)
        asking = asyncio.create_task(ask(backend, META_DATA))
        await until(lambda: len(upstream.asked) == 2)
        backend.retire()
        with pytest.raises(RetiredError):
            await asking
        assert shared.library.size == 0
        await until(lambda: not shared.tasks)
        assert shared.turns.used == 0


@pytest.mark.asyncio
async def test_password() -> None:
    path = "/openstack/2013-04-04/password"
    async with nova(FULL) as upstream, proxy(upstream) as shared:
        backend = NovaBackend(shared, subject(FULL))
        assert (await ask(backend, path)).body == b""
        assert (await ask(backend, path, "POST")).status == 404
        assert len(upstream.asked) == 1
        assert (await ask(backend, path, "POST", bytes(1021))).status == 400
        assert (await ask(backend, path, "POST", b"\x00\xff", content_type="application/x")).status == 200
        assert upstream.bodies[-1] == b"\x00\xff"
        assert upstream.asked[-1].headers["content-type"] == "application/x"
        assert (await ask(backend, path, "POST", b"again")).status == 409
        for _ in range(2):
            assert (await ask(backend, path)).body == b"\x00\xff"
        assert shared.library.size == 0
        assert shared.counters.hits == {}
        assert len(upstream.asked) == 6


@pytest.mark.asyncio
async def test_a_password_that_is_under_way_arrives_though_the_guest_has_gone() -> None:
    async with nova(FULL) as upstream, proxy(upstream) as shared:
        upstream.stalled.add(FULL.uuid)
        backend = NovaBackend(shared, subject(FULL))
        asking = asyncio.create_task(ask(backend, "/openstack/latest/password", "POST", b"secret"))
        await until(lambda: upstream.asked)
        asking.cancel()
        upstream.go_on.set()
        await until(lambda: upstream.passwords.load(FULL.uuid) == b"secret")


@pytest.mark.asyncio
@pytest.mark.parametrize("status", [200, 202, 204, 302, 304, 400, 401, 404, 409, 413, 418, 429, 451, 500, 502, 599])
async def test_every_status_is_passed_on(status: int) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(
            status=status, reason="Strange", headers={
                "Content-Type": "x/y", "ETag": '"1"', "Keep-Alive": "timeout=5", "Location": "http://127.0.0.1:1/",
                "Set-Cookie": "a=b", "Server": "nova", "Retry-After": "7", "Content-Encoding": "gzip",
            }, body=b"" if status in (204, 304) else b"\x1f\x8b\x00",
        )  # fmt: skip

    async with nova(FULL) as upstream, proxy(upstream) as shared:
        upstream.hook = answer
        found = await ask(NovaBackend(shared, subject(FULL)), META_DATA)
        assert found.status == status
        assert {name.lower(): value for name, value in found.headers} == {
            "etag": '"1"',
            "retry-after": "7",
            "content-encoding": "gzip",
        }
        assert found.body == (b"" if status in (204, 304) else b"\x1f\x8b\x00")
        assert len(upstream.asked) == 1


@pytest.mark.asyncio
async def test_too_large() -> None:
    async def chunked(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for _ in range(10):
            await response.write(bytes(100))
        return response

    async def whole(request: web.Request) -> web.Response:
        return web.Response(body=bytes(1000))

    async with nova(FULL) as upstream, proxy(upstream, response_bytes=999) as shared:
        backend = NovaBackend(shared, subject(FULL))
        for hook in (chunked, whole):
            upstream.hook = hook
            assert (await ask(backend, META_DATA)).status == 502
        assert shared.counters.requests == {"too_large": 2}
    async with nova(FULL) as upstream, proxy(upstream, response_bytes=1000) as shared:
        upstream.hook = chunked
        assert (await ask(NovaBackend(shared, subject(FULL)), META_DATA)).body == bytes(1000)


@pytest.mark.asyncio
async def test_connections_are_kept() -> None:
    async with nova(FULL) as upstream, proxy(upstream, cache_seconds=0.0) as shared:
        backend = NovaBackend(shared, subject(FULL))
        for _ in range(10):
            assert (await ask(backend, META_DATA)).status == 200
        assert len(upstream.asked) == 10
        assert len(upstream.connections) == 1


@pytest.mark.asyncio
async def test_a_booting_guest_finds_its_documents() -> None:
    async with nova(FULL) as upstream, proxy(upstream, prefetch=True) as shared:
        backend = NovaBackend(shared, subject(FULL))
        found = await ask(backend, "/openstack")
        await until(lambda: not shared.tasks)
        assert not any("password" in path for path in upstream.paths)
        assert len(upstream.paths) == len(set(upstream.paths))
        before = len(upstream.asked)
        version = "2018-08-27"
        for item in ("meta_data.json", "user_data", "vendor_data.json", "vendor_data2.json", "network_data.json"):
            assert (await ask(backend, f"/openstack/{version}/{item}")).status == 200
        tree = "/latest/meta-data/"
        for name in (await ask(backend, tree)).body.decode().split("\n"):
            assert (await ask(backend, tree + name)).status == 200
        assert (await ask(backend, tree + "public-keys/0/openssh-key")).body == b"ssh-ed25519 AAAA me"
        assert (await ask(backend, tree + "block-device-mapping/root")).status == 200
        assert (await ask(backend, "/openstack")) is found
        assert len(upstream.asked) == before


@pytest.mark.asyncio
async def test_nothing_is_fetched_ahead_for_a_guest_that_is_up() -> None:
    clock = Clock()
    async with nova(FULL) as upstream, proxy(upstream, clock, prefetch=True) as shared:
        backend = NovaBackend(shared, subject(FULL))
        for _ in range(5):
            await ask(backend, "/latest/meta-data/hostname")
            clock.now += 20
            await ask(backend, META_DATA)
            clock.now += 20
        await until(lambda: not shared.tasks)
        assert set(upstream.paths) == {"/latest/meta-data/hostname", META_DATA}
        clock.now += 31
        await ask(backend, META_DATA)
        await until(lambda: not shared.tasks)
        assert "/openstack/latest/network_data.json" in upstream.paths


@pytest.mark.asyncio
async def test_prefetch_leaves_the_turns_to_guests() -> None:
    async with nova(FULL) as upstream, proxy(upstream, prefetch=True, connections_per_project=2) as shared:
        await shared.turns.take("blue-project")
        await ask(NovaBackend(shared, subject(FULL)), META_DATA)
        await until(lambda: not shared.tasks)
        assert shared.turns.used == 1
        shared.turns.give("blue-project")


@pytest.mark.asyncio
async def test_many_booting_guests_have_little_fetched_ahead_at_once() -> None:
    """What is fetched ahead for all of them is work that the requests of others would have to wait for."""
    green = msgspec.structs.replace(BARE, uuid="00000000-0000-4000-8000-000000000002", project_id="green")
    async with nova(FULL, green) as upstream, proxy(upstream, prefetch=True, connections=32) as shared:
        under_way: list[str] = []
        most: list[int] = []

        async def count(request: web.Request) -> None:
            under_way.append(request.headers["X-Tenant-ID"])
            most.append(len(under_way))
            await asyncio.sleep(0.002)
            under_way.remove(request.headers["X-Tenant-ID"])

        upstream.hook = count
        backends = [
            NovaBackend(shared, subject(instance, port_id=f"{instance.project_id}-{number}"))
            for instance in (FULL, green)
            for number in range(5)
        ]
        for backend in backends:
            assert (await ask(backend, "/openstack")).status == 200
        await until(lambda: not shared.tasks)
        assert max(most) <= 1 + shared.settings.connections // 8
        before = len(upstream.asked)
        for backend in backends:
            assert (await ask(backend, "/latest/meta-data/placement/availability-zone")).status == 200
        assert len(upstream.asked) == before


@pytest.mark.asyncio
async def test_a_stall_for_one_project_leaves_the_others_what_is_fetched_ahead() -> None:
    green = msgspec.structs.replace(BARE, uuid="00000000-0000-4000-8000-000000000002", project_id="green")
    async with nova(FULL, green) as upstream, proxy(upstream, prefetch=True) as shared:
        for number in range(20):
            blue = NovaBackend(shared, subject(FULL, port_id=f"p{number}"))
            assert (await ask(blue, "/openstack")).status == 200
        upstream.stalled.add(FULL.uuid)
        other = NovaBackend(shared, subject(green, port_id="q"))
        assert (await ask(other, "/openstack")).status == 200
        await until(lambda: "/latest/meta-data/instance-id" in [
            request.path for request in upstream.asked if request.headers["X-Tenant-ID"] == "green"
        ])  # fmt: skip
        upstream.go_on.set()
        await until(lambda: not shared.tasks)


@pytest.mark.asyncio
async def test_provider_mode() -> None:
    async with (
        nova(FULL) as upstream,
        proxy(upstream, mode="provider", provider_id="edge-{network_id}") as shared,
    ):
        upstream.addresses["edge-blue-net", "10.0.0.5"] = FULL.uuid
        found = await ask(NovaBackend(shared, subject(FULL)), "/openstack/latest/user_data")
        assert found.body == FULL.user_data
        assert "X-Instance-ID" not in upstream.asked[0].headers
        assert (await ask(NovaBackend(shared, subject(FULL, address="10.0.0.9")), META_DATA)).status == 400


@pytest.mark.asyncio
async def test_a_provider_that_finds_another_instance_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    green = msgspec.structs.replace(BARE, uuid="00000000-0000-4000-8000-000000000002", project_id="green")
    async with nova(FULL, green) as upstream, proxy(upstream, mode="provider", provider_id="edge") as shared:
        upstream.addresses["edge", "10.0.0.5"] = FULL.uuid
        found = await ask(NovaBackend(shared, subject(green)), "/openstack/latest/user_data")
        assert found.status == 503
        assert "metadata.nova_wrong_instance" in [record.message for record in caplog.records]
        upstream.hook = _not_json
        assert (await ask(NovaBackend(shared, subject(green)), META_DATA)).status == 503


async def _not_json(request: web.Request) -> web.Response:
    return web.Response(text=json.dumps(["uuid"]))
