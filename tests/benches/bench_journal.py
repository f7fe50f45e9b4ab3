"""
What a durable order record costs, beside the bare `fdatasync` of the same file system.

The journal lies below PIKER_BENCH_DIR, else in the system's folder for temporary files.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import trio
from record import Result, compare

from piker.storage.disk import FolderDisk
from piker.storage.journal import Journal, open_journal

RECORD = b"x" * 300
SAMPLES = 1000
CLIENTS = 64
RECORDS_EACH = 60
ADDED_P50_S, ADDED_P99_S = 0.0015, 0.006
APPENDS_PER_S = 1000


def measure() -> Iterator[Result]:
    """Yield one client's wait at the median and p99, and what many clients get together."""
    folder = os.environ.get("PIKER_BENCH_DIR")
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as place:
        raw = raw_waits_s(Path(place) / "raw")
        alone = trio.run(appends_s, FolderDisk(Path(place) / "alone"))
        together = trio.run(many_appends_per_s, FolderDisk(Path(place) / "together"))
    for name, share, added_s in (("p50", 0.5, ADDED_P50_S), ("p99", 0.99, ADDED_P99_S)):
        ours, floor = (float(np.quantile(waits, share)) for waits in (alone, raw))
        target = floor / (floor + added_s)  # larger while it adds no more than it may
        yield compare(
            f"journal.append, {name}", ours * 1e6, "us",
            f"fdatasync alone, {name}", floor * 1e6, target=target,
        )  # fmt: skip
    yield compare(
        f"journal.append, {CLIENTS} clients", together, "records/s", "the order path's need",
        APPENDS_PER_S, target=1.0, smaller_is_better=False,
    )  # fmt: skip


def raw_waits_s(path: Path) -> list[float]:
    """Return how long each of many writes takes to be durable in a preallocated file."""
    waits = []
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.pwrite(fd, bytes(SAMPLES * len(RECORD)), 0)
        os.fsync(fd)
        for number in range(SAMPLES):
            begun = time.perf_counter()
            os.pwrite(fd, RECORD, number * len(RECORD))
            os.fdatasync(fd)
            waits.append(time.perf_counter() - begun)
    finally:
        os.close(fd)
    return waits


async def appends_s(disk: FolderDisk) -> list[float]:
    """Return how long each append of one client takes."""
    waits = []
    async with open_journal(disk, "bench") as journal:
        for _ in range(SAMPLES):
            begun = time.perf_counter()
            await journal.append(RECORD)
            waits.append(time.perf_counter() - begun)
    return waits


async def many_appends_per_s(disk: FolderDisk) -> float:
    """Return the durable records a second of many clients, each waiting for its own."""
    async with open_journal(disk, "bench") as journal:
        begun = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(CLIENTS):
                nursery.start_soon(append_some, journal)
        return CLIENTS * RECORDS_EACH / (time.perf_counter() - begun)


async def append_some(journal: Journal) -> None:
    """Be one client."""
    for _ in range(RECORDS_EACH):
        await journal.append(RECORD)
