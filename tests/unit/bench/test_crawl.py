"""The crawl is cloud-init's, and what it is answered is each instance's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench import crawl
from metadata import prefetch, tree
from metadata.records import InstanceDocument, KeyRecord

NUMBERS = (0, 1, 2, 9, 10, 255, 499)


def walk(get: Callable[[str], bytes], path: str) -> Iterator[str]:
    """As cloud-init reads the EC2 tree: what a listing holds, directories first."""
    yield path
    lines = [line.strip() for line in get(path).decode().splitlines()]
    for line in filter(None, lines):
        if line.endswith("/"):
            yield from walk(get, path + line)
    for line in filter(None, lines):
        number, has_name, _ = line.partition("=")
        if not line.endswith("/"):
            yield path + (f"{number}/openssh-key" if has_name else line)


def test_it_is_what_the_listings_lead_to() -> None:
    document = InstanceDocument(uuid="u", project_id="p", hostname="vm", keys=(KeyRecord(name="k", data="ssh-rsa A"),))

    def own(path: str) -> bytes:
        return tree.answer(document, "GET", path.encode(), 1.7e9).body

    def stand_in(path: str) -> bytes:
        return crawl.body(path, 5) or b""

    assert len(crawl.PATHS) == 28
    assert list(walk(own, crawl.META)) == list(walk(stand_in, crawl.META)) == list(crawl.PATHS[7:])


def test_every_path_is_one_that_is_fetched_ahead() -> None:
    wanted = list(prefetch.first(("openstack",)))
    ahead = set()
    while wanted:
        elements, listing = wanted.pop()
        path = "/" + "/".join(elements[1:] if elements[0] == "ec2" else elements)
        ahead.add(path)
        if listing:
            wanted += prefetch.children(elements, crawl.body(path, 3) or b"")
    assert ahead == {path.rstrip("/") for path in crawl.PATHS}


def test_no_two_instances_are_answered_the_same() -> None:
    for path in crawl.PATHS:
        bodies = [crawl.body(path, number) for number in NUMBERS]
        assert None not in bodies
        assert len(set(bodies)) == len(NUMBERS), path
        assert bodies == [crawl.body(path, number) for number in NUMBERS]


def test_there_is_nothing_else() -> None:
    for path in ("/", "/latest", "/latest/meta-data/nothing", "/latest/meta-data/ami-id/x", f"{crawl.TREE}/content"):
        assert crawl.body(path, 0) is None, path
