"""What the cases about many guests at once count, and how their guests go on after a failure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import pytest

from bench import crawl
from bench.cases import boot_storm, nova_stall
from bench.http_guests import Reply, parse
from bench.percentile import percentile
from bench.tenants import GUESTS, tenants
from dataplane import documents

NUMBER = 12


class Client:
    """Answers at once with what it was given, then rightly; retries are made without waiting."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = deque(replies)
        self.calls: deque[Callable[[], None]] = deque()
        self.asked: list[str] = []

    def at(self, _moment: float, call: Callable[[], None]) -> None:
        self.calls.append(call)

    def ask(self, guest: int, path: str, done: Callable[[Reply], None]) -> None:
        self.asked.append(path)
        reply = self.replies.popleft() if self.replies else Reply(200, crawl.body(path, guest) or b"", 0.25)
        self.calls.append(lambda: done(reply))


def run(*replies: Reply) -> tuple[boot_storm.Storm, Client]:
    client, storm = Client(*replies), boot_storm.Storm(1)
    boot_storm._Crawl(NUMBER, 0.0, storm, client).ask()  # type: ignore[arg-type]
    while client.calls:
        client.calls.popleft()()
    return storm, client


def test_a_crawl_takes_every_document_once() -> None:
    storm, client = run()
    assert client.asked == list(crawl.PATHS)
    assert storm.requests == [0.25] * len(crawl.PATHS)
    assert len(storm.crawls) == 1
    assert not storm.failures


def test_a_crawl_goes_on_after_failures() -> None:
    storm, client = run(Reply(503, b"", 0.1), Reply(0, b"", 0.1, "broken"))
    assert client.asked == [crawl.PATHS[0]] * 2 + list(crawl.PATHS)
    assert storm.failures == {"503": 1, "broken": 1}
    assert storm.server_errors == 1
    assert len(storm.crawls) == 1


@pytest.mark.parametrize("reply", [Reply(200, crawl.body(crawl.PATHS[0], 13) or b"", 0.1), Reply(404, b"", 0.1)])
def test_a_crawl_ends_with_a_wrong_answer(reply: Reply) -> None:
    storm, client = run(reply)
    assert len(client.asked) == 1
    assert storm.failures.total() == 1
    assert not storm.crawls


def test_a_crawl_gives_up() -> None:
    storm, _ = run(*[Reply(502, b"", 0.1)] * 10)
    assert storm.failures == {"502": 1 + boot_storm.RETRIES}
    assert not storm.crawls


def test_arrivals_are_the_seed_s() -> None:
    moments = boot_storm.arrivals(500, 10.0, 1)
    assert moments == boot_storm.arrivals(500, 10.0, 1) != boot_storm.arrivals(500, 10.0, 2)
    assert min(moments) == 0
    assert max(moments) <= 10


def test_a_whole_answer_is_told_from_a_part_of_one() -> None:
    whole = b"HTTP/1.1 503 Service Unavailable\r\nA: b\r\ncontent-length: 4\r\n\r\nbody"
    assert parse(whole) == (503, b"body")
    assert [parse(whole[:end]) for end in range(len(whole))] == [None] * len(whole)
    assert parse(b"HTTP/1.1 200 OK\r\n\r\ncontent-length: 1\r\n") is None


def test_percentiles_are_of_the_values() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert [percentile(values, percent) for percent in (0, 50, 99, 100)] == [1.0, 50.0, 99.0, 100.0]
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
    assert nova_stall.ratio([1.0, 2.0], [3.0]) == 1.5
    assert nova_stall.ratio([], [3.0]) is None


def test_tenants_overlap_and_are_valid() -> None:
    document, guests = tenants(3)
    state = documents.decode(document)
    assert len(state.networks) == 3
    assert len(state.ports) == len(guests) == 3 * GUESTS
    assert len({guest.mac for guest in guests}) == len({guest.instance for guest in guests}) == 3 * GUESTS
    assert len({guest.cidr for guest in guests}) == GUESTS
    assert [port.mac_address for port in state.ports] == [guest.mac for guest in guests]
