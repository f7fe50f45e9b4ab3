"""The order journal: what is acknowledged is on the disk, what is not is refused in words."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
from journals import ACCOUNT, START_NS, fill, payload, payloads, read, reopen, write

from piker.errors import ConfigError
from piker.storage import _journal_queue
from piker.storage._journal_format import Kind, encode_frame
from piker.storage._journal_tail import segment_name, segment_numbers
from piker.storage.disk import Disk, FolderDisk
from piker.storage.journal import (
    RECORD_BYTES_MAX,
    Journal,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalLocked,
    UnknownFormat,
    open_journal,
    read_records,
    verify,
)
from piker.storage.memory_disk import MemoryDisk


@pytest.fixture(params=["folder", "memory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    return FolderDisk(tmp_path / "journal") if request.param == "folder" else MemoryDisk()


def fail_at(disk: MemoryDisk, operation: str, number: int = errno.EIO) -> None:
    """Let every such operation fail from now on."""

    def step(done: str, name: str) -> None:
        if done == operation:
            raise OSError(number, os.strerror(number), name)

    disk.on_step = step


async def test_records_come_back_in_order_and_sound(disk: Disk) -> None:
    await write(disk, 200)
    report, records = await reopen(disk)
    assert payloads(records) == [payload(n) for n in range(200)]
    assert report.is_sound
    assert not report.damages
    assert report.is_closed
    assert report.doubt_s == 0
    assert len(report.segments) > 1
    assert report.account == ACCOUNT
    assert verify(disk).last_sequence == report.last_sequence


async def test_a_folder_is_verified_while_it_is_written(tmp_path: Path) -> None:
    async with open_journal(FolderDisk(tmp_path), ACCOUNT) as journal:
        await fill(journal, 3)
        report = verify(tmp_path)
    assert report.is_sound
    assert (report.records, report.is_closed) == (3, False)


async def test_sequence_numbers_go_up_across_starts(disk: Disk) -> None:
    numbers = []
    for _ in range(3):
        async with open_journal(disk, ACCOUNT) as journal:
            numbers += [await journal.append(b"a"), await journal.append(b"b")]
    assert numbers == sorted(set(numbers))


async def test_a_second_writer_is_refused_in_one_line(disk: Disk) -> None:
    async with open_journal(disk, ACCOUNT):
        other = FolderDisk(Path(disk.place)) if isinstance(disk, FolderDisk) else disk
        with pytest.raises(JournalLocked, match=r"held by .*process") as caught:
            async with open_journal(other, ACCOUNT):
                pass
        assert "\n" not in str(caught.value)
        if isinstance(disk, FolderDisk):
            assert str(os.getpid()) in str(caught.value)
    await write(disk, 1)


async def test_waiters_share_one_sync(autojump_clock: trio.testing.MockClock) -> None:
    disk = MemoryDisk(delay_s=0.001)
    async with open_journal(disk, ACCOUNT) as journal:
        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(journal.append, payload(number))
        done = journal.statistics()
    assert done.records == 500
    assert done.syncs <= 3
    assert done.queued == 0


async def test_waiters_share_syncs_of_a_real_disk_too(tmp_path: Path) -> None:
    async with open_journal(FolderDisk(tmp_path), ACCOUNT) as journal:
        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(journal.append, payload(number))
        assert journal.statistics().syncs < 100
    assert read(FolderDisk(tmp_path))[0].records == 500


async def test_records_stand_in_the_order_of_the_calls() -> None:
    disk = MemoryDisk()
    async with open_journal(disk, ACCOUNT) as journal:
        waiting = [journal.append_nowait(payload(number)) for number in range(50)]
        assert [await pending.wait_durable() for pending in waiting] == list(range(2, 52))
    assert payloads(read(disk)[1]) == [payload(n) for n in range(50)]


async def test_the_same_appends_give_the_same_bytes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    disks = [MemoryDisk(), MemoryDisk(delay_s=0.01)]
    for disk in disks:
        await write(disk, 200)
    for name in disks[0].names():
        assert disks[0].read(name) == disks[1].read(name)


async def test_what_is_begun_is_written_while_the_next_wait(
    autojump_clock: trio.testing.MockClock,
) -> None:
    disk = MemoryDisk(delay_s=1)
    async with open_journal(disk, ACCOUNT) as journal:
        begun = trio.current_time()
        told: list[int] = []
        for number in range(3):
            journal.append_nowait(payload(number), partial(told.append, number))
            journal.begin()
        await trio.sleep_until(begun + 1.5)
        assert told == [0], "the first by itself, those behind it together"
        await trio.sleep_until(begun + 2.5)
        assert told == [0, 1, 2]
        journal.begin()  # of nothing
        assert journal.statistics().syncs == 2
    assert payloads(read(disk)[1]) == [payload(n) for n in range(3)]


async def test_what_is_begun_is_settled_before_anything_else_is_done(disk: Disk) -> None:
    async with open_journal(disk, ACCOUNT, segment_bytes=1000) as journal:
        await fill(journal, 30)
        await journal.rotate([b"snapshot"])
        pending = journal.append_nowait(payload(30))
        journal.begin()
        assert await journal.release(journal.durable_sequence) > 0  # in the turn of `begin`
        assert pending.is_durable
        journal.append_nowait(payload(31))
        journal.begin()  # and the end comes
    assert payloads(read(disk)[1]) == [b"snapshot", payload(30), payload(31)]


async def test_what_was_begun_and_failed_is_refused() -> None:
    disk = MemoryDisk()
    async with open_journal(disk, ACCOUNT) as journal:
        fail_at(disk, "sync")
        pending = journal.append_nowait(payload(0))
        journal.begin()
        with pytest.raises(JournalFailed, match="Input/output error"):
            await pending.wait_durable()
        journal.begin()
        assert journal.state == "failed"


async def test_what_a_fast_disk_has_written_is_settled_in_the_turn_it_was_begun() -> None:
    disk = MemoryDisk()
    disk.is_fast = lambda: True
    told: list[int] = []
    async with open_journal(disk, ACCOUNT) as journal:
        for number in range(3):
            pending = journal.append_nowait(payload(number), partial(told.append, number))
            journal.begin()
            assert pending.is_durable
        assert told == [0, 1, 2]
        assert journal.durable_sequence == pending.sequence
        fail_at(disk, "sync")
        pending = journal.append_nowait(payload(3), partial(told.append, 3))
        journal.begin()
        assert isinstance(pending.error, JournalFailed)
        assert (told, journal.state) == ([0, 1, 2, 3], "failed")
    assert payloads(read(disk)[1])[:3] == [payload(n) for n in range(3)]


async def test_who_begins_does_not_get_the_bug_of_who_was_told() -> None:
    disk, steps = MemoryDisk(), []
    disk.is_fast = lambda: True

    async def serve_a_client() -> None:
        async with open_journal(disk, ACCOUNT) as journal:
            journal.append_nowait(payload(0), lambda: 1 // 0)
            journal.begin()
            steps.append("the client is served")
            with trio.fail_after(1):
                await trio.sleep_forever()

    with pytest.raises(ZeroDivisionError):
        await serve_a_client()
    assert steps == ["the client is served"]


async def test_a_mark_that_cannot_be_written_fails_the_next_record() -> None:
    disk = MemoryDisk()

    def step(done: str, name: str) -> None:
        if done == "write" and name.startswith("head"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)

    async with open_journal(disk, ACCOUNT) as journal:
        disk.on_step = step
        await journal.append(payload(0))  # it is durable
        with pytest.raises(JournalFailed, match="Input/output error"):
            await journal.append(payload(1))
        disk.on_step = None
    report, records = read(disk)
    assert report.is_sound
    assert payloads(records) == [payload(0)]


@pytest.mark.parametrize("operation", ["sync", "write"])
async def test_after_a_failed_sync_nothing_is_tried_again(operation: str) -> None:
    disk = MemoryDisk()
    async with open_journal(disk, ACCOUNT) as journal:
        await fill(journal, 3)
        fail_at(disk, operation)
        waiting = [journal.append_nowait(payload(3)), journal.append_nowait(payload(4))]
        for pending in waiting:
            with pytest.raises(JournalFailed, match="Input/output error"):
                await pending.wait_durable()
            assert not pending.is_durable
        disk.on_step = None
        assert journal.state == "failed"
        assert "start again" in await journal.wait_failed()
        for call in (partial(journal.append, b"x"), partial(journal.rotate, [b"s"])):
            with pytest.raises(JournalFailed):
                await call()
        with pytest.raises(JournalFailed):
            await journal.release(1)
        with pytest.raises(JournalFailed):
            journal.append_nowait(b"x")
    report, records = read(disk)
    assert report.is_sound
    assert not report.is_closed
    assert payloads(records)[:3] == [payload(n) for n in range(3)]


async def test_a_failed_sync_of_the_mark_alone_fails_the_journal(
    autojump_clock: trio.testing.MockClock,
) -> None:
    disk = MemoryDisk()
    async with open_journal(disk, ACCOUNT) as journal:
        await fill(journal, 1)
        fail_at(disk, "sync")
        await journal.wait_failed()
        assert journal.state == "failed"


async def test_a_full_disk_refuses_what_does_not_fit_and_recovers() -> None:
    disk = MemoryDisk(bytes_max=22_000)
    async with open_journal(disk, ACCOUNT, segment_bytes=4096) as journal:
        with pytest.raises(JournalFull, match="No space left on device"):
            await fill(journal, 1000)
        kept = journal.statistics().records
        assert 10 < kept < 1000
        assert journal.state == "full"
        with pytest.raises(JournalFull):
            await journal.rotate([b"snapshot"])
        disk.bytes_max *= 2
        await journal.append(payload(kept))
        assert journal.state == "open"
    report, records = read(disk)
    assert report.is_sound
    assert payloads(records) == [payload(n) for n in range(kept + 1)]


async def test_a_full_disk_at_the_start_is_one_line() -> None:
    with pytest.raises(JournalFull, match="cannot be opened"):
        await write(MemoryDisk(bytes_max=100), 1)


async def test_a_full_disk_between_rename_and_folder_sync_is_no_mere_refusal() -> None:
    disk = MemoryDisk()
    async with open_journal(disk, ACCOUNT) as journal:
        fail_at(disk, "sync_folder", errno.ENOSPC)
        with pytest.raises(JournalFailed):
            await journal.rotate([b"snapshot"])


async def test_an_unknown_format_is_refused_with_a_hint() -> None:
    disk = MemoryDisk()
    await write(disk, 1)
    header = b'{"format":2,"account":{"new":1}}'
    disk.damage(segment_name(1), encode_frame(Kind.HEADER, 1, 0, header, bytes(16))[0])
    before = disk.read(segment_name(1))
    with pytest.raises(UnknownFormat, match="format of segment 1 was 2, expected 1"):
        await reopen(disk)
    with pytest.raises(UnknownFormat):
        verify(disk)
    assert disk.read(segment_name(1)) == before


async def test_the_journal_of_another_account_is_refused() -> None:
    disk = MemoryDisk()
    await write(disk, 1)
    with pytest.raises(ConfigError, match=r"account was 'binance\.paper', expected 'kraken\.main'"):
        async with open_journal(disk, "kraken.main"):
            pass


async def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be used"):
        await reopen(FolderDisk(tmp_path / "file"))


async def test_a_record_of_any_allowed_size_fits_even_a_small_segment() -> None:
    disk = MemoryDisk()
    large = bytes(range(256)) * (RECORD_BYTES_MAX // 256)
    async with open_journal(disk, ACCOUNT, segment_bytes=64) as journal:
        await journal.append(large)
        with pytest.raises(ValueError, match="a record was 262145 bytes"):
            await journal.append(large + b"x")
        await journal.append(b"")
    assert payloads(read(disk)[1]) == [large, b""]


async def test_a_full_queue_holds_append_back_and_refuses_append_nowait(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_journal_queue, "QUEUE_RECORDS_MAX", 4)
    disk = MemoryDisk(delay_s=0.1)
    async with open_journal(disk, ACCOUNT) as journal, trio.open_nursery() as nursery:
        for number in range(4):
            journal.append_nowait(payload(number))
        with pytest.raises(JournalFull, match="4 records wait"):
            journal.append_nowait(b"x")
        for number in range(4, 20):
            nursery.start_soon(journal.append, payload(number))
        await trio.testing.wait_all_tasks_blocked()
        assert journal.statistics().queued <= 4
    assert len(read(disk)[1]) == 20


async def test_those_who_wait_for_room_learn_of_a_failure(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_journal_queue, "QUEUE_RECORDS_MAX", 2)
    disk = MemoryDisk(delay_s=0.1)
    refused = []

    async def try_append(journal: Journal, number: int) -> None:
        try:
            await journal.append(payload(number))
        except JournalError as error:
            refused.append(error)

    async with open_journal(disk, ACCOUNT) as journal:
        fail_at(disk, "write")
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(try_append, journal, number)
    assert len(refused) == 10


async def test_what_is_queued_at_a_clean_stop_is_written(
    autojump_clock: trio.testing.MockClock,
) -> None:
    disk = MemoryDisk(delay_s=0.1)
    async with open_journal(disk, ACCOUNT) as journal:
        waiting = [journal.append_nowait(payload(number)) for number in range(10)]
    assert all(pending.is_durable for pending in waiting)
    with pytest.raises(JournalFailed, match="closed"):
        await journal.append(b"late")
    report, records = read(disk)
    assert len(records) == 10
    assert report.is_closed


async def test_a_cancelled_append_is_written_once_it_was_queued(
    autojump_clock: trio.testing.MockClock,
) -> None:
    disk = MemoryDisk(delay_s=1)
    async with open_journal(disk, ACCOUNT) as journal:
        with trio.move_on_after(0.5) as scope:
            await journal.append(payload(0))
        assert scope.cancelled_caught
        await journal.append(payload(1))
    assert payloads(read(disk)[1]) == [payload(0), payload(1)]


async def test_a_rotation_begins_with_the_snapshot_and_keeps_the_old_records() -> None:
    disk = MemoryDisk()
    async with open_journal(disk, ACCOUNT) as journal:
        await fill(journal, 3)
        last = await journal.rotate([b"open orders", b"balances"])
        assert journal.durable_sequence == last
        await fill(journal, 1, 3)
    report, records = read(disk)
    assert [record.is_snapshot for record in records] == [False] * 3 + [True] * 2 + [False]
    assert report.snapshot_segment == 2
    assert payloads(records)[3:5] == [b"open orders", b"balances"]


async def test_one_snapshot_waits_at_a_time(autojump_clock: trio.testing.MockClock) -> None:
    disk = MemoryDisk(delay_s=0.1)
    async with open_journal(disk, ACCOUNT) as journal, trio.open_nursery() as nursery:
        journal.append_nowait(b"before")
        nursery.start_soon(journal.rotate, [b"first"])
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(JournalFull, match="another snapshot waits"):
            await journal.rotate([b"second"])
    assert payloads(read(disk)[1]) == [b"before", b"first"]


async def test_a_rotation_stands_in_order_with_the_records_around_it() -> None:
    disk = MemoryDisk()
    async with open_journal(disk, ACCOUNT) as journal, trio.open_nursery() as nursery:
        journal.append_nowait(b"before")
        nursery.start_soon(journal.rotate, [b"snapshot"])
        await trio.testing.wait_all_tasks_blocked()
        await journal.append(b"after")
    assert payloads(read(disk)[1]) == [b"before", b"snapshot", b"after"]


async def test_a_segment_goes_only_when_its_end_is_released_and_a_snapshot_follows() -> None:
    disk = MemoryDisk()
    async with open_journal(disk, ACCOUNT, segment_bytes=1000) as journal:
        await fill(journal, 30)
        booked = journal.durable_sequence
        assert await journal.release(booked) == 0, "no snapshot yet"
        await journal.rotate([b"snapshot"])
        assert await journal.release(0) == 0
        count = len(segment_numbers(disk, 0))
        assert await journal.release(booked - 20) < count - 1
        await journal.release(booked)
        assert segment_numbers(disk, 0) == [count]
        await fill(journal, 1, 30)
    report, records = await reopen(disk)
    assert report.is_sound
    assert not report.damages
    assert payloads(records) == [b"snapshot", payload(30)]


async def test_damage_before_the_last_snapshot_does_not_touch_the_state() -> None:
    disk = MemoryDisk()
    async with open_journal(disk, ACCOUNT) as journal:
        await fill(journal, 5)
        await journal.rotate([b"snapshot"])
        await fill(journal, 1)
    data = bytearray(disk.read(segment_name(1)))
    data[300] ^= 1
    disk.damage(segment_name(1), bytes(data))
    report, records = read(disk)
    assert not report.is_sound
    assert report.is_state_sound
    assert not records[-1].is_after_damage


async def test_the_mark_is_durable_within_its_period(
    autojump_clock: trio.testing.MockClock,
) -> None:
    disk = MemoryDisk()
    synced: list[float] = []

    def step(operation: str, name: str) -> None:
        if operation == "sync" and name.startswith("head"):
            synced.append(trio.current_time())

    async with open_journal(disk, ACCOUNT, now_ns=lambda: START_NS) as journal:
        disk.on_step = step
        begun = trio.current_time()
        await fill(journal, 1)
        await trio.sleep(5)
        assert len(synced) == 1
        assert synced[0] - begun < 1


async def test_records_are_read_while_they_are_written(disk: Disk) -> None:
    async with open_journal(disk, ACCOUNT) as journal:
        await fill(journal, 3)
        records, report = read_records(disk)
        assert payloads(records) == [payload(number) for number in range(3)]
        assert report.account == ACCOUNT
