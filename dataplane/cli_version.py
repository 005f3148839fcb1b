"""What `nodeplane version --verbose` tells: enough for a bug report."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import metadata

LIBRARIES = ("aiohttp", "uvloop", "httptools", "msgspec", "prometheus-client", "PyYAML", "click", "rich")


def details() -> Iterator[tuple[str, str]]:
    """Names and versions of everything that matters."""
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "kernel", f"{platform.release()} {platform.machine()}"
    yield from _fastpath()
    for name in LIBRARIES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, "not installed"


def _fastpath() -> Iterator[tuple[str, str]]:
    """The level of the process, what the processor could run, and each stage's level with the reason."""
    try:
        from fastpath import LEVEL, levels

        choices = levels.choices()
    except ImportError as error:
        yield "fastpath", f"not usable: {error}"
        return
    yield (
        "fastpath",
        f"{LEVEL}; this processor runs {', '.join(levels.runnable()) or 'no compiled level that is built'}",
    )
    for name, choice in choices.items():
        yield f"fastpath.{name}", f"{choice.level} ({choice.reason})"
