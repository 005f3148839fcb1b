"""Requests from bytes: what is taken, what is refused and why."""

from __future__ import annotations

import re
import uuid

import pytest

from metadata.counters import DROP_REASONS
from metadata.http1 import HEADERS, MEMO_ENTRIES, NO_HEADERS, STATUS_OF_REASON, Request, RequestMemo, RequestReader
from metadata.settings import Settings

SETTINGS = Settings(header_bytes=4096, body_bytes=64, pipelined=4)


def read(*pieces: bytes) -> RequestReader:
    reader = RequestReader(SETTINGS)
    for piece in pieces:
        reader.feed(piece)
    return reader


HOST = b"Host: 169.254.169.254\r\n"


@pytest.mark.parametrize(
    ("data", "request_"),
    [
        (b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n", Request("GET", b"/a", True)),
        (b"GET /a HTTP/1.1\r\nHost: [fe80::a9fe:a9fe%25eth0]\r\n\r\n", Request("GET", b"/a", True)),
        (b"GET /a HTTP/1.1\r\n\r\n", Request("GET", b"/a", True)),
        (b"GET /a HTTP/1.0\r\n\r\n", Request("GET", b"/a", False, chunks=False)),
        (b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", Request("GET", b"/a", False, chunks=False)),
        (b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n", Request("GET", b"/a", False)),
        (b"\r\nHEAD /a?b=c HTTP/1.1\r\n\r\n", Request("HEAD", b"/a?b=c", True)),
        (b"POST /p HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", Request("POST", b"/p", True, b"abc")),
        (b"POST /p HTTP/1.1\r\nContent-Length: 0\r\n\r\n", Request("POST", b"/p", True, b"")),
        (b"POST /p HTTP/1.1\r\n\r\n", Request("POST", b"/p", True)),
        (
            b"POST /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\nT: u\r\n\r\n",
            Request("POST", b"/p", True, b"abcd"),
        ),
        (
            b"GET /a HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
            Request("GET", b"/a", False),
        ),
    ],
)
def test_requests(data: bytes, request_: Request) -> None:
    for pieces in ((data,), [data[i : i + 1] for i in range(len(data))]):
        reader = read(*pieces)
        assert list(reader.requests) == [request_]
        assert reader.refusal is None
        assert not reader.partial


def get(*headers: bytes) -> bytes:
    return b"\r\n".join((b"GET /a HTTP/1.1", *headers, b"", b""))


def post(*headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((b"POST /a HTTP/1.1", *headers, b"", body))


REFUSED = {
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01", "syntax"),
    "lower-case method": (b"get / HTTP/1.1\r\n\r\n", "syntax"),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", "syntax"),
    "bare LF after a header": (b"GET / HTTP/1.1\r\nHost: a\n\r\n", "syntax"),
    "bare CR in a header": (get(b"Host: a\rb"), "syntax"),
    "NUL in a header": (get(b"Host: a\0b"), "syntax"),
    "NUL in the target": (b"GET /\0 HTTP/1.1\r\n\r\n", "syntax"),
    "folded header": (get(b"X: a", b" b"), "syntax"),
    "space before the colon": (get(b"Host : a"), "syntax"),
    "header without a name": (get(b": a"), "syntax"),
    "indented first header": (get(b" X: a"), "syntax"),
    "two spaces in the target": (b"GET /a b HTTP/1.1\r\n\r\n", "syntax"),
    "tab after the method": (b"GET\t/ HTTP/1.1\r\n\r\n", "syntax"),
    "raw UTF-8 in the target": (b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", "syntax"),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "syntax"),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\n\r\n", "syntax"),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\n\r\n", "version"),
    "HTTP/0.9": (b"GET /\r\n\r\n", "version"),
    "HTTP/0.9 by name": (b"GET / HTTP/0.9\r\n\r\n", "version"),
    "absolute form": (b"GET http://169.254.169.254/a HTTP/1.1\r\n\r\n", "target"),
    "fragment": (b"GET /a#b HTTP/1.1\r\n\r\n", "target"),
    "asterisk form": (b"OPTIONS * HTTP/1.1\r\n\r\n", "target"),
    "CONNECT": (b"CONNECT a:80 HTTP/1.1\r\n\r\n", "connect"),
    "long target": (b"GET /" + b"a" * 2048 + b" HTTP/1.1\r\n\r\n", "target_too_long"),
    "two hosts": (get(b"Host: a", b"Host: a"), "hosts"),
    "large header": (get(b"X: " + b"a" * 4096), "headers_too_large"),
    "endless header": (b"GET / HTTP/1.1\r\nX: " + b"a" * 5000, "headers_too_large"),
    "many headers": (get(*[b"A:"] * (HEADERS + 1)), "headers_too_large"),
    "length and chunked": (post(b"Content-Length: 3", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), "syntax"),
    "chunked and length": (post(b"Transfer-Encoding: chunked", b"Content-Length: 3", body=b"0\r\n\r\n"), "syntax"),
    "two lengths": (post(b"Content-Length: 3", b"Content-Length: 3", body=b"abc"), "syntax"),
    "list of lengths": (post(b"Content-Length: 3, 3", body=b"abc"), "syntax"),
    "signed length": (post(b"Content-Length: +3", body=b"abc"), "syntax"),
    "hexadecimal length": (post(b"Content-Length: 0x3", body=b"abc"), "syntax"),
    "huge length": (post(b"Content-Length: 99999999999999999999"), "syntax"),
    "empty length": (post(b"Content-Length:"), "syntax"),
    "announced long body": (post(b"Content-Length: 65", body=b""), "body_too_large"),
    "length of a long body": (post(b"Content-Length: 65", body=b"a" * 65), "body_too_large"),
    "unknown coding": (post(b"Transfer-Encoding: gzip, chunked"), "transfer_encoding"),
    "identity": (post(b"Transfer-Encoding: identity"), "transfer_encoding"),
    "twice chunked": (post(b"Transfer-Encoding: chunked, chunked"), "syntax"),
    "two codings": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"), "syntax"),
    "chunked in HTTP/1.0": (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "transfer_encoding"),
    "negative chunk": (post(b"Transfer-Encoding: chunked", body=b"-1\r\n"), "syntax"),
    "chunk with bare LF": (post(b"Transfer-Encoding: chunked", body=b"1\na\r\n"), "syntax"),
    "expect": (post(b"Expect: 100-continue", b"Content-Length: 3"), "expect"),
    "too many ahead": (get() * 5, "pipelined"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    data, reason = REFUSED[name]
    assert read(data).refusal == reason
    assert read(*[data[i : i + 1] for i in range(len(data))]).refusal == reason


def test_every_refusal_has_a_status_and_a_meaning() -> None:
    assert set(STATUS_OF_REASON) <= set(DROP_REASONS)
    elsewhere = {"slow_request", "forwarded_network", "forwarded_address"}  # a timer's, and those of test_dropin.py
    assert {reason for _, reason in REFUSED.values()} == set(STATUS_OF_REASON) - elsewhere


def test_chunk_overhead_is_limited_too() -> None:
    reader = read(post(b"Transfer-Encoding: chunked"))
    for _ in range(50):
        reader.feed(b"1;" + b"x" * 100 + b"\r\na\r\n")
    assert reader.refusal == "body_too_large"


def test_trailers_are_limited_too() -> None:
    reader = read(post(b"Transfer-Encoding: chunked", body=b"0\r\n" + b"A: b\r\n" * 70 + b"\r\n"))
    assert reader.refusal == "headers_too_large"


def test_requests_before_a_refusal_are_kept() -> None:
    reader = read(get() + b"GET http://a/ HTTP/1.1\r\n\r\n" + get())
    assert [request.target for request in reader.requests] == [b"/a"]
    assert reader.refusal == "target"
    reader.feed(get())
    assert len(reader.requests) == 1


def test_what_follows_a_closing_request_is_not_read() -> None:
    reader = read(get(b"Connection: close") + get())
    assert len(reader.requests) == 1
    assert reader.refusal == "syntax"


def test_what_follows_an_upgrade_is_not_read() -> None:
    reader = read(get(b"Connection: upgrade", b"Upgrade: h2c") + get())
    assert [request.keep_alive for request in reader.requests] == [False]


def test_pipelined_requests() -> None:
    reader = read(get() + post(b"Content-Length: 2", body=b"hi") + get()[:-1])
    assert [request.method for request in reader.requests] == ["GET", "POST"]
    assert reader.partial
    reader.feed(b"\n")
    assert [request.body for request in reader.requests] == [None, b"hi", None]
    assert not reader.partial


def test_a_reader_can_be_closed() -> None:
    reader = read(get()[:5])
    reader.close()
    reader.feed(get())
    assert not reader.requests


@pytest.mark.parametrize(
    ("data", "learned"),
    [
        (get(), True),
        (get(HOST.strip()), True),
        (b"\r\n" + get(), True),
        (get() + get(), False),
        (get() + b"\r", False),
        (get()[:-1], False),
        (post(b"Content-Length: 2", body=b"\r\n"), False),
        (post(b"Content-Length: 4", body=b"\r\n\r\n"), False),
        (get(b"X: " + b"a" * 1100), False),
        (b"GET http://a/ HTTP/1.1\r\n\r\n", False),
    ],
)
def test_memo_learns_only_whole_requests(data: bytes, learned: bool) -> None:
    memo = RequestMemo()
    reader = read(data)
    memo.learn(data, reader)
    assert memo.get(data) == (reader.requests[0] if learned else None)


def test_memo_is_bounded() -> None:
    memo = RequestMemo()
    for number in range(3 * MEMO_ENTRIES):
        data = b"GET /%d HTTP/1.1\r\n\r\n" % number
        memo.learn(data, read(data))
    assert len(memo._requests) <= MEMO_ENTRIES
    assert memo.get(data) == Request("GET", b"/%d" % number, True)


def test_only_headers_to_be_kept_are_kept_and_repeated_ones_are_joined() -> None:
    reader = RequestReader(Settings())
    reader.feed(
        b"PUT /latest/api/token HTTP/1.1\r\nHost: a\r\nX-AWS-EC2-Metadata-Token-TTL-Seconds:  60 \r\n"
        b"x-instance-id: mine\r\nX-Forwarded-For: 10.0.0.1\r\nX-FORWARDED-FOR: 10.0.0.2\r\nUser-Agent: a\xe9\r\n\r\n"
        b"GET / HTTP/1.1\r\n\r\n"
    )
    first, second = reader.requests
    assert first.headers == {
        "x-aws-ec2-metadata-token-ttl-seconds": "60",
        "x-forwarded-for": "10.0.0.1, 10.0.0.2",
        "user-agent": "a\xe9",
    }
    assert second.headers is NO_HEADERS


def test_an_id_is_made_once_for_every_request() -> None:
    one, two = Request("GET", b"/", True), Request("GET", b"/", True)
    assert one == two
    assert re.fullmatch("req-[0-9a-f-]{36}", one.id)
    assert str(uuid.UUID(one.id[4:])) == one.id[4:]
    assert one.id == one.id != two.id


@pytest.mark.parametrize("header", ["X-aws-ec2-metadata-token", "X-Metadata-Token"])
def test_requests_with_a_token_are_not_remembered(header: str) -> None:
    memo = RequestMemo()
    reader = RequestReader(Settings())
    data = f"GET / HTTP/1.1\r\n{header}: abc\r\n\r\n".encode()
    reader.feed(data)
    memo.learn(data, reader)
    assert memo.get(data) is None


def test_what_is_remembered_has_its_headers() -> None:
    memo = RequestMemo()
    for name in (b"curl", b"wget"):
        reader = RequestReader(Settings())
        data = b"GET / HTTP/1.1\r\nUser-Agent: %b\r\n\r\n" % name
        reader.feed(data)
        assert reader.requests[0].id
        memo.learn(data, reader)
        found = memo.get(data)
        assert found is not None
        assert found.headers == {"user-agent": name.decode()}


@pytest.mark.parametrize("trailer", [b"X-aws-ec2-metadata-token: a", b"X-Forwarded-For: 10.0.0.9", b"Range: bytes=0-3"])
def test_trailers_are_no_headers(trailer: bytes) -> None:
    """RFC 9110 6.5.1: what stands behind a body is not taken for what belongs before it."""
    body = b"1\r\nb\r\n0\r\n" + trailer + b"\r\n\r\n"
    reader = read(post(b"Transfer-Encoding: chunked", b"User-Agent: a", body=body))
    assert [request.headers for request in reader.requests] == [{"user-agent": "a"}]


@pytest.mark.parametrize("limit", [200, SETTINGS.header_bytes, 8192])
@pytest.mark.parametrize("method", [b"GET", b"OPTIONS"])
def test_a_head_has_exactly_so_many_bytes_however_it_comes(method: bytes, limit: int) -> None:
    settings = Settings(header_bytes=limit)
    for size, refusal in ((limit - 1, None), (limit, None), (limit + 1, "headers_too_large")):
        data = method + b" /a HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n"
        data = data.replace(b"X: ", b"X: " + b"x" * (size - len(data)))
        assert len(data) == size
        for step in (1, 100, size):
            reader = RequestReader(settings)
            for at in range(0, size, step):
                reader.feed(data[at : at + step])
            assert (reader.refusal, len(reader.requests)) == (refusal, refusal is None), (size, step)


@pytest.mark.parametrize("body", [b"a" * 64, b"a" * 65])
@pytest.mark.parametrize("step", [1, 7, 200])
def test_a_body_has_exactly_so_many_bytes_however_it_comes(body: bytes, step: int) -> None:
    lengths = post(b"Content-Length: %d" % len(body), body=body)
    chunked = post(b"Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    for data in (lengths, chunked):
        reader = read(*[data[at : at + step] for at in range(0, len(data), step)])
        if len(body) > SETTINGS.body_bytes:
            assert (reader.refusal, len(reader.requests)) == ("body_too_large", 0)
        else:
            assert [request.body for request in reader.requests] == [body]
            assert reader.refusal is None
