"""The server on loopback: networks, identity, holding, keep-alive, limits of time and number."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import resource
import socket
import tracemalloc
from functools import partial

import msgspec
import pytest

from fastpath import sockets
from metadata import server as server_module
from metadata.exchange import Accepted
from metadata.identity import SPOOFED, Caller
from metadata.settings import Settings
from tests.unit.metadata.conftest import Run
from tests.unit.metadata.lab import LOOPBACK_MAC, Ports, lab, listening, until
from tests.unit.metadata.sample import BARE, FULL

QUICK = Settings(defer_accept_seconds=0, sweep_seconds=0.01)
A, B = "127.0.0.5", "127.0.0.6"


def test_a_guest_gets_its_own_documents(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            it.attach("green")
            it.ports.know("blue", A, FULL)
            it.ports.know("blue", B, msgspec.structs.replace(FULL, name="Blue two"))
            it.ports.know("green", A, msgspec.structs.replace(FULL, name="Green one"))
            for network, address, name in [("blue", A, "Blue one"), ("blue", B, "Blue two"), ("green", A, "Green one")]:
                guest = await it.guest(address, network)
                status, headers, body = await guest.ask("/openstack/latest/meta_data.json")
                assert status == 200
                assert headers["content-type"] == "application/json"
                assert json.loads(body)["name"] == name
                assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers["date"])
            assert it.ports.asked[0] == Caller("blue", LOOPBACK_MAC, A)
            assert it.server.totals().requests == {("openstack", "200"): 3}

    run(test())


def test_the_source_mac_comes_from_the_syn_with_deferred_accept(run: Run) -> None:
    async def test() -> None:
        async with lab(Settings()) as it:
            it.ports.know("blue", A, FULL)
            guest = await it.guest()
            assert (await guest.ask("/", "Connection: close"))[0] == 200
            assert it.ports.asked == [Caller("blue", LOOPBACK_MAC, A)]
            assert await guest.rest() == b""

    run(test())


def test_headers_never_say_who_is_asking(run: Run) -> None:
    lies = ["X-Forwarded-For", "Forwarded", "X-Real-IP", "X-Instance-ID", "X-Tenant-ID", "X-Metadata-Provider"]
    lies += ["X-Neutron-Network-ID", "X-OVN-Network-ID", "X_Forwarded_For", "x-instance-id-signature"]

    async def test() -> None:
        async with lab() as it:
            it.ports.know("blue", A, FULL)
            it.ports.know("blue", B, BARE)
            guest = await it.guest()
            answer = await guest.ask("/latest/meta-data/hostname", *[f"{name}: {B}" for name in lies])
            assert answer[2] == b"blue-one.novalocal"
            assert set(it.ports.asked) == {Caller("blue", LOOPBACK_MAC, A)}

    run(test())


def test_an_unknown_caller_is_held_and_answered_when_its_port_appears(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            guest = await it.guest()
            answer = asyncio.ensure_future(guest.ask("/latest/meta-data/hostname"))
            await until(lambda: it.server.listeners["blue"].held)
            it.server.recheck("blue")
            it.server.recheck("no such network")
            assert not answer.done()
            it.ports.know("blue", A, FULL)
            it.server.recheck("blue")
            assert (await answer)[::2] == (200, b"blue-one.novalocal")
            assert (await guest.ask("/latest/meta-data/hostname"))[0] == 200
            assert not it.server.listeners["blue"].held
            assert it.server.totals().lookups == {"no_port": 1}

    run(test())


def test_an_unknown_caller_gets_503_in_the_end(run: Run) -> None:
    async def test() -> None:
        async with lab(msgspec.structs.replace(QUICK, hold_seconds=0.02, retry_after=1)) as it:
            guest = await it.guest()
            status, headers, _ = await guest.ask("/openstack")
            assert (status, headers["retry-after"]) == (503, "1")
            it.ports.know("blue", A, FULL)
            assert (await guest.ask("/openstack"))[0] == 200
            assert it.server.totals().requests == {("none", "503"): 1, ("openstack", "200"): 1}

    run(test())


def test_a_held_caller_can_turn_out_to_be_refused(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            guest = await it.guest()
            answer = asyncio.ensure_future(guest.ask("/"))
            await until(lambda: it.server.listeners["blue"].held)
            it.ports.verdicts["blue", A] = SPOOFED
            it.server.recheck("blue")
            assert (await answer)[0] == 403

    run(test())


def test_held_requests_are_bounded(run: Run) -> None:
    async def test() -> None:
        async with lab(msgspec.structs.replace(QUICK, held_per_network=1)) as it:
            first = await it.guest()
            await first.send(b"GET / HTTP/1.1\r\n\r\n")
            await until(lambda: it.server.listeners["blue"].held)
            second = await it.guest(B)
            assert (await second.ask("/"))[0] == 503
            assert it.server.totals().dropped == {"too_many_held": 1}

    run(test())


def test_a_refused_caller_is_answered_at_once(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with lab() as it:
            it.ports.verdicts["blue", A] = SPOOFED
            guest = await it.guest()
            assert (await guest.ask("/openstack"))[0] == 403
            assert it.server.totals().lookups == {"address_of_other_port": 1}

    with caplog.at_level(logging.INFO, "metadata"):
        run(test())
    assert [record.message for record in caplog.records] == ["metadata.refused_caller"]
    assert vars(caplog.records[0])["fields"]["address"] == A


def test_the_caller_is_looked_up_for_every_request(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            it.ports.know("blue", A, FULL)
            guest = await it.guest()
            assert (await guest.ask("/latest/meta-data/hostname"))[2] == b"blue-one.novalocal"
            it.ports.know("blue", A, BARE)
            assert (await guest.ask("/latest/meta-data/hostname"))[2] == b"bare"

    run(test())


def test_keep_alive_head_and_http_1_0(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            it.ports.know("blue", A, FULL)
            guest = await it.guest()
            for _ in range(3):
                status, headers, body = await guest.ask("/latest/user-data")
                assert (status, body) == (200, FULL.user_data)
                assert "connection" not in headers
            head = await guest.ask("/latest/user-data", method="HEAD")
            assert head[1]["content-length"] == str(len(FULL.user_data or b""))
            await guest.send(b"GET /latest/user-data HTTP/1.0\r\n\r\n")
            _, headers, body = await guest.answer()
            assert headers["connection"] == "close"
            assert await guest.rest() == b""
            assert it.server.listeners["blue"].connections == 0

    run(test())


def test_pipelined_requests_are_answered_in_order(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            guest = await it.guest()
            paths = ["hostname", "instance-id", "nothing", "local-ipv4"]
            await guest.send("".join(f"GET /latest/meta-data/{path} HTTP/1.1\r\n\r\n" for path in paths).encode())
            await until(lambda: it.server.listeners["blue"].held)
            it.ports.know("blue", A, FULL)
            it.server.recheck("blue")
            statuses = [(await guest.answer())[0] for _ in paths]
            assert statuses == [200, 200, 404, 200]

    run(test())


def test_a_slow_reader_gets_its_big_answer_in_pieces(run: Run) -> None:
    big = bytes(range(256)) * (1 << 14)  # 4 MiB

    async def test() -> None:
        async with lab() as it:
            it.ports.know("blue", A, msgspec.structs.replace(FULL, user_data=big))
            guest = await it.guest(receive=4096)
            await guest.send(b"GET /latest/user-data HTTP/1.1\r\n\r\n" * 2 + b"GET /nothing HTTP/1.0\r\n\r\n")
            assert (await guest.answer())[2] == big
            assert (await guest.answer())[2] == big
            assert (await guest.answer())[0] == 404
            assert await guest.rest() == b""

    run(test())


def test_who_does_not_read_is_dropped(run: Run) -> None:
    async def test() -> None:
        async with lab(msgspec.structs.replace(QUICK, write_timeout=0.02)) as it:
            it.ports.know("blue", A, msgspec.structs.replace(FULL, user_data=bytes(8 << 20)))
            guest = await it.guest(receive=4096)
            await guest.send(b"GET /latest/user-data HTTP/1.1\r\n\r\n")
            await until(lambda: it.server.totals().dropped.get("slow_reader"))
            assert it.server.listeners["blue"].connections == 0

    run(test())


@pytest.mark.parametrize(
    ("sent", "reason", "status"),
    [(b"GET / HT", "slow_request", 408), (b"", "idle", None), (b"GET / HTTP/1.1\r\n\r\n", "idle", 200)],
)
def test_slow_and_idle_guests_are_dropped(run: Run, sent: bytes, reason: str, status: int | None) -> None:
    async def test() -> None:
        async with lab(
            msgspec.structs.replace(QUICK, header_timeout=0.02, idle_timeout=0.02, linger_seconds=0.02)
        ) as it:
            it.ports.know("blue", A, FULL)
            guest = await it.guest()
            await guest.send(sent)
            if status:
                assert (await guest.answer())[0] == status
            assert await guest.rest() == b""
            assert it.server.totals().dropped == {reason: 1}
            await until(lambda: it.server.listeners["blue"].connections == 0)

    run(test())


def test_a_trickle_of_header_bytes_does_not_extend_the_time(run: Run) -> None:
    async def test() -> None:
        async with lab(msgspec.structs.replace(QUICK, header_timeout=0.05)) as it:
            it.ports.know("blue", A, FULL)
            guest = await it.guest()
            await guest.send(b"GET / HTTP/1.1\r\nX: ")

            async def trickle() -> None:
                while True:
                    await guest.send(b"a")
                    await asyncio.sleep(0.005)

            task = asyncio.ensure_future(trickle())
            assert (await guest.answer())[0] == 408
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run(test())


def test_connections_are_bounded_per_network(run: Run) -> None:
    async def test() -> None:
        async with lab(Settings(connections_per_network=1)) as it:
            it.attach("green")
            it.ports.know("blue", A, FULL)
            it.ports.know("green", A, FULL)
            first = await it.guest()
            assert (await first.ask("/"))[0] == 200
            second = await it.guest()
            status, headers, _ = await second.ask("/")
            assert (status, headers["connection"]) == (503, "close")
            neighbour = await it.guest(network="green")
            assert (await neighbour.ask("/"))[0] == 200
            assert it.server.totals().dropped == {"too_many_connections": 1}

    run(test())


def test_one_guest_leaves_held_requests_to_its_neighbours(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a MAC of its own, made from its address."""
    accept_each = sockets.accept_each

    def with_macs(listening: int, scratch: bytearray, size: int) -> list[Accepted]:
        return [
            (descriptor, bytes(8) + socket.inet_aton(peer) + b"\x08\x00", peer, data)
            for descriptor, _, peer, data in accept_each(listening, scratch, size)
        ]

    monkeypatch.setattr(sockets, "accept_each", with_macs)

    async def test() -> None:
        async with lab(msgspec.structs.replace(QUICK, held_per_network=4)) as it:

            def waiting(held: int) -> bool:
                return len(it.server.listeners["blue"].held) == held

            for held in (1, 2, 2):
                hog = await it.guest()
                await hog.send(b"GET / HTTP/1.0\r\n\r\n")
                await until(partial(waiting, held))
            assert (await hog.answer())[0] == 503
            victim = await it.guest(B)
            await victim.send(b"GET / HTTP/1.0\r\n\r\n")
            await until(partial(waiting, 3))
            it.ports.know("blue", B, FULL)
            it.server.recheck("blue")
            assert (await victim.answer())[0] == 200

    run(test())


