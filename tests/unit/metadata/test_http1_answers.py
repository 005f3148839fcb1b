"""Bytes of Nova to answers: framing, what is refused, and which headers remain."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metadata.http1_answers import FIELD_BYTES, HEAD_BYTES, AnswerReader

LIMIT = 1000
OK = b"HTTP/1.1 200 OK\r\n"


def read(data: bytes, *cuts: int, end: bool = False) -> AnswerReader:
    reader = AnswerReader()
    reader.begin(LIMIT)
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, stop in itertools.pairwise(edges):
        reader.feed(data[start:stop])
    if end:
        reader.end()
    return reader


WHOLE = {
    "length": (OK + b"Content-Length: 5\r\n\r\nhello", 200, b"hello", True),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", 200, b"", True),
    "chunks": (
        OK + b"Transfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nETag: z\r\n\r\n",
        200, b"hello!", True,
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 304, b"", True),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nETag: 1\r\nContent-Length: 9\r\n\r\n"
        + OK + b"Content-Length: 2\r\n\r\nhi", 200, b"hi", True,
    ),
    "closing": (OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False),
    "1.0": (b"HTTP/1.0 599 x\r\nContent-Length: 2\r\n\r\nhi", 599, b"hi", False),
    "1.0 that stays": (b"HTTP/1.0 200 x\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", True),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_whole_answers(name: str) -> None:
    data, status, body, stays = WHOLE[name]
    reader = read(data)
    assert (reader.complete, reader.failure) == (True, None)
    assert (reader.status, b"".join(reader.parts), reader.size, reader.stays) == (status, body, len(body), stays)
    assert reader.headers() == ()  # those of an interim answer and of a trailer are not the answer's


@given(st.sampled_from(sorted(WHOLE)), st.lists(st.integers(0, 300), max_size=5))
def test_how_it_is_cut_makes_no_difference(name: str, cuts: list[int]) -> None:
    data, status, body, stays = WHOLE[name]
    reader = read(data, *cuts)
    assert (reader.complete, reader.failure, reader.status, reader.stays) == (True, None, status, stays)
    assert b"".join(reader.parts) == body


@given(st.sampled_from(sorted(WHOLE)), st.integers(0, 300))
def test_what_breaks_off_is_no_answer(name: str, cut: int) -> None:
    data = WHOLE[name][0]
    reader = read(data[: cut % len(data)], end=True)
    assert not reader.complete
    assert reader.failure is not None


def test_without_a_length_the_body_ends_with_the_connection() -> None:
    for head in (OK, b"HTTP/1.0 404 x\r\n"):
        reader = read(head + b"Content-Type: a/b\r\n\r\nuntil the end")
        assert not reader.complete
        reader.end()
        assert (reader.complete, reader.stays, reader.content_type()) == (True, False, "a/b")
        assert b"".join(reader.parts) == b"until the end"


REFUSED = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "switch": b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x05hello",
    "switch without a name": b"HTTP/1.1 101 x\r\n\r\n",
    "status below": b"HTTP/1.1 099 x\r\nContent-Length: 0\r\n\r\n",
    "status above": b"HTTP/1.1 600 x\r\nContent-Length: 0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nhi",
    "length and chunks": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": OK + b"Content-Length: -1\r\n\r\n",
    "huge length": OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "other coding": OK + b"Transfer-Encoding: gzip\r\n\r\nhi",
    "two codings": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "folded": OK + b"ETag: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "long header": OK + b"X: " + b"a" * FIELD_BYTES + b"\r\nContent-Length: 0\r\n\r\n",
    "endless header": OK + b"X: " + b"a" * (HEAD_BYTES + 1),
    "endless headers": OK + b"X: a\r\n" * HEAD_BYTES,
    "endless interim answers": b"HTTP/1.1 100 Continue\r\n\r\n" * HEAD_BYTES,
    "endless chunk extension": OK + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * (HEAD_BYTES + 100),
    "endless trailer": OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: " + b"a" * (HEAD_BYTES + 100),
    "too large by its length": OK + b"Content-Length: 1001\r\n\r\n",
    "too large in chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"a" * 1001,
    "too large until the end": OK + b"\r\n" + b"a" * 1001,
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("cuts", [(), range(0, 200_000, 997)])
def test_refused(name: str, cuts: tuple[int, ...]) -> None:
    data = REFUSED[name]
    reader = read(data, *(cut for cut in cuts if cut < len(data)))
    assert reader.failure is not None
    assert reader.failure.reason == ("too_large" if name.startswith("too large") else "broken")
    assert not reader.complete
    before = (reader.status, reader.size)
    reader.feed(OK + b"Content-Length: 2\r\n\r\nhi")
    assert (reader.status, reader.size, reader.complete) == (*before, False)


@pytest.mark.parametrize("after", [OK, b"x", b"\0", OK + b"Content-Length: 2\r\n\r\nno"])
def test_what_comes_after_the_end_spoils_the_connection_not_the_answer(after: bytes) -> None:
    reader = read(WHOLE["length"][0] + after)
    assert reader.complete
    assert reader.failure is not None
    assert (reader.status, b"".join(reader.parts)) == (200, b"hello")


def test_the_next_answer_of_a_connection() -> None:
    reader = read(WHOLE["chunks"][0])
    reader.begin(LIMIT)
    assert not reader.begun
    reader.feed(b"HTTP/1.1 404 x\r\nContent-Length: 1\r\nETag: 2\r\n\r\n!")
    assert (reader.complete, reader.status, reader.headers()) == (True, 404, (("ETag", "2"),))
    assert b"".join(reader.parts) == b"!"


def test_headers_that_are_passed_on() -> None:
    reader = read(
        OK + b"Content-Type: a/b\r\ncontent-type: c/d\r\nETag: \t x \r\nRetry-After: 3\r\nVary: \xe9\r\nServer: y\r\n"
        b"Set-Cookie: a\r\nCache-Control: z\r\nConnection: Retry-After\r\nConnection: x, cache-control\r\n"
        b"Allow: GET\r\nALLOW: PUT\r\nContent-Length: 0\r\n\r\n"
    )  # fmt: skip
    assert reader.content_type() == "a/b"
    assert reader.headers() == (("ETag", "x"), ("Allow", "GET"), ("ALLOW", "PUT"))


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=3), st.booleans())
def test_any_bytes(data: bytes, cuts: list[int], headed: bool) -> None:
    reader = read((OK if headed else b"") + data, *cuts, end=True)
    assert reader.complete or reader.failure is not None
    assert sum(map(len, reader.parts)) <= reader.size <= LIMIT + len(data)
    reader.close()
    reader.feed(data)
