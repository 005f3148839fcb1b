"""Requests that two parsers in a row would divide differently: the hidden one is never answered.

Each case is followed by a whole request for user data. Whatever a proxy in front may have made of the bytes, nobody
gets an answer to that second one: the first is refused and ends the connection, or it is its body.
"""

from __future__ import annotations

import pytest

from metadata.http1 import RequestReader
from metadata.settings import Settings
from tests.unit.metadata.conftest import Run
from tests.unit.metadata.lab import lab
from tests.unit.metadata.sample import FULL

A = "127.0.0.5"
HIDDEN = b"GET /latest/user-data HTTP/1.1\r\nHost: hidden\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
LENGTH = b"Content-Length: 5"


def post(*headers: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"\r\n".join((b"POST /latest HTTP/" + version, *headers, b"", body)) + HIDDEN


def chunks(body: bytes) -> bytes:
    return post(CHUNKED, body=body)


END = b"0\r\n\r\n"
REFUSED = {
    "CL.TE": post(LENGTH, CHUNKED, body=END),
    "TE.CL": post(CHUNKED, LENGTH, body=END),
    "TE.CL 0": post(CHUNKED, b"Content-Length: 0", body=END),
    "CL.CL": post(b"Content-Length: 0", b"Content-Length: 5", body=END),
    "CL.CL, the same twice": post(LENGTH, LENGTH, body=END),
    "CL.CL, by case": post(b"content-length: 0", b"CONTENT-LENGTH: 5", body=END),
    "TE.TE": post(CHUNKED, b"Transfer-Encoding: identity", body=END),
    "TE.TE, the same twice": post(CHUNKED, CHUNKED, body=END),
    "TE in HTTP/1.0": post(CHUNKED, body=END, version=b"1.0"),
    **{
        f"coding {coding!r}": post(b"Transfer-Encoding:" + coding, body=END)
        for coding in (b" xchunked", b" chunked;q=1", b" \x0bchunked", b' "chunked"', b" chunked\0", b" chunked,",
                       b" identity", b" gzip, chunked", b" chunked, identity", b" chunked chunked", b"")
    },
    **{
        f"length {length!r}": post(b"Content-Length:" + length, body=END)
        for length in (b" +5", b" -5", b" 0x5", b" 5,5", b" 5 5", b" 1_0", b" 5;", b" 5\0", "\u0665".encode(), b" 5e0",
                       b"", b" 18446744073709551621", b" 99999999999999999999999999")
    },
    **{
        f"name {name!r}": post(name + b" chunked", LENGTH, body=END)
        for name in (b"Transfer-Encoding :", b"Transfer-Encoding\t:", b"Transfer Encoding:", b"Transfer-Encoding\0:",
                     b"\0Transfer-Encoding:", b" Transfer-Encoding:", b"\tTransfer-Encoding:", b"Transfer-Encoding\r:",
                     b":", b"\xef\xbb\xbfTransfer-Encoding:")
    },
    "space before the colon of a length": post(b"Content-Length : 5", body=END),
    "folded, by a space": post(b"X: a", b" b: c", LENGTH, body=END),
    "folded, by a tab": post(b"X: a", b"\tTransfer-Encoding: chunked", LENGTH, body=END),
    "folded coding": post(b"Transfer-Encoding:", b" chunked", body=END),
    "bare CR": post(b"X: a\rTransfer-Encoding: chunked", LENGTH, body=END),
    "bare LF": post(b"X: a\nTransfer-Encoding: chunked", LENGTH, body=END),
    "bare LF at the end of the head": b"POST /latest HTTP/1.1\r\nContent-Length: 5\r\n\n" + END + HIDDEN,
    "NUL in a value": post(b"X: a\0b", LENGTH, body=END),
    "NUL in the target": b"POST /la\0test HTTP/1.1\r\n\r\n" + HIDDEN,
    "CR in the request line": b"POST /latest\r HTTP/1.1\r\n\r\n" + HIDDEN,
    "a second request line": b"POST /latest HTTP/1.1 HTTP/1.1\r\n\r\n" + HIDDEN,
    **{
        f"chunk size {size!r}": chunks(size + b"\r\nx\r\n" + END)
        for size in (b"g", b"0x1", b"+1", b"-1", b" 1", b"1_", b"", b"\r", b"ffffffffffffffff1", b"10000000000000001",
                     b"1\0", b"1,1")
    },
    "size ended by LF": chunks(b"1\nx\r\n" + END),
    "size ended by CR": chunks(b"1\rx\r\n" + END),
    "LF in an extension": chunks(b"1;a\nb\r\nx\r\n" + END),
    "CR in an extension": chunks(b"1;a\rb\r\nx\r\n" + END),
    "data longer than its size": chunks(b"1\r\nxx\r\n" + END),
    "data ended by LF": chunks(b"1\r\nx\n" + END),
    "last chunk ended by LF": chunks(b"0\n\r\n"),
    "folded trailer": chunks(b"0\r\nX: a\r\n b\r\n\r\n"),
    "LF in a trailer": chunks(b"0\r\nX: a\nY: b\r\n\r\n"),
}  # fmt: skip
SWALLOWED = {
    # Names that only look like the two: the bytes are the body that the real one says.
    "TE with an underscore": post(b"Transfer_Encoding: chunked", b"Content-Length: %d" % len(END + HIDDEN), body=END),
    "CL with an underscore": post(b"Content_Length: 0", b"Content-Length: %d" % len(HIDDEN)),
    "in a chunk": chunks(b"%x\r\n" % len(HIDDEN))[: -len(HIDDEN)] + HIDDEN + b"\r\n" + END,
}


def read(*pieces: bytes) -> RequestReader:
    reader = RequestReader(Settings())
    for piece in pieces:
        reader.feed(piece)
    return reader


@pytest.mark.parametrize("name", REFUSED)
def test_refused_whole_and_in_pieces(name: str) -> None:
    data = REFUSED[name]
    whole = read(data)
    assert whole.refusal is not None
    assert not whole.requests
    bytewise = read(*[data[at : at + 1] for at in range(len(data))])
    assert bytewise.refusal is not None
    assert not bytewise.requests
    for at in range(1, len(data), 7):
        halves = read(data[:at], data[at:])
        assert halves.refusal is not None
        assert not halves.requests


@pytest.mark.parametrize("name", SWALLOWED)
def test_swallowed(name: str) -> None:
    data = SWALLOWED[name]
    for pieces in ((data,), [data[at : at + 1] for at in range(len(data))]):
        reader = read(*pieces)
        assert reader.refusal is None
        assert [request.target for request in reader.requests] == [b"/latest"]
        assert (reader.requests[0].body or b"").endswith(HIDDEN)


@pytest.mark.parametrize("size", [b"5000", b"ffffffff", b"ffffffffffffffff", b"%032x" % 20000])
def test_a_chunk_larger_than_a_body_may_be_ends_where_that_does(size: bytes) -> None:
    reader = read(chunks(size + b"\r\n"))
    assert not reader.requests
    reader.feed(HIDDEN * (Settings().body_bytes // len(HIDDEN)))
    assert reader.refusal == "body_too_large"
    assert not reader.requests


@pytest.mark.parametrize("trailer", [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Host: a", b"Host: b"])
def test_trailers_divide_nothing(trailer: bytes) -> None:
    """The first request ends where its last chunk does, whatever the trailers say; or all is refused."""
    reader = read(chunks(b"0\r\n" + trailer + b"\r\n\r\n"))
    assert [request.target for request in reader.requests] in ([], [b"/latest"], [b"/latest", b"/latest/user-data"])
    assert reader.refusal or reader.requests[-1].target == b"/latest/user-data"


def test_over_a_socket_the_hidden_request_is_not_answered(run: Run) -> None:
    async def test() -> None:
        async with lab() as it:
            it.ports.know("blue", A, FULL)
            for name, data in (REFUSED | SWALLOWED).items():
                guest = await it.guest()
                await guest.send(data)
                status, headers, _ = await guest.answer()
                assert status >= 400, name
                if name in REFUSED:
                    assert headers["connection"] == "close", name
                    assert await guest.rest() in (b"", b"<reset>"), name
                await guest.close()
            assert ("ec2", "200") not in it.server.totals().requests

    run(test())
