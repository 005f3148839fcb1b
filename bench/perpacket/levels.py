"""nodeplane's own rungs: the plain twin and the compiled stages at every level that runs here, side by side."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

from bench.perpacket import outer
from fastpath import _select
from fastpath._calibrate import choice


@dataclass(frozen=True)
class Level:
    """One level of nodeplane."""

    level: _select.Level

    @property
    def name(self) -> str:
        return "plain" if self.level == "pure" else self.level

    def serves(self, stage: str) -> bool:
        """Whether it is the one that this process takes for the stage by itself: targets are for that one."""
        return self.level == choice(stage).level

    def stage(self, name: str) -> ModuleType:
        """The module of a stage. Raises ImportError if it is not built."""
        return _select.stage(name, self.level)

    def function(self, stage: str, name: str) -> Callable[..., Any]:
        """One function of a stage."""
        found: Callable[..., Any] = getattr(self.stage(stage), name)
        return found


PLAIN = Level("pure")


def compiled() -> tuple[Level, ...]:
    """The compiled levels that run here, lowest first. Raises ImportError if nothing is built."""
    return tuple(map(Level, _select.runnable()))


def all_levels() -> tuple[Level, ...]:
    """Plain, then the compiled ones."""
    return (PLAIN, *compiled())


def _table(level: Level, name: str) -> ModuleType:
    """Tables are the same for all compiled levels; the plain twin has its own."""
    return importlib.import_module(f"fastpath._{name}_{'py' if level == PLAIN else 'c'}")


def encap(level: Level) -> tuple[Callable[..., Any], tuple[object, ...]]:
    """The batch function and a table with the cases' tunnel as number 0."""
    tunnels = _table(level, "tunnels").Tunnels()
    tunnels.add(**tunnel())
    return level.function("vxlan", "encap"), (tunnels,)


def decap(level: Level) -> tuple[Callable[..., Any], tuple[object, ...]]:
    """The batch function and a VTEP that knows the VNI and its one sender."""
    return level.function("vxlan", "decap"), (vtep(level),)


def vtep(level: Level) -> Any:
    """The receiving end of the cases' tunnel."""
    made = _table(level, "vtep").Vtep(addresses=(outer.DESTINATION[4],), port=outer.PORT)
    made.allow(outer.VNI, outer.NETWORK, (outer.SOURCE[4],))
    return made


def encap_call(level: Level) -> Callable[[bytes], bytes]:
    """`bytes` to `bytes`, one frame a call."""
    call: Callable[[bytes], bytes] = level.stage("vxlan").Tunnel(**tunnel()).encap
    return call


def encap_list_call(level: Level) -> Callable[[list[bytes]], list[bytes]]:
    """A list of frames to a list of frames."""
    call: Callable[[list[bytes]], list[bytes]] = level.stage("vxlan").Tunnel(**tunnel()).encap_list
    return call


def decap_call(level: Level) -> Callable[[bytes], tuple[int, bytes]]:
    """A frame to VNI and inner frame, without a VTEP: any VNI, from anywhere."""
    return level.function("vxlan", "decapsulate")


def decap_list_call(level: Level) -> Callable[[list[bytes]], Any]:
    """A list of frames to VNIs, offsets and lengths, with every check of a VTEP."""
    return partial(level.function("vxlan", "decap_list"), vtep=vtep(level))


def taken_out(frames: list[bytes], found: Any) -> list[tuple[int, bytes]]:
    """VNI and inner frame of each, of what `decap_list` returned."""
    vnis, offsets, lengths = found
    return [
        (vni, frame[offset : offset + length])
        for frame, vni, offset, length in zip(frames, vnis, offsets, lengths, strict=True)
    ]


def tunnel(version: int = 4) -> dict[str, Any]:
    """The cases' tunnel, as `Tunnels.add` takes it."""
    return {
        "vni": outer.VNI, "source": outer.SOURCE[version], "destination": outer.DESTINATION[version],
        "source_mac": outer.SOURCE_MAC, "destination_mac": outer.DESTINATION_MAC, "port": outer.PORT,
        "ttl": outer.TTL, "checksum": "zero",
    }  # fmt: skip
