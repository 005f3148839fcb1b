"""The gate in the server: over connections, kept and new, of two tenants at the same address."""

from __future__ import annotations

from metadata import imds
from metadata.access import OPEN, Access
from metadata.backend import OwnBackend
from metadata.identity import Known
from metadata.tokens import KeyRing, TokenKeys
from metadata.tree import InstanceTree
from tests.unit.metadata.conftest import Run
from tests.unit.metadata.lab import Guest, Lab, lab
from tests.unit.metadata.sample import BARE, FULL, NOW

A = "127.0.0.5"
TTL = "X-aws-EC2-metadata-token-TTL-seconds: 60"  # case never matters
HOSTNAME = "/latest/meta-data/hostname"


def close_the_gate(it: Lab) -> None:
    """Blue and green at the same address, tokens required, a clock that stands still."""
    keys = TokenKeys(KeyRing.fresh(NOW))
    it.server.gate = lambda request, known, now: imds.gate(request, known, keys, NOW)
    it.attach("green")
    for network, document in (("blue", FULL), ("green", BARE)):
        backend = OwnBackend(InstanceTree(document))
        it.ports.verdicts[network, A] = Known(f"{network}-port", backend, Access(http_tokens_required=True))


async def token(guest: Guest) -> str:
    status, headers, body = await guest.ask("/latest/api/token", TTL, method="PUT")
    assert status == 200
    assert headers["x-aws-ec2-metadata-token-ttl-seconds"] == "60"
    return f"x-aws-ec2-metadata-token: {body.decode()}"


def test_tokens_on_one_connection_and_on_others(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            close_the_gate(it)
            guest = await it.guest()
            assert (await guest.ask(HOSTNAME))[0] == 401
            mine = await token(guest)
            assert (await guest.ask(HOSTNAME, mine))[2] == b"blue-one.novalocal"
            assert (await guest.ask(HOSTNAME))[0] == 401
            for _ in range(3):  # the same bytes again, each on a connection of its own
                assert (await (await it.guest()).ask(HOSTNAME, mine))[2] == b"blue-one.novalocal"
                assert (await (await it.guest(network="green")).ask(HOSTNAME, mine))[0] == 401
                assert (await (await it.guest()).ask(HOSTNAME))[0] == 401
            assert (await guest.ask(HOSTNAME, mine, mine))[0] == 401
            assert (await guest.ask(HOSTNAME, mine, "X-Forwarded-For:"))[0] == 403

    run(test())


def test_tokens_among_requests_sent_ahead(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            close_the_gate(it)
            guest = await it.guest()
            mine = await token(guest)
            with_token, without = (f"GET {HOSTNAME} HTTP/1.1\r\n{header}\r\n" for header in (f"{mine}\r\n", ""))
            await guest.send((with_token + without + with_token).encode())
            assert [(await guest.answer())[0] for _ in range(3)] == [200, 401, 200]

    run(test())


def test_a_body_with_the_put_is_not_minded(run: Run) -> None:
    """curl and some libraries send one, or `Content-Length: 0`."""

    async def test() -> None:
        async with lab() as it:
            close_the_gate(it)
            guest = await it.guest()
            for extra in ("Content-Length: 0\r\n\r\n", "Content-Length: 2\r\n\r\n{}"):
                await guest.send(f"PUT /latest/api/token HTTP/1.1\r\n{TTL}\r\n{extra}".encode())
                assert (await guest.answer())[0] == 200

    run(test())


def test_options_hold_from_the_next_request_on_for_bytes_that_are_known(run: Run) -> None:
    """A request that needed no gate is asked again and again on one connection, while the port's options change."""

    async def test() -> None:
        async with lab() as it:
            close_the_gate(it)
            backend = OwnBackend(InstanceTree(FULL))
            guest = await it.guest()
            for _ in range(2):
                for access, status in (
                    (OPEN, 200),
                    (Access(http_tokens_required=True), 401),
                    (OPEN, 200),
                    (Access(http_endpoint=False), 403),
                ):
                    it.ports.verdicts["blue", A] = Known("blue-port", backend, access)
                    for _ in range(3):
                        assert (await guest.ask(HOSTNAME))[0] == status

    run(test())


def test_what_concerns_the_gate_passes_it_however_often_it_comes(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            close_the_gate(it)
            it.ports.verdicts["blue", A] = Known("blue-port", OwnBackend(InstanceTree(FULL)), OPEN)
            guest = await it.guest()
            for _ in range(3):
                assert (await guest.ask("/latest/api/token", "X-Forwarded-For: 10.0.0.1", method="PUT"))[0] == 403
                assert (await guest.ask("/latest/api/token"))[0] == 405
                assert (await guest.ask(HOSTNAME, "X-metadata-token: wrong"))[0] == 401
                assert (await guest.ask(HOSTNAME, "X-Forwarded-For: 10.0.0.1"))[0] == 200

    run(test())
