"""nova_name: how often a name is resolved, and what happens when it cannot be."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from metadata import nova_name
from metadata.nova_name import Name

pytestmark = pytest.mark.asyncio


class Resolver:
    """Takes the place of the loop's; answers when `gate` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.address: str | None = "192.0.2.1"
        self.gate = asyncio.Event()
        self.gate.set()
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self.getaddrinfo)

    async def getaddrinfo(self, host: str, port: int, **more: Any) -> list[Any]:
        self.asked += 1
        await self.gate.wait()
        if self.address is None:
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.address, port))]


async def found(name: Name) -> str:
    return str((await name.addresses())[0][4][0])


@pytest.mark.parametrize("address", ["192.0.2.7", "2001:db8::7"])
async def test_an_address_needs_no_resolver(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    resolver, name = Resolver(monkeypatch), Name(address, 8775)
    name.doubt()
    assert await found(name) == address
    assert resolver.asked == 0


async def test_a_name_is_resolved_once_for_all_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver, name = Resolver(monkeypatch), Name("nova.test", 8775)
    resolver.gate.clear()
    asked = [asyncio.ensure_future(found(name)) for _ in range(3)]
    await asyncio.sleep(0)
    asked[0].cancel()
    await asyncio.sleep(0)
    resolver.gate.set()
    assert await asyncio.gather(*asked[1:]) == ["192.0.2.1"] * 2
    assert await found(name) == "192.0.2.1"
    assert resolver.asked == 1


async def test_nobody_waits_for_newer_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver, name = Resolver(monkeypatch), Name("nova.test", 8775)
    monkeypatch.setattr(nova_name, "FRESH_SECONDS", 0.0)
    await found(name)
    resolver.address = "192.0.2.2"
    resolver.gate.clear()
    assert [await found(name) for _ in range(2)] == ["192.0.2.1"] * 2
    await asyncio.sleep(0)
    resolver.gate.set()
    await asyncio.sleep(0)
    assert (await found(name), resolver.asked) == ("192.0.2.2", 2)


async def test_after_a_failed_connection_newer_addresses_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver, name = Resolver(monkeypatch), Name("nova.test", 8775)
    await found(name)
    resolver.address = "192.0.2.2"
    assert await found(name) == "192.0.2.1"
    name.doubt()
    assert await found(name) == "192.0.2.2"


async def test_a_resolver_that_hangs_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver, name = Resolver(monkeypatch), Name("nova.test", 8775)
    monkeypatch.setattr(nova_name, "NEWER_SECONDS", 0.01)
    await found(name)
    resolver.gate.clear()
    name.doubt()
    assert await asyncio.wait_for(found(name), 30) == "192.0.2.1"
    resolver.gate.set()


async def test_what_can_be_no_name() -> None:
    name = Name("a" * 70 + ".test", 8775)
    for _ in range(2):
        with pytest.raises(OSError, match="label"):
            await name.addresses()


async def test_without_a_resolver_the_last_addresses_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver, name = Resolver(monkeypatch), Name("nova.test", 8775)
    resolver.address = None
    with pytest.raises(OSError, match="name resolution"):
        await name.addresses()
    resolver.address = "192.0.2.1"
    await found(name)
    resolver.address = None
    name.doubt()
    assert [await found(name) for _ in range(2)] == ["192.0.2.1"] * 2
    assert resolver.asked == 3
