"""Turns: a share for each tenant, and nobody keeps the others waiting."""

from __future__ import annotations

import asyncio
import random

import pytest

from metadata.turns import BusyError, Turns


def later(turns: Turns, tenant: str) -> asyncio.Task[None]:
    return asyncio.create_task(turns.take(tenant))


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_one_tenant_cannot_take_all() -> None:
    turns = Turns(10, 2, 5)
    await turns.take("blue")
    await turns.take("blue")
    waiting = later(turns, "blue")
    await settle()
    assert not waiting.done()
    assert turns.waits("blue")
    await turns.take("green")
    turns.give("blue")
    await waiting
    assert turns.used == 3
    assert not turns.waits("blue")


@pytest.mark.asyncio
async def test_the_next_turn_goes_round() -> None:
    turns = Turns(1, 1, 5)
    await turns.take("blue")
    order: list[str] = []
    for tenant in ("blue", "blue", "green", "red"):
        task = later(turns, tenant)
        task.add_done_callback(lambda _, tenant=tenant: order.append(tenant))  # type: ignore[misc]
        await asyncio.sleep(0)
    for tenant in ("blue", "blue", "green", "red"):
        turns.give(tenant)
        await settle()
    assert order == ["blue", "green", "red", "blue"]


@pytest.mark.asyncio
async def test_too_many_are_refused() -> None:
    turns = Turns(1, 1, 1)
    await turns.take("blue")
    waiting = later(turns, "blue")
    await settle()
    with pytest.raises(BusyError):
        await turns.take("blue")
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not turns.waits("blue")


@pytest.mark.asyncio
async def test_a_turn_of_one_who_went_is_passed_on() -> None:
    turns = Turns(1, 1, 5)
    await turns.take("blue")
    first, second = later(turns, "blue"), later(turns, "green")
    await settle()
    turns.give("blue")
    first.cancel()  # in the moment in which its turn came
    await asyncio.gather(first, return_exceptions=True)
    await second
    turns.give("green")
    assert turns.used == 0


@pytest.mark.asyncio
async def test_one_who_went_earlier_is_passed_over() -> None:
    turns = Turns(1, 1, 5)
    await turns.take("blue")
    first, second = later(turns, "blue"), later(turns, "blue")
    await settle()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    turns.give("blue")
    await second
    assert turns.room("blue") == 0


@pytest.mark.asyncio
async def test_many_tenants_that_hang_leave_room_for_another() -> None:
    turns = Turns(256, 32, 5)
    asking = [f"hangs-{number}" for number in range(20)]
    while asking:  # each takes one when it is its turn to ask, as long as it gets one
        asking = [tenant for tenant in asking if turns.try_take(tenant)]
    taken = 0
    while turns.try_take("green"):
        taken += 1
    assert taken >= 8


@pytest.mark.asyncio
async def test_nobody_waits_who_could_have_a_turn() -> None:
    choose = random.Random(1)
    tenants = [f"tenant-{number}" for number in range(6)]
    turns = Turns(12, 5, 100)
    held: list[str] = []

    async def take(tenant: str) -> None:
        await turns.take(tenant)
        held.append(tenant)

    tasks = []
    for _ in range(400):
        if choose.random() < 0.5:
            tasks.append(asyncio.create_task(take(choose.choice(tenants))))
        elif held:
            turns.give(held.pop(choose.randrange(len(held))))
        await settle()
        assert turns.used == len(held) <= 12
        assert not [tenant for tenant in tenants if turns.waits(tenant) and turns.room(tenant) > 0]
    while held:
        turns.give(held.pop())
        await settle()
    assert all(task.done() for task in tasks)