@pytest.mark.parametrize("path", ["/latest/user-data", "/openstack/latest/meta_data.json"])
def test_slow_readers_of_one_big_document_share_its_bytes(run: Run, path: str) -> None:
    document = msgspec.structs.replace(FULL, user_data=bytes(8 << 20), meta={"big": "x" * (8 << 20)})

    async def test() -> None:
        async with lab() as it:
            it.ports.know("blue", A, document)
            guests = [await it.guest(receive=4096) for _ in range(12)]
            tracemalloc.start()
            for guest in guests:
                await guest.send(f"GET {path} HTTP/1.1\r\n\r\n".encode())
            await until(lambda: it.server.listeners["blue"].connections == len(guests))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 40 << 20
            status, _, body = await guests[0].answer()
            assert status == 200
            assert len(body) >= 8 << 20

    run(test())


def test_detach_closes_the_network_only(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            it.attach("green")
            it.ports.know("blue", A, FULL)
            it.ports.know("green", A, FULL)
            blue, green, held = await it.guest(), await it.guest(network="green"), await it.guest(B)
            assert (await blue.ask("/"))[0] == 200
            await held.send(b"GET / HTTP/1.1\r\n\r\n")
            await until(lambda: it.server.listeners["blue"].held)
            it.server.detach("blue")
            it.server.detach("blue")
            assert await blue.rest() == b""
            assert await held.rest() == b""
            with pytest.raises(ConnectionRefusedError):
                await it.guest()
            assert (await green.ask("/"))[0] == 200
            assert it.server.totals().requests == {("ec2", "200"): 2}

    run(test())


def test_a_network_can_have_several_sockets(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            it.ports.know("blue", A, FULL)
            first = await it.guest()
            listener = it.server.listeners["blue"]
            it.attach("blue")
            assert it.server.listeners["blue"] is listener
            second = await it.guest()
            assert (await first.ask("/"))[0] == (await second.ask("/"))[0] == 200
            assert listener.connections == 2

    run(test())


def test_new_settings_hold_from_now_on(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            it.server.configure(msgspec.structs.replace(QUICK, held_per_network=0, retry_after=7))
            guest = await it.guest()
            status, headers, _ = await guest.ask("/")
            assert (status, headers["retry-after"]) == (503, "7")

    run(test())


def test_a_mistake_in_the_lookup_is_one_guests_500(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Ports):
        def lookup(self, caller: Caller) -> object:  # type: ignore[override]
            if caller.address == B:
                raise KeyError("bug")
            return super().lookup(caller)

    async def test() -> None:
        async with lab() as it:
            it.server.lookup = ports = Broken()  # type: ignore[assignment]
            ports.know("blue", A, FULL)
            bad, good = await it.guest(B), await it.guest()
            assert (await bad.ask("/"))[0] == 500
            assert await bad.rest() == b""
            assert (await good.ask("/"))[0] == 200

    run(test())
    assert [record.message for record in caplog.records] == ["metadata.request_failed"]


def test_a_reset_in_the_middle_of_things_is_counted_and_harmless(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            it.ports.know("blue", A, FULL)
            guest = await it.guest()
            await guest.send(b"GET / HTTP")
            await until(lambda: it.server.listeners["blue"].connections)
            guest.writer.transport.abort()
            await until(lambda: it.server.totals().dropped == {"disconnected": 1})
            assert it.server.listeners["blue"].connections == 0

    run(test())


def test_many_listeners_can_be_attached_and_closed(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            for number in range(200):
                it.server.attach(f"n{number}", listening())
            assert len(it.server.listeners) == 201

    run(test())


def test_durations_are_observed_without_held_ones(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            seen: list[float] = []
            it.server.observe = seen.append
            guest = await it.guest()
            answer = asyncio.ensure_future(guest.ask("/"))
            await until(lambda: it.server.listeners["blue"].held)
            it.ports.know("blue", A, FULL)
            it.server.recheck("blue")
            await answer
            assert seen == []
            await guest.ask("/")
            assert len(seen) == 1
            assert 0 <= seen[0] < 10

    run(test())


def test_running_out_of_descriptors_is_survived(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "ACCEPT_PAUSE", 0.01)

    async def test() -> None:
        async with lab() as it:
            it.ports.know("blue", A, FULL)
            sock = socket.socket()
            sock.bind((A, 0))
            sock.setblocking(False)
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (sock.fileno() + 1, limits[1]))
            try:
                await asyncio.get_running_loop().sock_connect(sock, it.where["blue"])
                await until(lambda: caplog.records)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            await asyncio.get_running_loop().sock_sendall(sock, b"GET / HTTP/1.0\r\n\r\n")
            assert (await asyncio.get_running_loop().sock_recv(sock, 100)).startswith(b"HTTP/1.1 200 OK\r\n")
            sock.close()

    run(test())
    assert {record.message for record in caplog.records} == {"metadata.accept_failed"}


def test_a_socket_that_cannot_be_used_is_closed(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            wrong = socket.socket(socket.AF_UNIX)  # it has no options of TCP
            with pytest.raises(OSError, match="not supported"):
                it.server.attach("green", wrong)
            assert wrong.fileno() == -1
            assert set(it.server.listeners) == {"blue"}
            again = socket.socket(socket.AF_UNIX)
            with pytest.raises(OSError, match="not supported"):
                it.server.attach("blue", again)
            assert again.fileno() == -1
            it.ports.know("blue", A, FULL)
            assert (await (await it.guest()).ask("/"))[0] == 200

    run(test())
