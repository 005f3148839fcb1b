"""The extension list and the build modes; everything else about the package is in pyproject.toml.

NODEPLANE_BUILD chooses the mode:

release    optimised, no assertions, stripped (the default)
debug      no optimisation, assertions and bounds checks on, symbols
trace      line tracing for coverage and profilers
sanitize   address and undefined-behaviour sanitizers; run with libasan preloaded (`make sanitize`)
threads    thread sanitizer, baseline level only; run with libtsan preloaded (`make threads`)
pure       no extensions: the plain twins serve
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SINGLE = (
    "_batch_c",
    "_broad_c",
    "_capture_c",
    "_conntrack_c",
    "_cpu_c",
    "_engine_c",
    "_entries_c",
    "_flowtable_c",
    "_framing_c",
    "_hasher_c",
    "_meter_c",
    "_places_c",
    "_rows_c",
    "_ruleset_c",
    "_sockets_c",
    "_tables_c",
    "_transaction_c",
    "_tunnels_c",
    "_verdicts_c",
    "_vtep_c",
)
"""Built once, for the oldest processor of the architecture."""
LEVELLED: tuple[str, ...] = ("_checksum", "_classify", "_flow", "_flowcache", "_segment", "_vxlan")
"""Stages that are built once for each level: `_x_c`, and on x86-64 `_x_avx2` and `_x_avx512`, which include it."""
# Only a module that fastpath._select loads after asking the processor may be compiled with these.
LEVELS: dict[str, list[str]] = {
    "avx2": ["-march=x86-64-v3", "-mtune=generic"],
    "avx512": ["-march=x86-64-v4", "-mavx512vbmi", "-mtune=generic"],
}
HEADERS = sorted(str(path) for path in Path("fastpath").glob("*.h"))

Macros = list[tuple[str, str | None]]

COMPILE: dict[str, list[str]] = {
    "release": ["-O3", "-g0"],
    "debug": ["-O0", "-g3", "-UNDEBUG"],
    "trace": ["-O1", "-g1"],
    "sanitize": ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "threads": ["-O1", "-g", "-fno-omit-frame-pointer", "-fsanitize=thread"],
}
LINK: dict[str, list[str]] = {
    "release": ["-Wl,-s"],
    "sanitize": ["-fsanitize=address,undefined"],
    "threads": ["-fsanitize=thread"],
}
MACROS: dict[str, Macros] = {
    "release": [("CYTHON_WITHOUT_ASSERTIONS", None)],
    "trace": [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")],
}
WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",
    "-Wno-unused-function",
    "-Wno-missing-field-initializers",
    "-Wno-sign-compare",
]
WITHOUT_COMPILER = """\
nodeplane's extensions need a C compiler and Python's headers (Debian: gcc python3-dev);
NODEPLANE_BUILD=pure installs without them, slower\
"""


class BuildExtensions(build_ext):
    """`build_ext` that rebuilds when the mode changes and says what to do without a compiler."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = len(os.sched_getaffinity(0))

    def run(self) -> None:
        # The result has one file name for all modes, so file times alone would keep the former mode's.
        stamp = Path("build", "mode")
        if MODE == "pure" and self.inplace:
            for path in Path("fastpath").glob("_*.so"):
                path.unlink()
        if not stamp.is_file() or stamp.read_text() != MODE:
            self.force = True
        try:
            super().run()
        except Exception:
            # Compile errors come in two classes of the same name, depending on who has imported distutils.
            print(WITHOUT_COMPILER, file=sys.stderr)
            raise
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(MODE)


def modules() -> list[tuple[str, str, list[str]]]:
    """Return every extension of this architecture: its name, the module that holds its body, its own flags."""
    found: list[tuple[str, str, list[str]]] = [(name, name, []) for name in SINGLE]
    for stage in LEVELLED:
        found.append((f"{stage}_c", f"{stage}_c", []))
        # What threads do to each other is the same at every level.
        if platform.machine() == "x86_64" and MODE != "threads":
            found += [(f"{stage}_{level}", f"{stage}_c", flags) for level, flags in LEVELS.items()]
    return found


def extensions() -> list[Extension]:
    """Return the extensions of the chosen mode; none in pure mode, which does not need Cython either."""
    if MODE == "pure":
        return []
    from Cython.Build import cythonize

    checked = MODE != "release"
    extensions: list[Extension] = cythonize(  # type: ignore[no-untyped-call]
        [
            Extension(
                f"fastpath.{name}",
                [f"fastpath/{name}.pyx"],
                extra_compile_args=WARNINGS + COMPILE[MODE] + flags,
                extra_link_args=LINK.get(MODE, []),
                define_macros=[*MACROS.get(MODE, []), ("NODEPLANE_BUILD", f'"{MODE}"')],
                # Cython's own file times do not follow `include`.
                depends=[f"fastpath/{source}.pyx", *HEADERS],
                include_dirs=["fastpath"],
            )
            for name, source, flags in modules()
        ],
        # Generated C is kept apart by mode: Cython compares file times, not directives.
        build_dir=f"build/cython-{MODE}",
        compiler_directives={
            "language_level": "3",
            "freethreading_compatible": True,
            "boundscheck": checked,
            "wraparound": checked,
            "initializedcheck": checked,
            "cdivision": True,
            "linetrace": MODE == "trace",
            "warn.unreachable": True,
            "warn.maybe_uninitialized": True,
        },
        emit_linenums=MODE == "debug",
    )
    return extensions


MODE = os.environ.get("NODEPLANE_BUILD") or "release"
if MODE not in (*COMPILE, "pure"):
    raise SystemExit(f"NODEPLANE_BUILD={MODE!r} is unknown: use one of {', '.join([*COMPILE, 'pure'])}")

setup(ext_modules=extensions(), cmdclass={"build_ext": BuildExtensions})
