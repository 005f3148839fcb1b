"""The cache's bounds."""

from __future__ import annotations

from metadata.nova_cache import SHELF_ENTRIES, Library, Shelf
from metadata.responses import Response


def response(size: int = 10) -> Response:
    return Response(200, "text/plain", b"x" * size)


def test_put_get_drop_clear() -> None:
    library = Library(1 << 20)
    shelf = Shelf(library)
    first, second = response(), response()
    shelf.put(("/a", ""), first, 1.0)
    shelf.put(("/a", ""), second, 2.0)
    entry = shelf.get(("/a", ""))
    assert entry is not None
    assert entry.response is second
    assert entry.fetched == 2.0
    assert len(library) == 1
    assert library.size == shelf.size == entry.size
    shelf.drop(("/a", ""))
    assert shelf.get(("/a", "")) is None
    assert library.size == len(library) == 0
    shelf.put(("/a", ""), first, 1.0)
    shelf.clear()
    assert library.size == len(library) == len(shelf) == 0


def test_what_the_guest_wrote_counts_as_well() -> None:
    library = Library(1 << 20)
    shelf = Shelf(library)
    shelf.put(("/" + "a" * 1999, "b" * 3000), response(), 0.0)
    assert library.size >= 5000


def test_a_port_has_a_bounded_share() -> None:
    library = Library(1 << 20)
    shelf = Shelf(library)
    for number in range(SHELF_ENTRIES + 10):
        shelf.put((f"/{number}", ""), response(), 0.0)
    assert len(shelf) == SHELF_ENTRIES
    assert shelf.get(("/0", "")) is None
    shelf.put(("/large", ""), response(library.share + 1), 0.0)
    assert shelf.get(("/large", "")) is None
    shelf.put(("/half", ""), response(library.share * 3 // 4), 0.0)
    shelf.put(("/other", ""), response(library.share * 3 // 4), 0.0)
    assert shelf.get(("/half", "")) is None
    assert shelf.size <= library.share


def test_the_least_lately_used_port_makes_room() -> None:
    library = Library(1 << 20)
    shelves = [Shelf(library) for _ in range(40)]
    size = library.share - 1024
    for shelf in shelves[:16]:
        shelf.put(("/a", ""), response(size), 0.0)
    shelves[0].get(("/a", ""))
    for shelf in shelves[16:]:
        shelf.put(("/a", ""), response(size), 0.0)
        shelves[0].get(("/a", ""))
        assert library.size <= 1 << 20
    assert len(shelves[0]) == 1
    assert len(shelves[1]) == 0
