"""The vector code of the stages' C headers, run for other processors under an emulator: the plain twins' results."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fastpath import _template
from fastpath._checksum_py import internet_checksum
from fastpath._encap_py import Departure, encode
from fastpath._flow_py import hash_key, parse
from fastpath._hasher_py import Hasher
from fastpath._template import template
from fastpath.flags import Flags
from tests.flow_frames import common, frame, tagged
from tests.twins import COMPILED_LEVELS
from tests.vxlan_frames import TUNNEL, TUNNEL6

HERE = Path(__file__).parent
COUNT, SLOT, ROOM = 256, 640, 128
RUN = 64
ARM = "aarch64-linux-gnu-gcc"
PROCESSORS = [
    pytest.param([ARM, "-static"], ["qemu-aarch64"], id="neon"),
    pytest.param(["gcc"], [], id="baseline"),
    pytest.param(["gcc", "-march=x86-64-v3"], [], id="avx2"),
    pytest.param(["gcc", "-march=x86-64-v4", "-mavx512vbmi"], [], id="avx512"),
]
TUNNELS: list[dict[str, Any]] = [TUNNEL, TUNNEL | {"vlan": 7}, TUNNEL6, TUNNEL6 | {"vlan": 7}]


def built(compiler: list[str], runner: list[str], level: str, folder: Path) -> list[str]:
    """The command that runs headers.c for one processor."""
    for tool in (compiler[0], *runner):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if not runner and level not in COMPILED_LEVELS:
        pytest.skip(f"this processor does not run {level}")
    out = folder / "headers"
    command = [*compiler, "-O2", "-Wall", "-Werror", "-Wno-unused-function", "-I", str(HERE.parents[2] / "fastpath")]
    subprocess.run([*command, "-o", str(out), str(HERE / "headers.c")], check=True)
    return [*runner, str(out)]


def pieces(data: bytes, layout: list[tuple[str, int]]) -> dict[str, bytes]:
    """The parts of an output by name, of so many bytes each."""
    found: dict[str, bytes] = {}
    at = 0
    for name, size in layout:
        found[name] = data[at : at + size]
        at += size
    assert at == len(data)
    return found


def numbers(piece: bytes) -> tuple[int, ...]:
    """A column of 32-bit numbers."""
    return struct.unpack(f"<{len(piece) // 4}I", piece)


@pytest.mark.parametrize(("compiler", "runner"), PROCESSORS)
def test_as_the_plain_twins(compiler: list[str], runner: list[str], tmp_path: Path, request: Any) -> None:
    command = built(compiler, runner, request.node.callspec.id, tmp_path)
    chance, hasher = random.Random(12), Hasher()
    for tunnel in (template(**fields) for fields in TUNNELS):
        makes = [common] * 3 + [tagged, frame]
        frames = [makes[i // 16 % 5 if i < 128 else chance.randrange(5)](chance)[: SLOT - ROOM] for i in range(COUNT)]
        memory = b"".join(bytes(ROOM) + each.ljust(SLOT - ROOM, b"\x5a") for each in frames)
        head = struct.pack("<Q18I8I80s", hasher.odd, *hasher.keys, COUNT, SLOT, len(tunnel.header), tunnel.most,
                           tunnel.ip_sum, 3 if tunnel.mode & _template.COPY_ECN else 0,
                           0xFFFFF if tunnel.mode & _template.HASH_LABEL else 0, 0, tunnel.header)  # fmt: skip
        offsets = struct.pack(f"<{COUNT}I", *(i * SLOT + ROOM for i in range(COUNT)))
        lengths = struct.pack(f"<{COUNT}I", *map(len, frames))
        ran = subprocess.run(command, input=head + memory + offsets + lengths, capture_output=True, check=True)
        found = pieces(ran.stdout, [
            ("done", COUNT // RUN * 16), ("key", COUNT * 40), ("flags", COUNT * 4), ("layers", COUNT * 4),
            ("hash", COUNT * 4), ("sum", COUNT * 4), ("made", COUNT), ("memory", len(memory)), ("offset", COUNT * 4),
            ("length", COUNT * 4), ("outer layers", COUNT * 4), ("outer hash", COUNT * 4),
        ])  # fmt: skip
        words = struct.unpack(f"<{COUNT // RUN * 2}Q", found["done"])
        parsed = made = 0
        for i, each in enumerate(frames):
            key, layers, flags = parse(each)
            assert numbers(found["sum"])[i].to_bytes(2, "little") == (0xFFFF - internet_checksum(each)).to_bytes(
                2, "big"
            )
            one, other = (words[i // RUN * 2 + which] >> i % RUN & 1 for which in (0, 1))
            assert one ^ other
            if one:
                parsed += 1
                assert found["key"][i * 40 : i * 40 + 40] == key
                assert (numbers(found["flags"])[i], numbers(found["layers"])[i]) == (flags, layers)
                assert numbers(found["hash"])[i] == hash_key(hasher, key, flags)
            start, length = numbers(found["offset"])[i], numbers(found["length"])[i]
            assert found["made"][i] == one
            if not one:
                assert found["memory"][i * SLOT : (i + 1) * SLOT] == memory[i * SLOT : (i + 1) * SLOT]
                assert (start, length) == (i * SLOT + ROOM, len(each))
                continue
            made += 1
            wanted = encode(tunnel, hasher, each, Flags(0), i)
            assert isinstance(wanted, Departure)
            assert found["memory"][start : start + length] == wanted.header + each
            assert found["memory"][i * SLOT : start] == bytes(start - i * SLOT)
            size = len(wanted.header)
            assert numbers(found["outer layers"])[i] == wanted.layers + size * 0x10001
            assert numbers(found["outer hash"])[i] == wanted.hash
        assert parsed == made > COUNT // 2
