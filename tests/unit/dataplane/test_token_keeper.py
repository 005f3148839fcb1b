"""token_keeper: the keys of tokens survive a restart, and a key is stored before it is used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio

from dataplane.store import Store
from dataplane.token_keeper import SECRET, TokenKeeper
from metadata.backend import Backend
from metadata.http1 import Request
from metadata.identity import Known
from metadata.tokens import MAX_TTL, ROTATE_SECONDS, KeyRing
from tests.unit.dataplane.test_store import reopen

NOW = 1_800_000_000.0
_FULL = "CREATE TRIGGER full BEFORE INSERT ON secrets BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
KNOWN = Known("port-1", cast(Backend, None))


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await Store.open(tmp_path / "store.db")
    yield store
    await store.close()


async def stored(store: Store) -> KeyRing:
    data = await store.load_secret(SECRET)
    assert data is not None
    return KeyRing.load(data)


@pytest.mark.asyncio
async def test_a_token_survives_a_restart(store: Store) -> None:
    before = await TokenKeeper.open(store, NOW)
    token = before.keys.make("port-1", 60, NOW)
    store = await reopen(store)
    after = await TokenKeeper.open(store, NOW + 1)
    assert after.keys.ring == before.keys.ring
    request = Request("GET", b"/", True, None, {"x-aws-ec2-metadata-token": token})
    assert after.gate(request, KNOWN, NOW + 1) is None
    refused = after.gate(request, KNOWN, NOW + 61)
    assert refused is not None
    assert refused.status == 401
    await store.close()


@pytest.mark.asyncio
async def test_the_key_changes_when_it_is_due(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = await TokenKeeper.open(store, NOW)
    assert not await keeper.rotate(NOW + ROTATE_SECONDS - 1)
    token = keeper.keys.make("port-1", MAX_TTL, NOW + ROTATE_SECONDS - 1)
    saved: list[KeyRing] = []
    save = store.save_secret

    async def watched(name: str, value: bytes) -> None:
        assert keeper.keys.ring.keys[0] != KeyRing.load(value).keys[0]  # not used yet
        await save(name, value)
        saved.append(KeyRing.load(value))

    monkeypatch.setattr(store, "save_secret", watched)
    assert await keeper.rotate(NOW + ROTATE_SECONDS)
    assert saved == [keeper.keys.ring] == [await stored(store)]
    assert len(keeper.keys.ring.keys) == 2
    assert keeper.keys.valid(token, "port-1", NOW + ROTATE_SECONDS + MAX_TTL - 2)


@pytest.mark.asyncio
async def test_a_store_that_fails_leaves_the_key(store: Store) -> None:
    keeper = await TokenKeeper.open(store, NOW)
    before = keeper.keys.ring
    await store.close()
    assert not await keeper.rotate(NOW + ROTATE_SECONDS)
    assert keeper.keys.ring == before


@pytest.mark.asyncio
async def test_keys_that_cannot_be_read_are_made_anew(store: Store) -> None:
    await store.save_secret(SECRET, b"nonsense")
    keeper = await TokenKeeper.open(store, NOW)
    assert await stored(store) == keeper.keys.ring


@pytest.mark.asyncio
@pytest.mark.parametrize("before", [None, b"nonsense"])
async def test_without_room_for_the_first_keys_tokens_are_made_all_the_same(
    store: Store, before: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    if before is not None:
        await store.save_secret(SECRET, before)
    await store._ask(lambda connection: connection.execute(_FULL))
    keeper = await TokenKeeper.open(store, NOW)
    token = keeper.keys.make("port-1", 60, NOW)
    assert keeper.keys.valid(token, "port-1", NOW)
    assert not await keeper.rotate(NOW + 1)
    messages = [record.message for record in caplog.records]
    assert messages.count("tokens.not_kept") == 2
    assert before is not None or await store.load_secret(SECRET) is None
    await store._ask(lambda connection: connection.execute("DROP TRIGGER full"))
    assert not await keeper.rotate(NOW + 2)
    assert await stored(store) == keeper.keys.ring
    assert not await keeper.rotate(NOW + 3)
    assert [record.message for record in caplog.records] == messages


@pytest.mark.asyncio
async def test_it_looks_by_itself(store: Store) -> None:
    keeper = await TokenKeeper.open(store, 1.0)  # long ago
    before = keeper.keys.ring
    task = asyncio.create_task(keeper.run())
    async with asyncio.timeout(30):
        while keeper.keys.ring == before:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    task.cancel()
    await asyncio.wait([task])
    assert keeper.keys.ring == await stored(store)
