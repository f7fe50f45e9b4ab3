"""
The tick ring: one writer, many readers, a reader never holds the writer back.

Rules:
1. The writer stores RESERVE, then the records, then HEAD. A reader copies first and then asks
   RESERVE what was overwritten meanwhile; it never trusts a record without that.
2. A reader that was lapped is told so: the first record it gets is one GAP record whose `tid` is
   the exact number of records it missed, then the survivors.
3. All fields are 8 bytes and aligned. The order of stores and of loads that rule 1 needs is what
   x86-64 keeps; elsewhere `require_ordered_memory` must pass first.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from piker import clock
from piker.data._segment import (
    WORD_USER,
    InSegment,
    Segment,
    SegmentGone,
    attach_segment,
    create_segment,
)
from piker.errors import ConfigError
from piker.model.ticks import GAP, TICK_DTYPE

# One cache line each, so that a reader's polling does not slow the writer's other stores.
_RESERVE = WORD_USER
_HEAD = WORD_USER + 8
_CAPACITY = WORD_USER + 16

READ_MAX = 4096  # records of one read: 320 kB, a copy of well under a millisecond


class TickRing(InSegment):
    """A ring of `TICK_DTYPE` records in shared memory; made by `create` or `attach`."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self._words = segment.words
        self.capacity = self._words[_CAPACITY]
        self._mask = self.capacity - 1
        self._records: np.ndarray = np.frombuffer(segment.payload, TICK_DTYPE, count=self.capacity)
        self._next = self._words[_HEAD]

    @classmethod
    def create(
        cls, shm_dir: Path | str, run_id: str, actor: str, market: str, capacity: int
    ) -> TickRing:
        """
        Make an empty ring of `capacity` records, rounded up to a power of two.

        Raises:
          ShmFull, ConfigError: as `create_segment`.
        """
        capacity = 1 << max(3, (capacity - 1).bit_length())
        size = capacity * TICK_DTYPE.itemsize
        segment = create_segment(shm_dir, run_id, actor, market, "ticks", size)
        segment.words[_CAPACITY] = capacity
        return cls(segment)

    @classmethod
    def attach(cls, token: dict[str, Any]) -> TickRing:
        """
        Map the ring that `token` names, for reading.

        Raises:
          SegmentGone: it is of another generation or no longer there.
        """
        segment = attach_segment(token["path"], int(token["generation"]))
        if segment.words[_CAPACITY] != token["capacity"]:
            raise SegmentGone(f"{token['path']}: is no ring of {token['capacity']} records")
        return cls(segment)

    @property
    def token(self) -> dict[str, Any]:
        """What another process needs to attach; plain values that may travel."""
        return {
            "path": str(self.segment.path),
            "generation": self.segment.generation,
            "capacity": self.capacity,
        }

    @property
    def head(self) -> int:
        """How many records were ever put: the sequence number of the next one."""
        return self._words[_HEAD]

    def put_many(self, records: np.ndarray) -> int:
        """
        Append `records` (their `seq` is set here) and return the sequence number of the first.

        More than a quarter of the ring at once is put in pieces, so that a reader that is
        in the middle of a copy loses as little as it must.
        """
        first, piece = self._next, self.capacity // 4
        for start in range(0, len(records), piece):
            self._put(records[start : start + piece])
        return first

    def _put(self, records: np.ndarray) -> None:
        count, position = len(records), self._next
        slot = position & self._mask
        records["seq"] = np.arange(position, position + count)
        self._words[_RESERVE] = position + count
        fits = min(count, self.capacity - slot)
        self._records[slot : slot + fits] = records[:fits]
        if count > fits:
            self._records[: count - fits] = records[fits:]
        self._next = self._words[_HEAD] = position + count

    def reader(self, from_seq: int | None = None) -> RingReader:
        """Return a cursor at `from_seq`, or behind the newest record when None."""
        return RingReader(self, self.head if from_seq is None else from_seq)

    def close(self) -> None:
        """Unmap; the ring stays for others."""
        del self._records
        self.segment.close()


