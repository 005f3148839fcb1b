"""The password: written once, read back."""

from __future__ import annotations

from metadata.passwords import MemoryPasswords, answer
from metadata.responses import HTML


def test_empty_until_it_is_set_and_then_only_once() -> None:
    store = MemoryPasswords()
    assert (answer(store, "a", "GET", None).status, answer(store, "a", "GET", None).body) == (200, b"")
    assert answer(store, "a", "POST", b"\x00secret").status == 200
    assert answer(store, "a", "GET", None).body == b"\x00secret"
    assert answer(store, "a", "GET", None).content_type == HTML
    assert answer(store, "a", "POST", b"other").status == 409
    assert answer(store, "a", "GET", None).body == b"\x00secret"
    assert answer(store, "b", "GET", None).body == b""
    store.forget("a")
    assert answer(store, "a", "GET", None).body == b""


def test_limits_and_methods() -> None:
    store = MemoryPasswords()
    assert answer(store, "a", "POST", b"x" * 1021).status == 400
    assert answer(store, "a", "POST", None).status == 404
    assert answer(store, "a", "PUT", b"x").status == 400
    assert answer(store, "a", "DELETE", None).status == 400
    assert answer(store, "a", "POST", b"x" * 1020).status == 200


def test_without_a_store_it_can_be_read_only() -> None:
    assert answer(None, "a", "GET", None).body == b""
    assert answer(None, "a", "POST", b"x").status == 405


def test_an_answer_is_never_kept() -> None:
    assert not answer(None, "a", "GET", None).lasting
