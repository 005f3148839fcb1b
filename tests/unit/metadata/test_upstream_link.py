"""Connections to Nova over real sockets: which are kept, which are not, and whose answer is whose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from metadata import nova_client
from metadata.nova_client import NovaClient
from metadata.upstream import Answer, BrokenError, SlowError, UnreachableError, UpstreamError
from metadata.upstream_link import Link
from tests.unit.metadata.asking import settings
from tests.unit.metadata.conftest import Run
from tests.unit.metadata.lab import until

Say = Callable[[asyncio.StreamWriter, str], Awaitable[None]]


def answer(body: str, head: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{head}\r\n{body}".encode()


class Script:
    """A Nova that says what it is told to; by default the path that it was asked for."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.places: list[int] = []
        """For every request, the number of its connection."""
        self.open = 0
        self.say: Say = self.echo
        self.url = ""
        self._numbers = 0

    async def echo(self, writer: asyncio.StreamWriter, path: str) -> None:
        writer.write(answer(path))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number, self._numbers = self._numbers, self._numbers + 1
        self.open += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.heads.append(head)
                self.places.append(number)
                await self.say(writer, head.split(" ")[1])
                await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self.open -= 1


@asynccontextmanager
async def script(host: str = "127.0.0.1", **changes: object) -> AsyncIterator[tuple[Script, NovaClient]]:
    made = Script()
    server = await asyncio.start_server(made.serve, host, 0)
    name = f"[{host}]" if ":" in host else host
    made.url = f"http://{name}:{server.sockets[0].getsockname()[1]}"
    client = NovaClient(settings(made.url, **changes))
    try:
        yield made, client
    finally:
        await client.close()
        await until(lambda: not made.open)
        server.close()
        await server.wait_closed()


async def ask(client: NovaClient, path: str, method: str = "GET", seconds: float = 5.0, whole: int = 1000) -> Answer:
    return await client.ask(method, path, {"X-Mine": "1"}, None, seconds, whole)


async def echoed(client: NovaClient, path: str, method: str = "GET") -> bool:
    return (await ask(client, path, method)).body == path.encode()


def test_a_connection_carries_one_request_after_the_other(run: Run) -> None:
    async def test() -> None:
        async with script() as (nova, client):
            for number in range(5):
                assert await echoed(client, f"/{number}")
            assert nova.places == [0] * 5
            assert all(await asyncio.gather(*(echoed(client, f"/{number}") for number in range(20))))
            assert len(set(nova.places)) == 20
            assert nova.open == 20

    run(test())


def test_a_request_is_sent_again_when_the_kept_connection_had_ended(run: Run) -> None:
    async def test() -> None:
        async with script() as (nova, client):

            async def then_close(writer: asyncio.StreamWriter, path: str) -> None:
                await nova.echo(writer, path)
                writer.close()

            nova.say = then_close
            for number in range(5):
                assert await echoed(client, f"/{number}")
            assert nova.places == list(range(5))

    run(test())


def test_a_request_is_sent_again_once_and_only_if_nothing_was_answered(run: Run) -> None:
    async def test() -> None:
        async with script() as (nova, client):
            assert await echoed(client, "/first")

            async def hang_up(writer: asyncio.StreamWriter, path: str) -> None:
                writer.close()

            nova.say = hang_up
            with pytest.raises(BrokenError):
                await ask(client, "/lost")
            assert nova.places == [0, 0, 1]

            nova.say = nova.echo
            assert await echoed(client, "/second")

            async def half(writer: asyncio.StreamWriter, path: str) -> None:
                writer.write(b"HTTP/1.1 2")
                await writer.drain()
                writer.close()

            nova.say = half
            with pytest.raises(BrokenError):
                await ask(client, "/half")
            assert nova.places == [0, 0, 1, 2, 2]

    run(test())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_what_changes_something_goes_on_a_connection_of_its_own(run: Run, method: str) -> None:
    async def test() -> None:
        async with script() as (nova, client):
            assert await echoed(client, "/first")
            assert await echoed(client, "/change", method)
            assert await echoed(client, "/last")
            assert nova.places == [0, 1, 0]
            assert "\r\nConnection: close\r\n" in nova.heads[1]
            assert "\r\nContent-Length: 0\r\n" in nova.heads[1]

            async def hang_up(writer: asyncio.StreamWriter, path: str) -> None:
                writer.close()

            nova.say = hang_up
            with pytest.raises(BrokenError):
                await ask(client, "/change", method)
            assert nova.places == [0, 1, 0, 2]

    run(test())


def test_nobody_is_given_what_was_said_without_being_asked(run: Run) -> None:
    """An answer too many would be the answer to the next request of that connection: another tenant's."""

    async def test() -> None:
        async with script() as (nova, client):

            async def twice(writer: asyncio.StreamWriter, path: str) -> None:
                writer.write(answer(path) + answer("/stolen"))

            async def later(writer: asyncio.StreamWriter, path: str) -> None:
                writer.write(answer(path))
                await writer.drain()
                await asyncio.sleep(0.02)
                writer.write(answer("/stolen"))

            for say, wait in ((twice, 0.0), (later, 0.05)):
                nova.say = say
                for number in range(3):
                    assert await echoed(client, f"/{number}")
                    await asyncio.sleep(wait)
            assert nova.places == list(range(6))
            await until(lambda: not nova.open)

    run(test())