class RingReader:
    """
    One reader's place in a ring.

    `position` is the sequence number that comes next, `lost` counts the records missed for good.
    """

    def __init__(self, ring: TickRing, position: int) -> None:
        self.ring = ring
        self.position = min(max(position, 0), ring.head)
        self.lost = 0

    def has_data(self) -> bool:
        """Return whether `read` would return something; one load, for the doorbell."""
        return self.ring._words[_HEAD] != self.position

    def read(self, most: int = READ_MAX) -> np.ndarray:
        """
        Return up to `most` records in order, as a copy; empty when there is nothing new.

        When records were overwritten before they could be read, one GAP record stands first:
        its `tid` is how many are missing, its `seq` the first missing one.
        """
        ring, words = self.ring, self.ring._words
        first_missing, lost = self.position, 0
        while True:
            oldest = words[_RESERVE] - ring.capacity  # before HEAD, which then cannot be behind it
            head = words[_HEAD]
            if head == self.position:
                return ring._records[:0]
            if self.position < oldest:
                lost += oldest - self.position
                self.position = oldest
            # Of a reader that slept between the two loads, HEAD may be laps ahead of `oldest`.
            count = min(head - self.position, most, ring.capacity)
            out = self._copy(count)
            overwritten = words[_RESERVE] - ring.capacity - self.position
            self.position += count
            if overwritten <= 0:
                break
            lost += min(overwritten, count)
            if overwritten < count:
                out = out[overwritten:]
                break
        if not lost:
            return out
        self.lost += lost
        return np.concatenate((_gap_record(first_missing, lost, out[0]), out))

    def _copy(self, count: int) -> np.ndarray:
        ring = self.ring
        slot = self.position & ring._mask
        fits = min(count, ring.capacity - slot)
        out: np.ndarray = np.empty(count, TICK_DTYPE)
        out[:fits] = ring._records[slot : slot + fits]
        if count > fits:
            out[fits:] = ring._records[: count - fits]
        return out


def _gap_record(seq: int, lost: int, survivor: np.void) -> np.ndarray:
    row: np.ndarray = np.zeros(1, TICK_DTYPE)
    for name in ("price", "size", "price2", "size2"):
        row[name] = np.nan
    row["seq"], row["type"], row["tid"] = seq, GAP, lost
    row["time_recv_ns"] = survivor["time_recv_ns"]
    return row


_PROBE = """
import sys
import numpy as np
from piker.data._ring import TickRing
from piker.model.ticks import TICK_DTYPE
path, generation, capacity, total = sys.argv[1], *map(int, sys.argv[2:])
reader = TickRing.attach({"path": path, "generation": generation, "capacity": capacity}).reader(0)
print("ready", flush=True)
torn = seen = 0
while seen + reader.lost < total:
    rows = reader.read()
    rows = rows[rows["type"] == 1]
    seen += len(rows)
    torn += int(np.count_nonzero((rows["tid"] != rows["seq"]) | (rows["price2"] != rows["seq"])))
print(torn, seen, reader.lost, flush=True)
"""


def require_ordered_memory(shm_dir: Path | str | None = None, *, machine: str = "") -> None:
    """
    Pass on x86-64; on another CPU put the ring's ordering to the test with a second process.

    Raises:
      ConfigError: a reader saw a record that was not there yet; piker must not run here.
    """
    machine = machine or platform.machine()
    if machine in ("x86_64", "AMD64"):
        return
    torn = probe_ordering(shm_dir or tempfile.gettempdir())
    if torn:
        raise ConfigError(
            f"cpu: {machine} does not keep the order of stores that shared memory needs "
            f"({torn} torn records in the self-test), expected x86-64; run piker on such a machine"
        )


def probe_ordering(shm_dir: Path | str, total: int = 400_000) -> int:
    """Return how many of `total` records a reader in another process saw torn or out of order."""
    ring = TickRing.create(shm_dir, f"probe{clock.rng().getrandbits(32):x}", "selftest", "x", 256)
    token = ring.token
    arguments = [str(token[name]) for name in ("path", "generation", "capacity")]
    command = [sys.executable, "-c", _PROBE, *arguments, str(total)]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
            assert reader.stdout is not None
            reader.stdout.readline()
            records: np.ndarray = np.zeros(16, TICK_DTYPE)
            records["type"] = 1
            while ring.head < total:
                records["tid"] = np.arange(ring.head, ring.head + len(records))
                records["price2"] = records["tid"]
                ring.put_many(records)
            torn, _seen, _lost = reader.stdout.readline().split()
            return int(torn)
    finally:
        ring.unlink()
        ring.close()
