"""Whatever a guest asks for, it gets an answer about itself and nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metadata.passwords import MemoryPasswords
from metadata.responses import ending
from metadata.tree import InstanceTree, answer, split_path
from tests.unit.metadata.sample import BARE, FULL, NOW

WORDS = ["", ".", "..", "ec2", "openstack", "latest", "2009-04-04", "2018-08-27", "meta-data", "user-data", "content"]
WORDS += ["public-keys", "0", "0=laptop", "openssh-key", "meta_data.json", "password", "0000", "%2e%2e", "%00", "\0"]

targets = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), max_size=8)
    .map(lambda words: "/".join(words))
    .map(lambda path: ("/" + path).encode("utf-8", "surrogatepass")),
)
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])


@given(methods, targets, st.one_of(st.none(), st.binary(max_size=1100)))
def test_any_request_has_an_answer(method: str, target: bytes, body: bytes | None) -> None:
    for document in (FULL, BARE):
        response = answer(document, method, target, NOW, body=body, store=MemoryPasswords())
        assert response.status in {200, 400, 404, 405, 409}
        head, _, content = response.encode(ending("now", True)).partition(b"\r\n\r\n")
        assert f"Content-Length: {len(content)}".encode() in head


@given(st.lists(targets, max_size=30))
def test_ready_answers_are_the_same_answers(asked: list[bytes]) -> None:
    tree = InstanceTree(FULL)
    for target in asked + asked:
        ready, fresh = tree.answer("GET", target, NOW), answer(FULL, "GET", target, NOW)
        assert (ready.status, ready.content_type, ready.body) == (fresh.status, fresh.content_type, fresh.body)


@given(targets)
def test_normalising_twice_changes_nothing(target: bytes) -> None:
    elements = split_path(target)
    if elements is not None and not any("%" in element or "?" in element for element in elements):
        assert split_path(("/" + "/".join(elements)).encode("utf-8", "surrogatepass")) in (elements, None)
        assert not any(element in ("", ".", "..") for element in elements)
