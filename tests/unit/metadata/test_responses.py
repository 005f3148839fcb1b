"""Encoding of answers."""

from __future__ import annotations

import base64

import pytest

from metadata.responses import HTML, JSON, TEXT, Response, ending, error, method_not_allowed

DATE = "Sun, 22 Nov 2026 13:00:00 GMT"


def test_an_answer_is_one_piece_of_bytes() -> None:
    response = Response(200, TEXT, b"\x00body")
    assert response.encode(ending(DATE, True)) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: 5\r\n"
        b"Date: Sun, 22 Nov 2026 13:00:00 GMT\r\n\r\n\x00body"
    )
    assert response.encode(ending(DATE, False)).endswith(b"GMT\r\nConnection: close\r\n\r\n\x00body")


def test_head_has_the_same_header_and_no_body() -> None:
    response = Response(200, TEXT, b"body", headers=(("X-A", "b"),))
    assert response.encode(b"\r\n", True) + b"body" == response.encode(b"\r\n")
    assert b"\r\nX-A: b\r\n" in response.encode(b"\r\n", True)


def test_a_seeded_answer_has_the_length_it_says() -> None:
    response = Response(200, JSON, b'{"s": ""}', seed_at=7)
    head, _, body = response.encode(b"\r\n").partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert len(base64.b64decode(body[7:-2], validate=True)) == 512
    assert response.encode(b"\r\n") != response.encode(b"\r\n")


@pytest.mark.parametrize("status", [400, 403, 404, 405, 408, 409, 413, 500, 503])
def test_errors_are_html(status: int) -> None:
    response = error(status)
    assert response.status == status
    assert response.content_type == HTML
    assert f"<title>{status} ".encode() in response.body
    assert response.label == ("none", str(status))


def test_method_not_allowed_says_what_is() -> None:
    assert b"\r\nAllow: GET, HEAD\r\n" in method_not_allowed("ec2").encode(b"\r\n")


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_without_a_body_has_no_length(status: int) -> None:
    assert b"Content-" not in Response(status, "", b"").encode(b"\r\n")


def test_a_status_that_is_not_registered() -> None:
    assert Response(599, "x/y", b"z").encode(b"\r\n") == (
        b"HTTP/1.1 599 Unregistered\r\nContent-Type: x/y\r\nContent-Length: 1\r\n\r\nz"
    )
