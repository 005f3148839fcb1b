"""Whatever ports ask, change and wait for: no answer is ever another port's, none outlives its port, all is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from metadata.backend import RetiredError
from metadata.http1 import Request
from metadata.nova import NovaBackend
from metadata.nova_cache import SHELF_ENTRIES, Library, Shelf
from metadata.nova_proxy import NovaProxy
from metadata.nova_settings import NovaSettings
from metadata.responses import Response
from metadata.signature import Subject, sign
from metadata.streamed import Streamed, let_go
from metadata.upstream import Answer, BrokenError, SlowError, UnreachableError
from tests.unit.metadata.asking import CALLER, Clock, Parts

SECRET = "s3cr3t"
PORTS = 3
PATHS = ("/openstack", "/openstack/latest/meta_data.json", "/latest/meta-data/", "/openstack/latest/password")
FAILURES = (UnreachableError, SlowError, BrokenError)


class Upstream:
    """Answers with who asked, after as many turns of the loop as it is told, or fails."""

    def __init__(self) -> None:
        self.turns = 0
        self.failure: type[Exception] | None = None
        self.generation = [0] * PORTS
        self.status = 200
        self.large = False
        self.streamed = 0
        self.let_go: list[None] = []

    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, seconds: float, whole: int
    ) -> Answer:
        instance = headers["X-Instance-ID"]
        assert headers["X-Instance-ID-Signature"] == sign(SECRET, instance)
        failure, status = self.failure, self.status
        for _ in range(self.turns):
            await asyncio.sleep(0)
        if failure is not None:
            raise failure("x")
        answer = f"{instance} {headers['X-Tenant-ID']} {target}".encode()
        if not self.large:
            return Answer(status, "text/plain", (), answer)
        self.streamed += 1
        return Answer(status, "text/plain", (), answer[:2], Parts(answer[2:], self.let_go))

    async def close(self) -> None:
        pass


def subject(port: int, generation: int) -> Subject:
    """All ports have the same address and network; every generation of a port is another instance."""
    return Subject(
        port_id=f"p{port}",
        network_id="n",
        instance_id=f"i{port}-{generation}",
        project_id=f"t{port}",
        address="10.0.0.5",
    )


step = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, PORTS - 1), st.sampled_from(PATHS)),
    st.tuples(st.just("change"), st.integers(0, PORTS - 1), st.just("")),
    st.tuples(st.just("wait"), st.integers(0, 40), st.just("")),
    st.tuples(st.just("turns"), st.integers(0, 4), st.just("")),
    st.tuples(st.just("fail"), st.integers(0, len(FAILURES)), st.just("")),
    st.tuples(st.just("status"), st.sampled_from([200, 200, 404, 500]), st.just("")),
    st.tuples(st.just("large"), st.integers(0, 1), st.just("")),
    st.tuples(st.just("hang up"), st.integers(0, 100), st.just("")),
    st.tuples(st.just("run"), st.integers(0, 5), st.just("")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(step, max_size=40), st.booleans())
def test_isolation(steps: list[tuple[str, int, str]], prefetch: bool) -> None:
    async def test() -> None:
        clock, upstream = Clock(), Upstream()
        proxy = NovaProxy(
            NovaSettings(
                url="http://nova", secrets=(SECRET,), hold_seconds=0, connections=3, connections_per_project=2,
                prefetch=prefetch, cache_bytes=1 << 15, stale_after=0.0,
            ), upstream, clock=clock,
        )  # fmt: skip
        generations = [0] * PORTS
        backends = [NovaBackend(proxy, subject(port, 0)) for port in range(PORTS)]
        asking: list[asyncio.Task[None]] = []

        async def one(port: int, path: str) -> None:
            generation, backend = generations[port], backends[port]
            try:
                # Awaited here, not in a task of its own: what is checked below is the moment of the answer.
                answer = backend.answer(Request("GET", path.encode(), True), CALLER, 0.0)
                found = answer if isinstance(answer, Response) else await answer
            except asyncio.CancelledError:
                if isinstance(answer, asyncio.Future):
                    answer.add_done_callback(let_go)  # it may have come in the same moment
                raise
            except RetiredError:
                assert backends[port] is not backend
                return
            if isinstance(answer, asyncio.Future) and backends[port] is not backend:
                # It came just before the change: the server looks the caller up again, and asks anew.
                let_go(answer)
                return
            if isinstance(found, Streamed):
                # It had begun; a change in the middle of it is no other guest's.
                assert generations[port] == generation
                body = found.first
                try:
                    while part := await found.rest.read():
                        body += part
                finally:
                    found.close()
                assert body == f"i{port}-{generation} t{port} {path.rstrip('/')}".encode()
            elif found.status == 200:
                # What was begun before a change may be there, but only if nothing had changed when it was given out.
                assert generations[port] == generation
                assert found.body.startswith(f"i{port}-{generation} t{port} {path.rstrip('/')}".encode())

        for kind, number, path in steps:
            match kind:
                case "ask":
                    asking.append(asyncio.create_task(one(number, path)))
                    await asyncio.sleep(0)
                case "change":
                    generations[number] += 1
                    backends[number].retire()
                    backends[number] = NovaBackend(proxy, subject(number, generations[number]))
                case "wait":
                    clock.now += number
                case "turns":
                    upstream.turns = number
                case "fail":
                    upstream.failure = (*FAILURES, None)[number]
                case "status":
                    upstream.status = number
                case "large":
                    upstream.large = bool(number)
                case "hang up":
                    if asking:
                        asking[number % len(asking)].cancel()
                case "run":
                    for _ in range(number):
                        await asyncio.sleep(0)
            assert proxy.library.size <= 1 << 15
            assert proxy.turns.used <= 3
        for outcome in await asyncio.gather(*asking, return_exceptions=True):
            assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome
        while proxy.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert proxy.turns.used == 0
        assert len(upstream.let_go) == upstream.streamed
        await proxy.close()

    asyncio.run(test())


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100), st.integers(0, 5000), st.booleans()), max_size=200))
def test_bounds(steps: list[tuple[int, int, int, bool]]) -> None:
    """Against a stupid model: what is found is what was put last, and never from another shelf."""
    library = Library(1 << 15)
    shelves = [Shelf(library) for _ in range(6)]
    model: dict[tuple[int, int], Response] = {}
    for shelf, key, size, clear in steps:
        if clear and size < 500:
            shelves[shelf].clear()
            model = {known: response for known, response in model.items() if known[0] != shelf}
        else:
            model[shelf, key] = Response(200, "", bytes(size % 1000))
            shelves[shelf].put((str(key), ""), model[shelf, key], 0.0)
        assert library.size == sum(other.size for other in shelves) <= 1 << 15
        assert all(len(other) <= SHELF_ENTRIES for other in shelves)
        for (one, two), response in model.items():
            entry = shelves[one].get((str(two), ""))
            assert entry is None or entry.response is response
