"""TLS and the sides of the client that need no signature."""

from __future__ import annotations

import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from metadata.nova_client import NovaClient, tls_context
from metadata.upstream import BrokenError, UnreachableError, sendable
from tests.nova import Nova
from tests.unit.metadata.asking import settings
from tests.unit.metadata.lab import listening


def openssl(*argv: str | Path) -> None:
    subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, and server and client certificates (with keys in the same file) that it signed."""
    folder = tmp_path_factory.mktemp("certificates")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl(
        "req", "-x509", *key, "-subj", "/CN=ca", "-days", "2", "-keyout", folder / "ca.key", "-out", folder / "ca.pem"
    )
    for name, subject in (("server", "subjectAltName=IP:127.0.0.1"), ("client", "subjectAltName=DNS:node")):
        extensions = folder / f"{name}.ext"
        extensions.write_text(subject)
        openssl("req", *key, "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.csr")
        openssl("x509", "-req", "-in", folder / f"{name}.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key",
                "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", folder / f"{name}.pem")  # fmt: skip
    return folder


async def status(upstream: Nova, **changes: object) -> int:
    client = NovaClient(settings(upstream.url, **changes))
    try:
        return (await client.ask("GET", "/", {}, None, 5.0, 1000)).status
    finally:
        await client.close()


@pytest.mark.asyncio
async def test_tls(certificates: Path) -> None:
    upstream = Nova()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
    tls.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    tls.verify_mode = ssl.CERT_REQUIRED
    await upstream.start(tls=tls)
    ours = {"client_cert": str(certificates / "client.pem"), "client_key": str(certificates / "client.key")}
    try:
        assert await status(upstream, ca_file=str(certificates / "ca.pem"), **ours) == 200
        assert await status(upstream, insecure=True, **ours) == 200
        with pytest.raises(UnreachableError):
            await status(upstream, **ours)
        with pytest.raises((UnreachableError, BrokenError)):
            await status(upstream, ca_file=str(certificates / "ca.pem"))
    finally:
        await upstream.stop()


@pytest.mark.asyncio
async def test_a_name_that_the_certificate_does_not_hold(certificates: Path) -> None:
    upstream = Nova()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    await upstream.start(tls=tls)
    upstream.url = upstream.url.replace("127.0.0.1", "localhost")
    try:
        with pytest.raises(UnreachableError):
            await status(upstream, ca_file=str(certificates / "ca.pem"))
        assert await status(upstream, insecure=True) == 200
    finally:
        await upstream.stop()


def test_keys_that_are_not_there(tmp_path: Path) -> None:
    for missing in ({"ca_file": str(tmp_path / "x")}, {"client_cert": str(tmp_path / "x")}):
        with pytest.raises(OSError, match="No such file"):
            tls_context(settings("https://nova", **missing))


@pytest.mark.asyncio
async def test_a_nova_that_does_not_take_the_connection_is_away() -> None:
    """A backlog that is full: the SYN is dropped."""
    with listening(backlog=0) as full:
        clients = []
        for _ in range(4):
            clients.append(socket.socket())
            clients[-1].setblocking(False)
            clients[-1].connect_ex(full.getsockname())
        client = NovaClient(settings(f"http://127.0.0.1:{full.getsockname()[1]}", connect_timeout=0.1))
        with pytest.raises(UnreachableError):
            await client.ask("GET", "/", {}, None, 5.0, 1000)
        await client.close()
        for sock in clients:
            sock.close()


@pytest.mark.asyncio
async def test_nothing_of_ours_is_sent_that_was_not_named() -> None:
    upstream = Nova()
    await upstream.start()
    client = NovaClient(settings(upstream.url + "/"))
    for method, body in (("GET", None), ("POST", b""), ("POST", b"\0" * 70000)):
        await client.ask(method, "/?a=%20", {"X-Mine": "1"}, body, 5.0, 1000)
        asked = upstream.asked[-1]
        assert (asked.method, asked.raw_path) == (method, "/?a=%20")
        length = set() if body is None else {"Content-Length"}
        # A POST cannot be repeated, so it goes on a connection of its own.
        assert set(asked.headers) - {"Connection"} == {"Host", "X-Mine", "Accept-Encoding"} | length
        assert upstream.bodies[-1] == (body or b"")
    await client.close()
    await upstream.stop()


def test_sendable() -> None:
    assert sendable("a b\tc~")
    for value in ("a\r\nb", "\0", "\xe9", "\x7f"):
        assert not sendable(value)
