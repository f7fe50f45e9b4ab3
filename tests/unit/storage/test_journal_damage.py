"""A journal cut at every byte and with a bit flipped in every byte: nothing is passed over."""

from __future__ import annotations

from itertools import pairwise

import pytest
from journals import ACCOUNT, START_NS, fill, frames, payload, payloads, read, reopen, write

from piker.storage._journal_format import Kind
from piker.storage._journal_tail import MARK_NAME, segment_name
from piker.storage.journal import DOUBT_S, DamageKind, open_journal
from piker.storage.memory_disk import MemoryDisk

COUNTS = [100, pytest.param(1000, marks=pytest.mark.soak)]
SEGMENT_BYTES = {100: 3000, 1000: 30_000}


async def small_journal(count: int) -> MemoryDisk:
    disk = MemoryDisk()
    await write(disk, count, segment_bytes=SEGMENT_BYTES[count])
    return disk


def segments(disk: MemoryDisk) -> dict[str, bytes]:
    return {name: disk.read(name) for name in disk.names() if name != MARK_NAME}


def cut(disk: MemoryDisk, at_name: str, at: int) -> MemoryDisk:
    """Return a disk whose journal ends at byte `at` of one segment."""
    short = disk.after_kill()
    for name in list(short.names()):
        if name != MARK_NAME and name > at_name:
            short.remove(name)
    short.damage(at_name, disk.read(at_name)[:at])
    return short


def stop_marking(disk: MemoryDisk, mark: bytes) -> MemoryDisk:
    """Return a disk whose head mark is an older one, as a lost machine may leave it."""
    stale = disk.after_kill()
    stale.damage(MARK_NAME, mark)
    return stale


@pytest.mark.parametrize("count", COUNTS)
async def test_a_cut_at_any_byte_is_found_and_all_before_it_is_used(count: int) -> None:
    disk = await small_journal(count)
    before = 0
    names = segments(disk)
    for name, data in names.items():
        whole = frames(data)
        stops = {0, *(frame.stop for frame in whole)}
        is_last = name == max(names)
        for at in range(len(data)):
            report, records = read(cut(disk, name, at))
            kept = [f for f in whole if f.stop <= at and f.kind == Kind.RECORD]
            assert payloads(records) == [payload(n) for n in range(before + len(kept))]
            if is_last and at >= whole[-1].stop:
                assert report.is_sound
                continue
            lost = [damage for damage in report.damages if damage.lost]
            is_boundary = at in stops or at > whole[-1].stop
            assert [damage.kind for damage in lost] == [
                DamageKind.CUT if is_boundary else DamageKind.TORN
            ], (name, at)
            assert not report.is_sound
        before += sum(frame.kind == Kind.RECORD for frame in whole)
    assert before == count


@pytest.mark.parametrize("count", COUNTS)
async def test_a_bit_flipped_in_any_byte_is_found(count: int) -> None:
    disk = await small_journal(count)
    original = {record.sequence: record.payload for record in read(disk)[1]}
    assert len(original) == count
    for name in segments(disk):
        data = bytearray(disk.read(name))
        for at in range(len(data)):
            data[at] ^= 1 << at % 8
            disk.damage(name, bytes(data))
            data[at] ^= 1 << at % 8
            report, records = read(disk)
            assert report.damages, (name, at)
            assert all(original[record.sequence] == record.payload for record in records)
            assert len(records) >= count - 1
            sound = [record.sequence for record in records if not record.is_after_damage]
            assert sound == list(original)[: len(sound)]
            assert not report.is_sound or len(records) == count
        disk.damage(name, bytes(data))


async def test_a_bit_flipped_in_any_byte_of_the_head_mark_is_found_and_harmless() -> None:
    disk = MemoryDisk()
    await write(disk, 3)
    data = bytearray(disk.read(MARK_NAME))
    for at in range(len(data)):
        data[at] ^= 1 << at % 8
        disk.damage(MARK_NAME, bytes(data))
        data[at] ^= 1 << at % 8
        report, records = read(disk)
        assert [damage.kind for damage in report.damages] == [DamageKind.MARK], at
        assert report.is_sound
        assert len(records) == 3


async def test_a_cut_behind_an_old_mark_is_reported_as_indistinguishable() -> None:
    disk = MemoryDisk()
    await write(disk, 5)
    async with open_journal(disk, ACCOUNT, now_ns=lambda: START_NS) as journal:
        mark = disk.read(MARK_NAME)
        await fill(journal, 5, 5)
    for frame in frames(disk.read(segment_name(1)))[6:]:
        report, records = read(stop_marking(cut(disk, segment_name(1), frame.stop), mark))
        assert report.is_sound
        assert report.doubt_s == DOUBT_S
        assert report.mark_time_ns == START_NS
        assert len(records) == frame.sequence - 1
        assert any("cannot be told" in line for line in report.lines())


async def test_a_flip_is_told_from_a_torn_record_at_the_end() -> None:
    disk = MemoryDisk()
    await write(disk, 3)
    data = bytearray(disk.read(segment_name(1)))
    last = frames(bytes(data))[-1]
    data[last.stop - 3] ^= 1
    disk.damage(segment_name(1), bytes(data))
    report, _ = read(disk)
    assert [(d.kind, d.lost) for d in report.damages] == [(DamageKind.FLIPPED, (4, 4))]


async def test_a_damaged_journal_goes_on_in_a_new_segment_and_keeps_saying_so() -> None:
    disk = MemoryDisk()
    await write(disk, 10)
    data = bytearray(disk.read(segment_name(1)))
    data[frames(bytes(data))[4].stop + 20] ^= 4
    disk.damage(segment_name(1), bytes(data))
    for _ in range(2):
        report, records = await reopen(disk)
        assert not report.is_sound
        assert report.damages[0].lost == (6, 6)
        assert len(records) == 9
        assert [record.is_after_damage for record in records] == [False] * 4 + [True] * 5


async def test_the_numbers_of_lost_records_are_not_given_again() -> None:
    disk = MemoryDisk()
    await write(disk, 10)
    short = cut(disk, segment_name(1), frames(disk.read(segment_name(1)))[5].stop)
    await write(short, 1)
    report, records = read(short)
    assert report.damages[0].lost == (7, 11)
    assert [record.sequence for record in records] == [2, 3, 4, 5, 6, 13]
    assert [record.is_after_damage for record in records] == [False] * 5 + [True]


async def test_a_missing_segment_is_found() -> None:
    disk = await small_journal(100)
    names = list(segments(disk))
    for name in names:
        partial = disk.after_kill()
        partial.remove(name)
        report, _ = read(partial)
        assert not report.is_sound, name
        assert DamageKind.CUT in {damage.kind for damage in report.damages}


async def test_a_missing_mark_is_found() -> None:
    disk = await small_journal(100)
    disk.remove(MARK_NAME)
    report, records = read(disk)
    assert not report.is_sound
    assert report.doubt_s is None
    assert len(records) == 100


async def test_swapped_records_are_found_though_each_is_whole() -> None:
    disk = MemoryDisk()
    await write(disk, 6)
    data = disk.read(segment_name(1))
    found = frames(data)
    spans = [data[a.stop : b.stop] for a, b in pairwise(found)]
    spans[1], spans[2] = spans[2], spans[1]
    swapped = data[: found[0].stop] + b"".join(spans)
    disk.damage(segment_name(1), swapped + data[len(swapped) :])
    report, _ = read(disk)
    assert not report.is_sound
