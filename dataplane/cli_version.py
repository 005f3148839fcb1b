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
    yield "fastpath", _fastpath()
    for name in LIBRARIES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            yield name, "not installed"


def _fastpath() -> str:
    try:
        from fastpath import LEVEL
    except ImportError as error:
        return f"not usable: {error}"
    return LEVEL
