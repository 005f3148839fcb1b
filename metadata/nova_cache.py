"""Documents of Nova, kept for a short time: per port, bounded, gone at once when the port changes.

A port's documents are in a `Shelf` that belongs to the port's backend, so there is no key by which another port could
find them. The `Library` only bounds what all shelves hold together. No clock and no I/O.
"""

from __future__ import annotations

from collections import OrderedDict

from metadata.responses import Response

Key = tuple[str, str]
"""Path with query, and the value of Accept where it asks for something."""

SHELF_ENTRIES = 64
"""Documents of one port; cloud-init's crawl of both trees takes 28."""
_OVERHEAD = 512
"""Bytes that an entry takes beside its body and its key, which a guest can make long."""


class Entry:
    """One document."""

    __slots__ = ("fetched", "response", "size")

    def __init__(self, key: Key, response: Response, fetched: float) -> None:
        self.response = response
        self.fetched = fetched
        """When it was asked for, so that its age never begins after what it shows."""
        self.size = len(response.body) + len(key[0]) + len(key[1]) + _OVERHEAD


class Shelf:
    """The documents of one port, least lately used first."""

    __slots__ = ("_entries", "_library", "size")

    def __init__(self, library: Library) -> None:
        self._library = library
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Entry | None:
        """The document, however old."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
            self._library.touch(self)
        return entry

    def put(self, key: Key, response: Response, fetched: float) -> None:
        """Keep a document in place of an earlier one; one that is too large for a port's share is not kept."""
        self.drop(key)
        entry = Entry(key, response, fetched)
        if entry.size > self._library.share:
            return
        while self._entries and (len(self._entries) >= SHELF_ENTRIES or self.size + entry.size > self._library.share):
            self.drop(next(iter(self._entries)))
        self._entries[key] = entry
        self.size += entry.size
        self._library.grow(self, entry.size)

    def drop(self, key: Key) -> None:
        """Forget a document."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= entry.size
            self._library.grow(self, -entry.size)

    def clear(self) -> None:
        """Forget all of them."""
        self._entries.clear()
        size, self.size = self.size, 0
        self._library.grow(self, -size)


class Library:
    """All shelves with something on them, the least lately used first."""

    __slots__ = ("_limit", "_shelves", "share", "size")

    def __init__(self, limit: int) -> None:
        """`limit` is the bytes of all documents together."""
        self._limit = limit
        self.share = max(limit // 16, 1)
        """Bytes of one port; no guest can push out all the others."""
        self._shelves: OrderedDict[Shelf, None] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._shelves)

    # For shelves.

    def touch(self, shelf: Shelf) -> None:
        """The shelf was used."""
        self._shelves.move_to_end(shelf)

    def grow(self, shelf: Shelf, size: int) -> None:
        """The shelf holds so many bytes more, or less."""
        self.size += size
        if len(shelf):
            self._shelves[shelf] = None
            self._shelves.move_to_end(shelf)
        else:
            self._shelves.pop(shelf, None)
        while self.size > self._limit:
            next(iter(self._shelves)).clear()
