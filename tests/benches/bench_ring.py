"""How near the tick ring and the bar array come to what memory can do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from record import Result, best_s, compare

from piker.data._ring import TickRing
from piker.data._sharedmem import attach_shm_array, open_shm_array
from piker.model.bars import BAR_DTYPE, empty_bars
from piker.model.ticks import TICK_DTYPE

BATCH = 100
ROUNDS = 2_000
ROWS = 86_400


def folder() -> str:
    """Return where segments go in production, or the temporary folder without it."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else tempfile.gettempdir()


def measure() -> Iterator[Result]:
    """Yield the cost of a record put and read, and of a whole array, beside bare copies."""
    ring = TickRing.create(folder(), "bench", "bench", "m", 1 << 16)
    reader = TickRing.attach(ring.token).reader()
    records = np.zeros(BATCH, TICK_DTYPE)
    target = np.zeros(BATCH, TICK_DTYPE)

    def through_the_ring() -> None:
        for _ in range(ROUNDS):
            ring.put_many(records)
            reader.read()

    def twice_by_copy() -> None:
        for _ in range(ROUNDS):
            target[:] = records
            records.copy()

    try:
        cost = best_s(through_the_ring) / ROUNDS / BATCH * 1e9
        bare = best_s(twice_by_copy) / ROUNDS / BATCH * 1e9
        yield compare("record put and read", cost, "ns", "two copies", bare, target=0.1)
    finally:
        ring.unlink()
        ring.close()
    yield from measure_array()


def measure_array() -> Iterator[Result]:
    """Yield the time of a consistent copy of a day of seconds beside a plain one."""
    array = open_shm_array("bench.rt", ROWS, shm_dir=folder(), run_id="bench", actor="bench")
    rows = empty_bars(ROWS)
    rows["time"] = np.arange(ROWS)
    array.push(rows)
    reader = attach_shm_array(array.token)
    plain = np.zeros(ROWS, BAR_DTYPE)
    try:
        checked = best_s(lambda: reader.array) * 1e3
        copied = best_s(plain.copy) * 1e3
        yield compare("a day of seconds, checked", checked, "ms", "a copy", copied, target=0.5)
        last = best_s(lambda: [reader.last(2) for _ in range(1000)]) * 1e3
        tail = best_s(lambda: [plain[-2:].copy() for _ in range(1000)]) * 1e3
        yield compare("the newest two rows, checked", last, "us", "a copy", tail, target=0.05)
    finally:
        array.unlink()
        array.close()
