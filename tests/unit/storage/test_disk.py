"""The two disks of the order path do the same, and the one in memory fails as a real one may."""

from __future__ import annotations

import errno
import random
import threading
from functools import partial
from pathlib import Path

import pytest

from piker.storage.disk import Disk, FolderDisk, is_full
from piker.storage.memory_disk import MemoryDisk


@pytest.fixture(params=["folder", "memory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    made: Disk = MemoryDisk() if request.param == "memory" else FolderDisk(tmp_path / "files")
    assert made.lock() is None
    return made


def test_a_file_is_made_written_renamed_and_removed(disk: Disk) -> None:
    file = disk.create("a.new", 16)
    file.write(4, b"word")
    file.sync()
    file.close()
    disk.rename("a.new", "a")
    disk.sync_folder()
    assert disk.names() == ["a"]
    assert disk.read("a") == b"\0\0\0\0word" + bytes(8)
    again = disk.open("a")
    again.write(0, b"more")
    again.close()
    assert disk.read("a")[:8] == b"moreword"
    disk.remove("a")
    disk.remove("a")
    assert disk.names() == []
    disk.unlock()


def test_what_is_not_there_is_not_found_and_nothing_is_made_twice(disk: Disk) -> None:
    with pytest.raises(FileNotFoundError):
        disk.read("a")
    with pytest.raises(FileNotFoundError):
        disk.open("a")
    disk.create("a", 1).close()
    with pytest.raises(FileExistsError):
        disk.create("a", 1)
    disk.unlock()


async def test_work_runs_beside_the_loop(disk: Disk) -> None:
    assert await disk.in_worker(lambda: 7) == 7
    disk.unlock()


async def test_what_is_begun_is_done_in_order(disk: Disk) -> None:
    done: list[str] = []
    for name in "abc":
        work = disk.begin(partial(done.append, name), partial(done.append, f"after {name}"))
        await work.wait()
    await disk.begin(lambda: None).wait()
    assert done == ["a", "after a", "b", "after b", "c", "after c"]
    disk.unlock()


async def test_a_folder_that_was_given_back_has_no_threads(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    disk = FolderDisk(tmp_path)
    assert disk.lock() is None
    assert await disk.in_worker(threading.get_ident) == await disk.in_worker(threading.get_ident)
    mine = set(threading.enumerate()) - before
    assert len(mine) == 1
    await disk.begin(lambda: None).wait()
    mine = set(threading.enumerate()) - before
    assert len(mine) == 2
    disk.unlock()
    for thread in mine:
        thread.join(5)
        assert not thread.is_alive()


def test_a_power_loss_keeps_what_was_synced_and_any_sectors_of_the_rest() -> None:
    seen = set()
    for seed in range(40):
        disk = MemoryDisk()
        file = disk.create("a", 1024)
        file.write(0, b"x" * 1024)
        file.sync()
        disk.sync_folder()
        file.write(0, b"y" * 1024)
        disk.create("b", 1)
        left = disk.after_power_loss(random.Random(seed))
        data = left.read("a")
        seen.add((data[:1] + data[512:513], tuple(left.names())))
        assert data[:512] == data[:1] * 512
        assert disk.after_kill().read("a") == b"y" * 1024
    assert {sectors for sectors, _ in seen} == {b"xx", b"xy", b"yx", b"yy"}
    assert {names for _, names in seen} == {("a",), ("a", "b")}


def test_a_full_disk_makes_nothing() -> None:
    disk = MemoryDisk(bytes_max=10)
    with pytest.raises(OSError, match="No space left") as caught:
        disk.create("a", 11)
    assert is_full(caught.value)
    assert caught.value.errno == errno.ENOSPC
    assert disk.names() == []


def test_what_the_dead_still_write_is_not_found_by_their_successor() -> None:
    disk = MemoryDisk()
    file = disk.create("a", 4)
    file.write(0, b"done")
    left = disk.after_kill()
    file.write(0, b"late")
    file.sync()
    assert left.read("a") == b"done"
    assert left.after_power_loss(random.Random(1)).read("a") in (b"done", bytes(4))
