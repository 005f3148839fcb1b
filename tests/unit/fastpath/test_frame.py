"""The shared record and the reason table."""

from __future__ import annotations

import re

from fastpath.frame import DROP_REASONS, FrameError


def test_reasons_are_labels_with_a_line_of_text() -> None:
    for reason, text in DROP_REASONS.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]+", reason)
        assert text
        assert "\n" not in text


def test_error_carries_its_reason() -> None:
    error = FrameError("not_udp")
    assert error.reason == "not_udp"
    assert str(error) == "not_udp"
