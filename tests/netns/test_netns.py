"""The namespace thread: names that `ip netns` understands, and a thread that always comes back."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from dataplane.errors import ForeignObjectError, KernelError
from dataplane.netns import DIRECTORY, Namespaces, NamespaceThread
from scripts import lab


@pytest.fixture
def namespaces() -> Iterator[Namespaces]:
    instance = Namespaces()
    instance.prepare()
    yield instance
    instance.close()


@pytest.fixture
def thread() -> Iterator[NamespaceThread]:
    instance = NamespaceThread()
    yield instance
    instance.close()


def where() -> int:
    """The namespace of the calling thread."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def make(namespaces: Namespaces, *names: str) -> None:
    """Two namespaces in one go, as `Kernel.apply` does it."""
    try:
        for name in names:
            namespaces.enter_new()
            namespaces.release(namespaces.attach(name))
    finally:
        namespaces.leave()


@pytest.mark.asyncio
async def test_names_are_those_of_ip_netns(namespaces: Namespaces, thread: NamespaceThread) -> None:
    await thread.call(make, namespaces, "np-blue", "np-green")
    try:
        inodes = {}
        for name in ("np-blue", "np-green"):
            shown = lab.run("readlink", "/proc/self/ns/net", netns=name).stdout.strip()
            descriptor = namespaces.open(name)
            assert descriptor is not None
            inodes[name] = namespaces.inode(descriptor)
            namespaces.release(descriptor)
            assert shown == f"net:[{inodes[name]}]"
        assert len({*inodes.values(), namespaces.root_inode}) == 3
        assert {"np-blue", "np-green"} <= set(namespaces.names())
    finally:
        for name in ("np-blue", "np-green"):
            await thread.call(namespaces.delete, name)
    assert not {"np-blue", "np-green"}.intersection(namespaces.names())


@pytest.mark.asyncio
async def test_a_namespace_of_ip_netns_is_ours_to_enter_and_delete(
    namespaces: Namespaces, thread: NamespaceThread
) -> None:
    lab.run("ip", "netns", "add", "np-blue")
    await thread.call(namespaces.delete, "np-blue")
    assert "np-blue" not in lab.run("ip", "netns", "list").stdout
    await thread.call(namespaces.delete, "np-blue")


@pytest.mark.asyncio
async def test_the_thread_comes_back_also_from_a_failure(namespaces: Namespaces, thread: NamespaceThread) -> None:
    lab.run("ip", "netns", "add", "np-blue")
    seen: list[int] = []

    def fail() -> None:
        descriptor = namespaces.open("np-blue")
        assert descriptor is not None
        try:
            with namespaces.inside(descriptor):
                seen.append(where())
                raise RuntimeError("inside")
        finally:
            namespaces.release(descriptor)

    try:
        with pytest.raises(RuntimeError, match="inside"):
            await thread.call(fail)
        assert seen[0] != namespaces.root_inode
        assert await thread.call(where) == namespaces.root_inode
        assert where() == namespaces.root_inode
    finally:
        lab.run("ip", "netns", "del", "np-blue")


@pytest.mark.asyncio
async def test_all_calls_are_on_one_thread_that_is_not_the_callers(thread: NamespaceThread) -> None:
    first, second = await thread.call(threading.get_ident), await thread.call(threading.get_ident)
    assert first == second != threading.get_ident()


def test_a_file_left_from_a_crash_is_no_namespace_and_is_used(namespaces: Namespaces) -> None:
    (DIRECTORY / "np-left").touch()
    assert namespaces.open("np-left") is None
    lab_thread = threading.Thread(target=make, args=(namespaces, "np-left"))
    lab_thread.start()
    lab_thread.join()
    descriptor = namespaces.open("np-left")
    assert descriptor is not None
    namespaces.release(descriptor)
    namespaces.delete("np-left")
    assert not (DIRECTORY / "np-left").exists()


def test_somebodys_file_is_foreign(namespaces: Namespaces) -> None:
    file = DIRECTORY / "np-notes"
    file.write_text("mine")
    try:
        with pytest.raises(ForeignObjectError, match="np-notes"):
            namespaces.open("np-notes")
    finally:
        file.unlink()


def test_what_is_not_there(namespaces: Namespaces) -> None:
    assert namespaces.open("np-nowhere") is None
    with pytest.raises(KernelError), namespaces.inside(0):
        pass
