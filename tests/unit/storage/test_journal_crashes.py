"""A journal whose process is killed, or whose machine goes down: what was told is there."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from journals import ACCOUNT, START_NS, payload, payloads, reopen

from piker.storage.disk import FolderDisk
from piker.storage.journal import Journal, open_journal, verify
from piker.storage.memory_disk import MemoryDisk

WRITER = """
import sys
from functools import partial
import trio
from piker.storage.disk import FolderDisk
from piker.storage.journal import open_journal
folder, start = sys.argv[1], int(sys.argv[2])
async def writer(journal, lane):
    number = start
    while True:
        await journal.append(b"%d %d" % (lane, number))
        sys.stdout.write(f"{lane} {number}\\n")
        sys.stdout.flush()
        number += 1
async def rotate(journal):
    while True:
        await trio.sleep(0.02)
        await journal.rotate([b"snapshot"])
async def main():
    async with open_journal(FolderDisk(folder), "a.paper", segment_bytes=1 << 14) as journal:
        async with trio.open_nursery() as nursery:
            for lane in range(3):
                nursery.start_soon(writer, journal, lane)
            nursery.start_soon(rotate, journal)
trio.run(main)
"""


class PowerLost(Exception):
    """The machine went down at this step."""


def records_told(folder: Path, start: int, lines: int) -> list[bytes]:
    """Run a writer until it has told of so many records, kill it, and return all it told of."""
    command = [sys.executable, "-W", "ignore", "-c", WRITER, str(folder), str(start)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.readlines()
    return [line.strip() for line in told if line.endswith(b"\n")]


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.soak)])
async def test_a_killed_writer_loses_nothing_it_told_of(tmp_path: Path, kills: int) -> None:
    told: list[bytes] = []
    for kill in range(kills):
        told += records_told(tmp_path, kill * 1_000_000, 30 + 17 * kill % 60)
        report = verify(tmp_path)
        assert report.is_sound, report.lines()
        found: list[bytes] = []
        disk = FolderDisk(tmp_path)
        async with open_journal(disk, "a.paper", fold=lambda r: found.append(r.payload)):
            pass
        assert set(told) <= set(found)
        records = [record for record in found if record != b"snapshot"]
        assert len(records) == len(set(records))


@asynccontextmanager
async def until_power_is_lost(disk: MemoryDisk, step: int) -> AsyncIterator[None]:
    """Let the machine go down at the `step`-th change of the disk."""
    left = step

    def count(operation: str, name: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise PowerLost(f"{operation} {name}")

    disk.on_step = count
    try:
        yield
    except PowerLost:
        pass


async def live(journal: Journal, told: list[bytes]) -> None:
    """Append, roll over, rotate with snapshots and release, remembering what was told."""
    for number in range(24):
        await journal.append(payload(number))
        told.append(payload(number))
        if number % 8 == 7:
            last = journal.durable_sequence
            await journal.rotate([b"snapshot of %d" % number] * 3)
            told.append(b"snapshot of %d" % number)
        if number == 20:
            told[:] = told[told.index(b"snapshot of 15") :]
            await journal.release(last)


@pytest.mark.parametrize("seed", [1, pytest.param(range(2, 200), marks=pytest.mark.soak)])
@pytest.mark.parametrize("has_power", [True, False])
async def test_nothing_told_is_lost_at_any_step_of_the_disk(
    seed: int | range, has_power: bool
) -> None:
    for each in [seed] if isinstance(seed, int) else seed:
        step, went_through = 0, False
        while not went_through:
            disk, told = MemoryDisk(), []
            async with until_power_is_lost(disk, step):
                async with open_journal(
                    disk, ACCOUNT, segment_bytes=400, now_ns=lambda: START_NS
                ) as journal:
                    await live(journal, told)
                went_through = True
            rng = random.Random(f"{each} {step}")
            survivor = disk.after_kill() if has_power else disk.after_power_loss(rng)
            report, records = await reopen(survivor)
            sound = payloads([record for record in records if not record.is_after_damage])
            assert set(told) <= set(sound), (step, report.lines())
            if has_power:
                assert report.is_sound, (step, report.lines())
            again, _ = await reopen(survivor)
            assert again.is_sound or not report.is_sound
            step += 1
        assert step > 80


async def test_what_a_killed_process_left_is_durable_once_the_next_one_is_open() -> None:
    step, went_through = 0, False
    while not went_through:
        disk, told = MemoryDisk(), []
        async with until_power_is_lost(disk, step):
            async with open_journal(disk, ACCOUNT, segment_bytes=400) as journal:
                await live(journal, told)
            went_through = True
        second = disk.after_kill()
        replayed: list[bytes] = []
        async with open_journal(
            second, ACCOUNT, fold=lambda record, out=replayed: out.append(record.payload)
        ) as journal:
            await journal.append(b"second life")
            third = second.after_power_loss(random.Random(step))
        report, records = await reopen(third)
        assert payloads(records) == [*replayed, b"second life"], (step, report.lines())
        step += 1


async def test_a_stop_within_a_rotation_leaves_the_old_segment_or_the_whole_new_one() -> None:
    seen = set()
    for step in range(12):
        disk = MemoryDisk()
        async with open_journal(disk, ACCOUNT, segment_bytes=4096) as journal:
            await journal.append(b"record")
        async with until_power_is_lost(disk, step + 3):
            async with open_journal(disk.after_kill(), ACCOUNT, segment_bytes=4096):
                pass
            async with open_journal(disk, ACCOUNT, segment_bytes=4096) as journal:
                await journal.rotate([b"part"] * 20)
        disk.on_step = None
        for rng_seed in range(10):
            report, records = await reopen(disk.after_power_loss(random.Random(rng_seed)))
            assert report.is_sound
            parts = payloads(records).count(b"part")
            assert parts in (0, 20)
            assert payloads(records)[0] == b"record"
            seen.add(parts)
    assert seen == {0, 20}
