"""A stand-in for Nova's metadata API: the checks of nova/api/metadata/handler.py before the documents of metadata.tree.

Compared path by path with the code of nova 34.0.0 (every version, AWS's dates, every item, slashes, what there is not):
status, type and text are the same, but for what Nova fails at with 500, an item below user-data, and network_data.json,
which Nova has in every version and lists from 2015-10-15 on.

As a process: `python -m tests.nova ADDRESS PORT FILE`, where FILE holds what `from_json` reads.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import posixpath
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
from aiohttp import web

from metadata import ec2, nocloud, openstack
from metadata.nova_route import path_of
from metadata.passwords import MemoryPasswords
from metadata.records import InstanceDocument
from metadata.responses import Response, not_found
from metadata.tree import answer, split_path

SECRET = "s3cr3t"

Hook = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Nova:
    """Knows some instances; counts and remembers what it was asked."""

    def __init__(self, *instances: InstanceDocument, secret: str = SECRET) -> None:
        self.instances = {instance.uuid: instance for instance in instances}
        self.secret = secret
        self.passwords = MemoryPasswords()
        self.addresses: dict[tuple[str, str], str] = {}
        """For load balancers: (provider, address) to instance."""
        self.asked: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.hook: Hook | None = None
        """Called after all checks; what it returns is the answer."""
        self.stalled: set[str] = set()
        """Instances whose requests wait until `go_on` is set."""
        self.go_on = asyncio.Event()
        self.connections: set[object] = set()
        self.url = ""
        self._runner: web.ServerRunner | None = None
        self._port = 0

    @property
    def paths(self) -> list[str]:
        return [request.raw_path for request in self.asked]

    async def start(self, address: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        runner = self._runner = web.ServerRunner(web.Server(self._handle), handle_signals=False, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, address, port or self._port, ssl_context=tls).start()
        self._port = runner.addresses[0][1]
        self.url = f"{'https' if tls else 'http'}://{address}:{self._port}"

    async def stop(self) -> None:
        """A later `start` takes the same port."""
        assert self._runner is not None
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(request)  # type: ignore[arg-type]
        self.connections.add(request.transport)
        self.bodies.append(await request.read())
        # Nova answers this before it looks at any header.
        if posixpath.normpath(unquote(request.path)) == "/":
            return web.Response(body=ec2.versions().content(), content_type="text/plain")
        for name in ("X-Instance-ID", "X-Tenant-ID", "X-Instance-ID-Signature", "X-Forwarded-For"):
            if len(request.headers.getall(name, ())) > 1:
                return _failed(400, f"Multiple {name} headers found within request.")
        found = self._by_provider(request) if "X-Metadata-Provider" in request.headers else self._by_instance(request)
        if isinstance(found, web.Response):
            return found
        if found.uuid in self.stalled:
            await self.go_on.wait()
        if self.hook is not None and (response := await self.hook(request)) is not None:  # type: ignore[arg-type]
            return response
        body = self.bodies[-1] if "Content-Length" in request.headers else None
        given = self._document(found, request.method, request.raw_path.encode(), body)
        return web.Response(
            status=given.status,
            body=given.content(),
            headers={"Content-Type": given.content_type, **dict(given.headers)},
        )

    def _document(self, found: InstanceDocument, method: str, target: bytes, body: bytes | None) -> Response:
        """As nova/api/metadata/base.py: its own versions only, nothing of AWS's, and any method but for passwords."""
        elements = split_path(target)
        if elements is None or elements[0] == nocloud.API:
            return not_found(ec2.API)
        if elements[0] == ec2.API and elements[1:]:
            if elements[1] not in (*ec2.VERSIONS, ec2.LATEST):
                return not_found(ec2.API)
            if elements[1] == ec2.LATEST:
                target = path_of((ec2.API, ec2.VERSIONS[-1], *elements[2:])).encode()
        if openstack.PASSWORD not in elements:
            method = "GET"
        return answer(found, method, target, 1.7e9, body=body, store=self.passwords)

    def _by_instance(self, request: web.BaseRequest) -> InstanceDocument | web.Response:
        instance_id = request.headers.get("X-Instance-ID")
        tenant_id = request.headers.get("X-Tenant-ID")
        signature = request.headers.get("X-Instance-ID-Signature")
        if instance_id is None:
            return _failed(400, "X-Instance-ID header is missing from request.")
        if signature is None:
            return _failed(400, "X-Instance-ID-Signature header is missing from request.")
        if tenant_id is None:
            return _failed(400, "X-Tenant-ID header is missing from request.")
        if not self._signed(instance_id, signature):
            return _failed(403, "Invalid proxy request signature.")
        found = self.instances.get(instance_id)
        if found is None or found.project_id != tenant_id:
            return _failed(404, "The resource could not be found.")
        return found

    def _by_provider(self, request: web.BaseRequest) -> InstanceDocument | web.Response:
        provider = request.headers["X-Metadata-Provider"]
        address = request.headers.get("X-Forwarded-For", "").split(",")[0]
        if not address:
            return _failed(400, "X-Forwarded-For is missing from request.")
        if not self._signed(provider, request.headers.get("X-Metadata-Provider-Signature", "")):
            return _failed(403, "Invalid proxy request signature.")
        found = self.instances.get(self.addresses.get((provider, address), ""))
        return found or _failed(400, "No ports or more than one.")

    def _signed(self, text: str, signature: str) -> bool:
        expected = hmac.new(self.secret.encode(), text.encode(), hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected, signature)


def _failed(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"<html>{text}</html>", content_type="text/html")


@asynccontextmanager
async def nova(*instances: InstanceDocument, secret: str = SECRET) -> AsyncIterator[Nova]:
    """A running stand-in on loopback."""
    made = Nova(*instances, secret=secret)
    await made.start()
    try:
        yield made
    finally:
        made.go_on.set()
        await made.stop()


def from_json(text: str) -> tuple[InstanceDocument, ...]:
    """Instances as a list of objects with the fields of InstanceDocument; `user_data` is base64."""
    return tuple(msgspec.convert(item, InstanceDocument) for item in json.loads(text))


async def main(address: str, port: int, file: Path) -> None:
    """Serve from the first line of standard input on, until killed.

    A file `FILE.stall` names an instance that is not answered while it exists.
    """
    served = Nova(*from_json(file.read_text()))  # noqa: ASYNC240
    stall = file.with_suffix(".stall")

    async def hook(request: Any) -> None:
        while stall.exists() and request.headers.get("X-Instance-ID") == stall.read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    served.hook = hook
    print("loaded", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await served.start(address, port)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
