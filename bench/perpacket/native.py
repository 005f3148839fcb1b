"""The compiled parts of the per-packet cases, typed: packets (packets.pyx), a clock (stopwatch.pyx), and a C anchor."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any, Final, Protocol

from bench import compile
from bench.compile import MissingToolError
from bench.perpacket import outer
from bench.perpacket.profiles import MALFORMED, Profile
from bench.perpacket.templates import Stored, templates
from fastpath.batch import Batch

HEADROOM: Final = 128
COLD_SLOT: Final = 2048
SUM: Final = "anchor_sum"


class Schedule(Protocol):
    """See stopwatch.pyx."""

    packets: int
    chunk: int

    def restore(self) -> None: ...
    def rewind(self, first: int = 0) -> None: ...
    def time(self, call: Callable[..., object], arguments: tuple[object, ...], passes: int) -> float: ...
    def time_stages(self, calls: list[Callable[[], object]], passes: int) -> tuple[float, tuple[float, ...]]: ...
    def time_anchor(self, function: int, state: int, passes: int) -> float: ...
    def run_anchor(self, function: int, state: int) -> int: ...


@cache
def packets() -> Any:
    """The module. Raises MissingToolError if it cannot be built, or fastpath is not."""
    batch_class()
    return compile.extension("packets")


@cache
def stopwatch() -> Any:
    """The module; as `packets`."""
    batch_class()
    return compile.extension("stopwatch")


@cache
def batch_class() -> type[Batch]:
    """The compiled Batch, whatever level this process runs on. Raises MissingToolError."""
    try:
        from fastpath._batch_c import Batch as Compiled
    except ImportError as error:
        raise MissingToolError("fastpath is not built: make build") from error
    return Compiled  # type: ignore[return-value]


@cache
def clock() -> tuple[float, float]:
    """TSC ticks per nanosecond, and ticks that reading the clock takes; measured once."""
    rate, own = stopwatch().clock()
    return float(rate), float(own)


def schedule(batch: Batch, chunk: int, order: bytes | None = None) -> Schedule:
    """The batch's packets as they are now; see stopwatch.pyx."""
    made: Schedule = stopwatch().Schedule(batch, chunk, order)
    return made


def tight_slot(stored: Stored, extra: int = 0, headroom: int = HEADROOM) -> int:
    """The smallest slot of an odd number of cache lines: packets side by side, spread over all sets of the cache."""
    lines = (headroom + extra + max(len(template.frame) for template in stored.templates) + 63) // 64
    return max(5, lines | 1) * 64


def fill(profile: Profile, count: int, seed: int, *, slot: int | None = None, wrapped: int = 0,
         each: bool = False) -> Batch:  # fmt: skip
    """A batch of `count` packets of the profile.

    `slot` None: as tight as possible. `wrapped` 4 or 6: encapsulated, in that underlay; malformed packets are then
    encapsulated ones with a wrong outer header. `each`: packet i is of flow i
    instead of being drawn.
    """
    kind = f"{MALFORMED}-outer" if profile.malformed and wrapped else profile.kind
    stored = templates(kind, seed)
    header = outer.header(wrapped) if wrapped and not profile.malformed else b""
    batch = batch_class()(count, slot=slot or tight_slot(stored, len(header)), headroom=HEADROOM)
    flows = None if each else packets().Flows(profile.flows, profile.exponent)
    pieces = [(t.frame, t.layer3, t.layer4, t.version, t.protocol) for t in stored.templates]
    packets().expand(batch, pieces, stored.groups, flows, count, seed, header)
    return batch


def draws(flows: int, exponent: float, count: int, seed: int) -> bytes:
    """`count` drawn flow numbers, as `schedule` takes them."""
    return bytes(packets().draws(packets().Flows(flows, exponent), count, seed))


class Anchor:
    """anchor.c, loaded, with the tunnel of the cases."""

    name: Final = "C anchor"

    def __init__(self) -> None:
        library = ctypes.CDLL(str(compile.library("anchor")))
        self._tunnel = ctypes.create_string_buffer(library.anchor_tunnel_bytes())
        library.anchor_tunnel(self._tunnel, outer.header(4))
        self._library = library
        self.state = ctypes.addressof(self._tunnel)

    def function(self, name: str) -> int:
        """The address of a function."""
        address = ctypes.cast(getattr(self._library, name), ctypes.c_void_p).value
        assert address is not None
        return address

    def checksum(self, data: bytes) -> int:
        """RFC 1071, to be compared."""
        call = self._library.anchor_sum
        call.argtypes, call.restype = (ctypes.c_char_p, ctypes.c_size_t), ctypes.c_uint32
        return int(call(data, len(data)))
