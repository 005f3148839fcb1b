"""nodeplane's own rungs: the plain twin and the compiled stages at every level that runs here, side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from bench.perpacket import outer
from fastpath import _select


@dataclass(frozen=True)
class Level:
    """One level of nodeplane."""

    level: _select.Level

    @property
    def name(self) -> str:
        return "plain" if self.level == "pure" else self.level

    @property
    def chosen(self) -> bool:
        """Whether it is the one that this process would take by itself: targets are for that one."""
        return self == compiled()[-1]

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


def encap(level: Level) -> tuple[Callable[..., Any], tuple[object, ...]]:
    """The batch function and a table with the cases' tunnel as number 0."""
    module = level.stage("vxlan")
    tunnels = module.Tunnels()
    tunnels.add(**tunnel())
    return module.encap, (tunnels,)


def decap(level: Level) -> tuple[Callable[..., Any], tuple[object, ...]]:
    """The batch function and a VTEP that knows the VNI and its one sender."""
    module = level.stage("vxlan")
    vtep = module.Vtep(addresses=(outer.DESTINATION[4],), port=outer.PORT)
    vtep.allow(outer.VNI, outer.NETWORK, (outer.SOURCE[4],))
    return module.decap, (vtep,)


def encap_call(level: Level) -> Callable[[bytes], bytes]:
    """`bytes` to `bytes`, one frame a call."""
    call: Callable[[bytes], bytes] = level.stage("vxlan").Tunnel(**tunnel()).encap
    return call


def encap_list_call(level: Level) -> Callable[[list[bytes]], list[bytes]]:
    """A list of frames to a list of frames."""
    call: Callable[[list[bytes]], list[bytes]] = level.stage("vxlan").Tunnel(**tunnel()).encap_list
    return call


def decap_call(level: Level) -> Callable[[bytes], tuple[int, bytes]]:
    """A frame to VNI and inner frame."""
    return level.function("vxlan", "decapsulate")


def decap_list_call(level: Level) -> Callable[[list[bytes]], Any]:
    """A list of frames to VNIs, offsets and lengths."""
    return level.function("vxlan", "decap_list")


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
