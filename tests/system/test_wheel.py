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


@pytest.mark.parametrize(("mode", "level"), [("release", "baseline"), ("pure", "pure")])
def test_wheel(tmp_path: Path, mode: str, level: str) -> None:
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
    built = sorted(name.partition(".")[0].replace("/", ".") for name in code if name.endswith(".so"))
    assert built == (COMPILED if mode == "release" else [])
    assert [name for name in names if name.endswith("licenses/LICENSE")]

    binaries = install(wheel, tmp_path / "environment")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    modules = SHIPPED + (COMPILED if mode == "release" else [])
    files = run(
        binaries / "python", "-W", "error", "-c",
        f"import fastpath, {', '.join(modules)}; print(fastpath.LEVEL, dataplane.cli.__file__)",
        cwd=elsewhere,
    ).split()  # fmt: skip
    assert files[0] == level
    assert Path(files[1]).is_relative_to(tmp_path / "environment")
    assert __version__ in run(binaries / "nodeplane", "version", cwd=elsewhere)
