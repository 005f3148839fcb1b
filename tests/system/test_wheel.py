"""The wheel: built from the source distribution, installed into a fresh environment, run from another folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from dataplane import __version__
from tests.sources import PACKAGES, ROOT, shipped
from tests.twins import COMPILED_LEVELS

SHIPPED = [name for name, path in shipped().items() if path.suffix == ".py"]
COMPILED = [name for name, path in shipped().items() if path.suffix == ".pyx"]


def run(*argv: str | Path, cwd: Path, **environment: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("NODEPLANE_", "PYTHON"))}
    done = subprocess.run(
        [str(argument) for argument in argv], cwd=cwd, env={**clean, **environment}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(directory: Path, mode: str) -> Path:
    """Build source distribution and wheel from a copy of what is in the tree, not from what was built before."""
    tree = directory / "tree"
    tree.mkdir()
    for name in ("LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"):
        shutil.copy(ROOT / name, tree)
    for package in {package.partition(".")[0] for package in PACKAGES}:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    run(sys.executable, "setup.py", "-q", "sdist", "-d", directory, cwd=tree, NODEPLANE_BUILD=mode)
    [sdist] = directory.glob("nodeplane-*.tar.gz")
    with tarfile.open(sdist) as archive:
        assert not [name for name in archive.getnames() if name.endswith((".c", ".so")) or "/tests/" in name]
        archive.extractall(directory, filter="data") if sys.version_info >= (3, 12) else archive.extractall(directory)
    unpacked = directory / sdist.name.removesuffix(".tar.gz")
    run(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-index", "--no-build-isolation", "--no-deps",
        "--no-cache-dir", "--disable-pip-version-check", "-w", directory, unpacked,
        cwd=directory, NODEPLANE_BUILD=mode,
    )  # fmt: skip
    [wheel] = directory.glob("nodeplane-*.whl")
    return wheel


def install(wheel: Path, directory: Path) -> Path:
    """Make an environment with the wheel in it, which borrows the dependencies of this one; return its bin folder."""
    venv.create(directory, with_pip=False, symlinks=True)
    binaries = directory / "bin"
    site = Path(run(binaries / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))",
                    cwd=directory).strip())  # fmt: skip
    run(
        sys.executable, "-m", "pip", "--python", binaries / "python", "install", "-q", "--no-index", "--no-deps",
        "--no-cache-dir", "--disable-pip-version-check", wheel, cwd=directory,
    )  # fmt: skip
    # After the wheel's own folder on the path; a .pth in the borrowed folder (the editable nodeplane) has no effect.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return binaries


# What every stage makes of the same frames, as one number.
STAGES = """
import hashlib
from array import array
from fastpath import LEVEL, capture, checksum, flow, segment
from fastpath.batch import Batch
frames = [
    bytes.fromhex("020000000001020000000005080045000000") + bytes(4) + bytes([64, 6 + 11 * (k % 2), 0, 0])
    + bytes([10, 0, 0, k, 192, 0, 2, 9, 156, k, 0, 80, 0, 0, 0, k]) + bytes(4) + bytes([80, 16, 1, 0]) + bytes(4)
    + bytes(k * 37)
    for k in range(32)
]
frames = [f[:16] + (len(f) - 14).to_bytes(2, "big") + f[18:] for f in frames]
frames = [f[:38] + (len(f) - 34).to_bytes(2, "big") + f[40:] if f[23] == 17 else f for f in frames]
batch, parts, joined = Batch(32), Batch(512), Batch(512)
said = hashlib.sha256()
assert batch.fill(frames) == 32
assert checksum.fill(batch) == 32 and checksum.verify(batch) == 32
said.update(str((flow.extract(batch), list(batch.hash[:32]), batch.key.tobytes()[:1280])).encode())
assert segment.segment(batch, parts, 100) == 32 and len(parts) > 100
assert checksum.verify(parts) == len(parts)
said.update(b"".join(parts.frames()))
segment.coalesce(parts, joined, udp=True)
said.update(b"".join(joined.frames()))
capture.write("frames.pcapng", batch, array("Q", range(32)))
with capture.Reader("frames.pcapng") as reader:
    assert reader.fill(parts) == 32 and parts.frames() == batch.frames()
said.update(open("frames.pcapng", "rb").read())
print(LEVEL, said.hexdigest())
"""


@pytest.mark.timeout(600)  # it compiles every module for every level
@pytest.mark.parametrize("mode", ["release", "pure"])
def test_wheel(tmp_path: Path, mode: str) -> None:
    levels = ["pure", *(COMPILED_LEVELS if mode == "release" else ())]
    wheel = build(tmp_path, mode)
    names = zipfile.ZipFile(wheel).namelist()
    # Nothing but the packages, their markers, types and Cython contracts, and the compiled modules.
    code = {name for name in names if ".dist-info/" not in name}
    wanted = {str(shipped()[name].relative_to(ROOT)) for name in SHIPPED}
    assert {name for name in code if name.endswith(".py")} == wanted
    assert {Path(name).suffix for name in code} <= {".py", ".pyi", ".pxd", ".h", ".so", ".typed"}
    assert {name for name in code if name.endswith(".typed")} == {
        "dataplane/py.typed", "fastpath/py.typed", "metadata/py.typed"
    }  # fmt: skip
    contracts = {
        str(path.relative_to(ROOT)) for kind in ("pxd", "pyi", "h") for path in ROOT.glob(f"fastpath/*.{kind}")
    }
    assert contracts <= code
    built = sorted(name.partition(".")[0].replace("/", ".") for name in code if name.endswith(".so"))
    assert built == (COMPILED if mode == "release" else [])
    assert [name for name in names if name.endswith("licenses/LICENSE")]

    binaries = install(wheel, tmp_path / "environment")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    # A module for registers that this processor lacks cannot be loaded here.
    lacking = {"avx2", "avx512"} - set(levels)
    modules = SHIPPED + [name for name in built if name.rpartition("_")[2] not in lacking]
    files = run(
        binaries / "python", "-W", "error", "-c",
        f"import fastpath, {', '.join(modules)}; print(fastpath.LEVEL, dataplane.cli.__file__)",
        cwd=elsewhere,
    ).split()  # fmt: skip
    assert files[0] == levels[-1]
    assert Path(files[1]).is_relative_to(tmp_path / "environment")
    assert __version__ in run(binaries / "nodeplane", "version", cwd=elsewhere)

    said = [
        run(binaries / "python", "-W", "error", "-c", STAGES, cwd=elsewhere, NODEPLANE_FASTPATH=level).split()
        for level in levels
    ]
    assert [level for level, _ in said] == levels
    assert len({digest for _, digest in said}) == 1