def test_an_answer_that_comes_too_late_is_nobodys(run: Run) -> None:
    async def test() -> None:
        async with script() as (nova, client):
            assert await echoed(client, "/first")
            go_on = asyncio.Event()

            async def wait(writer: asyncio.StreamWriter, path: str) -> None:
                await go_on.wait()
                await nova.echo(writer, path)

            nova.say = wait
            slow = asyncio.create_task(ask(client, "/slow", seconds=60.0))
            await until(lambda: len(nova.heads) == 2)
            with pytest.raises(SlowError, match=r"no answer within 0\.3 s"):
                await ask(client, "/late", seconds=0.3)  # its time is over before that of the one before
            gone = asyncio.create_task(ask(client, "/gone"))
            await until(lambda: len(nova.heads) == 4)
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone
            go_on.set()
            assert (await slow).body == b"/slow"
            nova.say = nova.echo
            assert await echoed(client, "/last")
            assert nova.places == [0, 0, 1, 2, 0]

    run(test())


def test_whoever_is_cancelled_when_the_answer_is_there_ends_the_connection_only_if_more_would_come(run: Run) -> None:
    async def test() -> None:
        async with script() as (nova, _):

            async def unfinished(writer: asyncio.StreamWriter, path: str) -> None:
                writer.write(answer(path)[:-1])

            loop = asyncio.get_running_loop()
            freed: list[Link] = []
            ended: list[Link] = []
            port = int(nova.url.rpartition(":")[2])
            _, link = await loop.create_connection(lambda: Link(loop, freed.append, ended.append), "127.0.0.1", port)
            link.deadline = loop.time() + 60
            for say, whole in ((nova.echo, 1000), (nova.echo, 2), (unfinished, 2)):
                assert not ended
                nova.say = say
                waiting = link.ask(b"GET /path HTTP/1.1\r\n\r\n", 1000, whole, 60.0, True)
                await until(waiting.done)
                assert (waiting.result().rest is not None) == (whole == 2)
                link.give_up(waiting)
            assert freed == [link, link]
            await until(lambda: ended)

    run(test())


def test_what_is_not_used_is_ended(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nova_client, "KEEP_SECONDS", 0.05)

    async def test() -> None:
        async with script() as (nova, client):
            await asyncio.gather(*(ask(client, "/") for _ in range(3)))
            for _ in range(4):
                await asyncio.sleep(0.02)
                await ask(client, "/again")
            await until(lambda: nova.open == 1)
            await until(lambda: nova.open == 0)
            assert await echoed(client, "/last")

    run(test())


@pytest.mark.parametrize(
    ("name", "value"), [("X", "a\r\nX-Instance-ID: other"), ("X", "a\nb"), ("X", "a\rb"), ("X\r\nY", "a"), ("X", "\0")]
)
def test_nothing_is_written_into_a_head_that_does_not_belong_there(run: Run, name: str, value: str) -> None:
    async def test() -> None:
        async with script() as (nova, client):
            with pytest.raises(BrokenError):
                await client.ask("GET", "/", {name: value}, None, 1.0, 100)
            with pytest.raises(BrokenError):
                await client.ask("GET", "/a b\r\nX: y", {}, None, 1.0, 100)
            assert nova.heads == []

    run(test())


def test_the_head(run: Run) -> None:
    async def test() -> None:
        async with script("::1") as (nova, client):
            await ask(client, "/a?b=c")
            port = nova.url.rpartition(":")[2]
            assert nova.heads == [
                f"GET /a?b=c HTTP/1.1\r\nHost: [::1]:{port}\r\nAccept-Encoding: identity\r\nX-Mine: 1\r\n\r\n"
            ]

    run(test())


def test_hosts(run: Run) -> None:
    async def test() -> None:
        for url, host in {
            "http://nova": "nova", "http://nova:80": "nova", "http://nova:443": "nova:443",
            "http://[fd00::1]": "[fd00::1]", "https://nova": "nova", "https://NOVA:443": "nova",
            "https://nova:80": "nova:80",
        }.items():  # fmt: skip
            client = NovaClient(settings(url))
            assert f"\r\nHost: {host}\r\n" in client._encode("GET", "/", {}, None, True).decode()
            await client.close()

    run(test())


def test_a_name_and_one_that_is_none(run: Run) -> None:
    async def test() -> None:
        async with script() as (nova, client):
            await client.close()
            named = NovaClient(settings(nova.url.replace("127.0.0.1", "localhost")))
            assert await echoed(named, "/by_name")
            await named.close()
            wrong = NovaClient(settings("http://nova.invalid"))
            with pytest.raises(UnreachableError):
                await ask(wrong, "/")
            await wrong.close()

    run(test())


def test_all_connections_end_with_the_client(run: Run) -> None:
    async def test() -> None:
        async with script() as (nova, client):
            assert await echoed(client, "/idle")

            async def never(writer: asyncio.StreamWriter, path: str) -> None:
                await asyncio.sleep(0)

            nova.say = never
            asking = [asyncio.create_task(ask(client, "/")) for _ in range(3)]
            await until(lambda: len(nova.heads) == 4)
            await client.close()
            for found in await asyncio.gather(*asking, return_exceptions=True):
                assert isinstance(found, UpstreamError)
            await until(lambda: not nova.open)

    run(test())
