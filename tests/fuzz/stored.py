"""Stored inputs of a fuzz target: what once mattered, a file each, kept small."""

from __future__ import annotations

from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"


def stored(name: str) -> list[bytes]:
    """Return the inputs stored for a target, in the order of their names."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*.bin"))]
