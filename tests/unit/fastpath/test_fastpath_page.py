"""The examples of docs/fastpath.md run, one after the other, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fastpath import connections
from fastpath._flow_py import MAX_EXTENSIONS, MAX_TAGS
from fastpath.connections import Ct, State
from fastpath.flags import Flags
from fastpath.reasons import Reason

PAGE = (Path(__file__).parents[3] / "docs" / "fastpath.md").read_text()


def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # one of them writes a file
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/fastpath.md", "exec"), names)


def test_bounds_and_flags_of_the_page() -> None:
    assert f"up to {MAX_TAGS} tags" in PAGE
    assert f"up to {MAX_EXTENSIONS} headers" in PAGE
    assert f"more than {MAX_EXTENSIONS} extension headers" in PAGE
    known = {member for names in (Flags, Reason, Ct, State) for member in names.__members__}
    for name in re.findall(r"`([A-Z_0-9]{4,})`", PAGE):
        assert name in known or hasattr(connections, name) or name.startswith("NODEPLANE_"), name
