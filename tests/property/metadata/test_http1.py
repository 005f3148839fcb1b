"""The reader of requests: any bytes, in any pieces."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from metadata.http1 import READ_BYTES, STATUS_OF_REASON, Request, RequestMemo, RequestReader
from metadata.settings import Settings

SETTINGS = Settings(header_bytes=256, body_bytes=32, pipelined=1000)

PARTS = [
    b"GET ",
    b"POST ",
    b"/",
    b"/a?b",
    b" HTTP/1.1",
    b" HTTP/1.0",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"Host: a\r\n",
]
PARTS += [
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"0\r\n\r\n",
    b"3\r\nabc\r\n",
    b"abc",
    b"\0",
    b" ",
]
PARTS += [b"Connection: close\r\n", b"Upgrade: x\r\nConnection: upgrade\r\n", b"GET / HTTP/1.1\r\n\r\n"]

streams = st.one_of(
    st.binary(max_size=600),
    st.lists(st.one_of(st.sampled_from(PARTS), st.binary(max_size=4)), max_size=40).map(b"".join),
)


def read(pieces: list[bytes]) -> RequestReader:
    reader = RequestReader(SETTINGS)
    for piece in pieces:
        reader.feed(piece)
    return reader


@given(streams)
def test_any_bytes_give_requests_or_a_refusal(data: bytes) -> None:
    reader = read([data])
    assert reader.refusal is None or reader.refusal in STATUS_OF_REASON
    for request in reader.requests:
        assert request.target.startswith(b"/")
        assert len(request.body or b"") <= SETTINGS.body_bytes


@given(streams, st.lists(st.integers(min_value=1, max_value=40), max_size=40))
def test_pieces_do_not_change_the_requests(data: bytes, lengths: list[int]) -> None:
    pieces, rest = [], data
    for length in lengths:
        pieces.append(rest[:length])
        rest = rest[length:]
    whole, split = read([data]), read([*pieces, rest])
    if not any(b"pgrade" in part for part in (data,)):  # what follows an upgrade is read only if it came later
        assert [*whole.requests][: len(split.requests)] == [*split.requests]
        assert len(data) <= READ_BYTES


@given(st.lists(streams, max_size=6))
def test_the_memo_gives_what_the_parser_gives(streams_: list[bytes]) -> None:
    memo = RequestMemo()
    for data in streams_ + streams_:
        reader = read([data])
        expected: list[Request] = [*reader.requests]
        learned = memo.get(data)
        if learned is not None:
            assert [learned] == expected
            assert reader.refusal is None
        memo.learn(data, reader)
