"""store: secrets of the node, and the passwords that guests post."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from dataplane.errors import StoreError
from dataplane.store import Store
from dataplane.store_writer import Question
from tests.unit.dataplane.states import UUID, instance, state
from tests.unit.dataplane.test_store import block, reopen

BLUE, GREEN = f"{UUID}1", f"{UUID}2"
SECRET = b"\x00\xff\x1f secret"


def no_answer(result: Any, error: BaseException | None) -> None:
    assert error is None, error


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """A store with two instances."""
    store = await Store.open(tmp_path / "store.db")
    await store.apply(state(instances=[instance(1), instance(2)]))
    yield store
    await store.close()


@pytest.mark.asyncio
async def test_a_secret_is_durable(store: Store) -> None:
    assert await store.load_secret("keys") is None
    await store.save_secret("keys", b"first")
    await store.save_secret("keys", SECRET)
    await store.save_secret("other", b"")
    store = await reopen(store)
    assert await store.load_secret("keys") == SECRET
    assert await store.load_secret("other") == b""
    await store.close()


@pytest.mark.asyncio
async def test_a_password_is_durable_and_kept_once(store: Store) -> None:
    assert store.password(BLUE) == b""
    assert await store.save_password(BLUE, SECRET) is True
    assert store.password(BLUE) == SECRET
    assert await store.save_password(BLUE, b"again") is False
    assert store.password(GREEN) == b""
    store = await reopen(store)
    assert store.password(BLUE) == SECRET
    assert await store.save_password(BLUE, b"again") is False
    assert store.password(BLUE) == SECRET
    await store.close()


@pytest.mark.asyncio
async def test_of_two_passwords_at_once_one_is_kept(store: Store) -> None:
    go_on = block(store)
    both = asyncio.gather(store.save_password(BLUE, b"one"), store.save_password(BLUE, b"two"))
    await asyncio.sleep(0)
    go_on.set()
    assert list(await both) == [True, False]
    assert store.password(BLUE) == b"one"


@pytest.mark.asyncio
async def test_who_is_not_there_has_no_password(store: Store) -> None:
    assert await store.save_password(f"{UUID}9", SECRET) is False
    assert store.password(f"{UUID}9") == b""


@pytest.mark.asyncio
@pytest.mark.parametrize("changed", [{"project_id": "green-project"}, {"image_id": "other"}])
async def test_another_machine_has_another_password(store: Store, changed: dict[str, Any]) -> None:
    await store.save_password(BLUE, SECRET)
    await store.save_password(GREEN, SECRET)
    await store.apply(state(instances=[instance(1, name="renamed", user_data="new")]))
    assert store.password(BLUE) == SECRET
    await store.apply(state(instances=[instance(1, **changed)]))
    assert store.password(BLUE) == b""
    assert store.password(GREEN) == SECRET
    store = await reopen(store)
    assert (store.password(BLUE), store.password(GREEN)) == (b"", SECRET)
    assert await store.save_password(BLUE, b"new") is True
    await store.close()


@pytest.mark.asyncio
async def test_a_password_ends_with_its_instance(store: Store) -> None:
    await store.save_password(BLUE, SECRET)
    await store.delete([("instances", BLUE)])
    assert store.password(BLUE) == b""
    await store.apply(state(instances=[instance(1)]))
    assert store.password(BLUE) == b""
    store = await reopen(store)
    assert store.password(BLUE) == b""
    await store.close()


@pytest.mark.asyncio
async def test_memory_follows_the_order_of_the_database(store: Store) -> None:
    """A password, a deletion, the instance again, all in one go: the password was before the deletion."""
    go_on = block(store)
    jobs = [
        asyncio.ensure_future(store.save_password(BLUE, SECRET)),
        asyncio.ensure_future(store.delete([("instances", BLUE)])),
        asyncio.ensure_future(store.apply(state(instances=[instance(1)]))),
        asyncio.ensure_future(store.save_password(BLUE, b"second")),
    ]
    await asyncio.sleep(0)
    go_on.set()
    first, _, _, second = await asyncio.gather(*jobs)
    assert (first, second) == (True, True)
    assert store.password(BLUE) == b"second"
    store = await reopen(store)
    assert store.password(BLUE) == b"second"
    await store.close()


@pytest.mark.asyncio
@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("again", [{"image_id": "other"}, {}])
async def test_a_password_of_the_machine_before_is_not_kept(store: Store, durable: bool, again: dict[str, Any]) -> None:
    """Posted by whom the model knew before the instance was rebuilt, or deleted and made again."""
    before = store.position
    go_on = block(store)
    jobs = [asyncio.ensure_future(store.delete([("instances", BLUE)]))] if not again else []
    jobs.append(asyncio.ensure_future(store.apply(state(instances=[instance(1, **again)]))))
    await asyncio.sleep(0)
    if durable:
        go_on.set()
        await asyncio.gather(*jobs)
    late = asyncio.ensure_future(store.save_password(BLUE, b"of the machine before", before))
    other = asyncio.ensure_future(store.save_password(GREEN, SECRET, before))
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*jobs)
    assert (await late, await other) == (False, True)
    assert store.password(BLUE) == b""
    assert await store.save_password(BLUE, b"its own", store.position) is True


@pytest.mark.asyncio
async def test_a_rebuild_that_was_refused_keeps_nobody_from_posting(store: Store) -> None:
    before = store.position
    store._writer.submit(Question(lambda connection: connection.execute("PRAGMA max_page_count = 1"), no_answer))
    with pytest.raises(StoreError):
        await store.apply(state(instances=[instance(1, image_id="other", user_data="x" * 30000)]))
    store._writer.submit(Question(lambda connection: connection.execute("PRAGMA max_page_count = 99999"), no_answer))
    assert await store.save_password(BLUE, SECRET, before) is True


@pytest.mark.asyncio
async def test_only_the_newest_machines_before_are_remembered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dataplane.store.FORGOTTEN", 1)
    start = store.position
    await store.apply(state(instances=[instance(1, image_id="other")]))
    middle = store.position
    await store.apply(state(instances=[instance(2, image_id="other")]))
    assert len(store._forgotten_at) == 1
    assert await store.save_password(BLUE, SECRET, start) is False
    assert await store.save_password(BLUE, SECRET, middle) is True


@pytest.mark.asyncio
async def test_a_guest_that_has_gone_has_still_posted_its_password(store: Store) -> None:
    go_on = block(store)
    posting = asyncio.ensure_future(store.save_password(BLUE, SECRET))
    await asyncio.sleep(0)
    posting.cancel()
    await asyncio.wait([posting])
    assert posting.cancelled()
    go_on.set()
    await store.save_secret("x", b"")  # behind it
    assert store.password(BLUE) == SECRET


@pytest.mark.asyncio
async def test_a_closed_store_keeps_nothing(store: Store) -> None:
    await store.close()
    with pytest.raises(StoreError):
        await store.save_password(BLUE, SECRET)
    with pytest.raises(StoreError):
        await store.save_secret("x", b"")
