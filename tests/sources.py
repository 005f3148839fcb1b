"""The shipped source tree as tests see it: modules by dotted name, and what each imports."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]


def shipped() -> dict[str, Path]:
    """Every module of the wheel: dotted name to file; Cython bodies are the `.pyx`."""
    found: dict[str, Path] = {}
    for package in PACKAGES:
        folder = ROOT.joinpath(*package.split("."))
        for path in sorted([*folder.glob("*.py"), *folder.glob("*.pyx")]):
            found[package if path.stem == "__init__" else f"{package}.{path.stem}"] = path
    return found


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield what a Python file imports, anywhere in it, with the line: `from a import b` gives `a` and `a.b`.

    Imports for type checkers count: a lower layer may not know a higher one's types either.
    """
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports here are absolute"
            assert node.module is not None
            yield node.module, node.lineno
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno
