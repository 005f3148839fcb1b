"""What a figure was measured on: kept with every result, and asked before two results are compared."""

from __future__ import annotations

import ast
import os
import platform
import subprocess
import sysconfig
from importlib import metadata
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("aiohttp", "httptools", "msgspec", "pyroute2", "uvloop")
ANCHOR_FLAGS = ("-O3", "-march=native", "-Wall", "-Wextra")
"""Of the C anchor: for this machine only, what is measured against, never what is shipped."""
HARDWARE = ("cpu", "cores", "memory_gib", "kernel", "governor")
"""Facts that make two machines different: figures are not compared across them unless the user insists."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Machine, toolchain and version of the code at the time of a run."""

    cpu: str
    cores: int
    """Cores this process may use."""
    memory_gib: int
    kernel: str
    governor: str
    """Frequency governor of the first core; `none` where the kernel does not show one (most virtual machines)."""
    virtual: bool
    """The CPU says that a hypervisor runs it."""
    python: str
    packages: dict[str, str]
    compiler: str
    flags: str
    """Compiler flags of this Python's extensions."""
    fastpath: str
    """`baseline` (compiled) or `pure`; empty when it cannot be imported."""
    commit: str
    dirty: bool
    """True: the working tree had changes, so `commit` does not say everything."""
    load_average: float
    """Of one minute, before the run: above 0.3 the figures are somebody else's too."""
    caches: dict[str, int] = {}
    """Of the first core, bytes by name: `L1d`, `L2`, `L3` (as the kernel shows them; L3 is shared)."""
    levels: tuple[str, ...] = ()
    """Compiled levels of fastpath that are built and run here."""
    level_flags: dict[str, str] = {}
    """Compiler flags of fastpath's modules, by level."""
    anchor_flags: str = ""
    """Compiler flags of the C anchor."""
    tsc_ghz: float = 0.0
    """Measured ticks of the time stamp counter per nanosecond; 0 when no per-packet case ran."""

    def differences(self, other: Machine) -> list[str]:
        """Hardware and kernel facts that differ, one line each; empty: figures may be compared."""
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in HARDWARE)
        return [f"{name}: {mine} against {theirs}" for name, mine, theirs in pairs if mine != theirs]


def facts() -> Machine:
    """Look at this machine now."""
    cpuinfo = _read("/proc/cpuinfo")
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    fields = {key.strip(): value.strip() for key, _, value in lines}
    memory = int(next(line.split()[1] for line in _read("/proc/meminfo").splitlines() if line.startswith("MemTotal:")))
    return Machine(
        cpu=fields.get("model name", platform.machine()),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(memory / 2**20),
        kernel=platform.release(),
        governor=_read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or "none",
        virtual="hypervisor" in fields.get("flags", "").split(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages={name: _version(name) for name in PACKAGES},
        compiler=_output(os.environ.get("CC", "cc"), "--version").partition("\n")[0],
        flags=str(sysconfig.get_config_var("CFLAGS") or ""),
        fastpath=_fastpath(),
        commit=_output("git", "rev-parse", "HEAD").strip(),
        dirty=bool(_output("git", "status", "--porcelain", "--untracked-files=no").strip()),
        load_average=os.getloadavg()[0],
        caches=caches(),
        levels=_levels(),
        level_flags=_level_flags(),
        anchor_flags=" ".join(ANCHOR_FLAGS),
    )


def caches(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[str, int]:
    """Sizes of the first core's data and unified caches in bytes, by name, as far as the kernel shows them."""
    found: dict[str, int] = {}
    for index in sorted(folder.glob("index*")):
        level, kind, size = (_read(str(index / name)).strip() for name in ("level", "type", "size"))
        if kind in ("Data", "Unified") and size.endswith("K") and size[:-1].isdigit():
            found[f"L{level}{'d' if kind == 'Data' else ''}"] = int(size[:-1]) * 1024
    return found


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _output(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, check=False).stdout
    except FileNotFoundError:
        return ""


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _fastpath() -> str:
    try:
        from fastpath import _select
    except ImportError:
        return ""
    return _select.LEVEL


def _levels() -> tuple[str, ...]:
    try:
        from fastpath import _select

        return _select.runnable()
    except ImportError:
        return ()


def _level_flags() -> dict[str, str]:
    """As setup.py has them; it cannot be imported, since it builds."""
    try:
        tree = ast.parse((ROOT / "setup.py").read_text())
    except (OSError, SyntaxError):
        return {}
    tables: dict[str, dict[str, list[str]]] = {}
    for node in tree.body:
        target = node.target if isinstance(node, ast.AnnAssign) else None
        if isinstance(target, ast.Name) and target.id in ("COMPILE", "LEVELS") and isinstance(node, ast.AnnAssign):
            assert node.value is not None
            tables[target.id] = ast.literal_eval(node.value)
    release = tables.get("COMPILE", {}).get("release", [])
    levels = {"baseline": [], **tables.get("LEVELS", {})}
    return {name: " ".join([*release, *flags]) for name, flags in levels.items()}
