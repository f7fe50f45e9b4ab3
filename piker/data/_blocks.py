"""
The L1 and L2 blocks: the newest quote, trade and book of one market in shared memory.

One writer. Two slots are written in turn, each under its own stamp (odd while written), so that
there is always one whole value: the newest one or, while that is written, the one before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from piker.data._segment import (
    WORD_USER,
    InSegment,
    Segment,
    SegmentGone,
    attach_segment,
    create_segment,
)

_TURN = WORD_USER  # how many values were written; slot = turn % 2
_LEVELS = WORD_USER + 8
READ_TRIES = 16  # a read fails only when two whole writes pass while it copies


class L1(msgspec.Struct, frozen=True, gc=False):
    """The newest quote and trade; sizes and prices are nan and ids -1 until there is one."""

    bid: float
    bid_size: float
    ask: float
    ask_size: float
    last: float
    last_size: float
    last_tid: int
    time_venue_ns: int
    time_recv_ns: int
    feed_state: int  # FEED_* of piker.model.ticks
    session_open: int  # 1: the market trades now
    trades: int  # counted since the writer started


class L2(msgspec.Struct, frozen=True):
    """The best levels of the book: arrays of (price, size), best first, shape (n, 2)."""

    bids: np.ndarray
    asks: np.ndarray
    time_venue_ns: int
    update_id: int


_nan = float("nan")
NO_L1 = L1(_nan, _nan, _nan, _nan, _nan, _nan, -1, 0, 0, 0, 1, 0)


class _Block(InSegment):
    """Two slots of 8-byte cells under stamps; cell 0 of a slot is its stamp."""

    kind = ""

    def __init__(self, segment: Segment, cells: int) -> None:
        self.segment = segment
        self._words = segment.words
        self._cells = cells
        size = 2 * cells * 8
        self._ints = segment.payload[:size].cast("q")
        self._floats = segment.payload[:size].cast("d")
        self._slots: np.ndarray = np.frombuffer(segment.payload, "f8", count=2 * cells)

    @property
    def token(self) -> dict[str, Any]:
        """What another process needs to attach; plain values that may travel."""
        return {"path": str(self.segment.path), "generation": self.segment.generation}

    def close(self) -> None:
        """Unmap; the block stays for others."""
        del self._slots
        self._ints.release()
        self._floats.release()
        self.segment.close()

    def _begin(self) -> int:
        """Close the slot that is next for readers and return where its cells begin."""
        base = (self._words[_TURN] + 1) % 2 * self._cells
        self._ints[base] |= 1
        return base

    def _end(self, base: int) -> None:
        self._ints[base] += 1
        self._words[_TURN] += 1

    def _newest(self) -> np.ndarray | None:
        """Return the newest slot's cells behind its stamp, whole; None before the first."""
        turn = 0
        for _ in range(READ_TRIES):
            turn = self._words[_TURN]
            if turn == 0:
                return None
            base = turn % 2 * self._cells
            stamp = self._ints[base]
            cells = self._slots[base + 1 : base + self._cells].copy()
            if not stamp & 1 and self._ints[base] == stamp:
                return cells
        raise SegmentGone(f"{self.segment.path}: no whole value in {READ_TRIES} tries")


class L1Block(_Block):
    """The newest quote and trade of one market."""

    kind = "l1"

    @classmethod
    def create(cls, shm_dir: Path | str, run_id: str, actor: str, market: str) -> L1Block:
        """Make an empty block; raises as `create_segment`."""
        size = 2 * 8 * (1 + len(L1.__struct_fields__))
        return cls(create_segment(shm_dir, run_id, actor, market, cls.kind, size), size // 16)

    @classmethod
    def attach(cls, token: dict[str, Any]) -> L1Block:
        """
        Map the block that `token` names, for reading.

        Raises:
          SegmentGone: it is of another generation or no longer there.
        """
        segment = attach_segment(token["path"], int(token["generation"]))
        return cls(segment, 1 + len(L1.__struct_fields__))

    def write(self, **fields: float) -> None:
        """Publish the value whose fields, all of those of `L1`, are given by name."""
        value = L1(**fields)  # type: ignore[arg-type]
        base = self._begin()
        floats, ints = self._floats, self._ints
        for i, name in enumerate(L1.__struct_fields__, base + 1):
            (floats if i < base + 7 else ints)[i] = getattr(value, name)
        self._end(base)

    def read(self) -> L1:
        """Return the newest value (`NO_L1` before the first)."""
        cells = self._newest()
        if cells is None:
            return NO_L1
        return L1(*cells[:6].tolist(), *cells[6:].view("i8").tolist())


class L2Block(_Block):
    """The best levels of one market's book."""

    kind = "l2"

    def __init__(self, segment: Segment, levels: int) -> None:
        super().__init__(segment, 5 + 4 * levels)
        self.levels = levels
        none: np.ndarray = np.empty((0, 2))
        self._read_turn, self._read = 0, L2(none, none, 0, 0)

    @classmethod
    def create(
        cls, shm_dir: Path | str, run_id: str, actor: str, market: str, levels: int
    ) -> L2Block:
        """Make an empty block of `levels` levels a side; raises as `create_segment`."""
        size = 2 * 8 * (5 + 4 * levels)
        segment = create_segment(shm_dir, run_id, actor, market, cls.kind, size)
        segment.words[_LEVELS] = levels
        return cls(segment, levels)

    @classmethod
    def attach(cls, token: dict[str, Any]) -> L2Block:
        """
        Map the block that `token` names, for reading.

        Raises:
          SegmentGone: it is of another generation or no longer there.
        """
        segment = attach_segment(token["path"], int(token["generation"]))
        return cls(segment, segment.words[_LEVELS])

    def write(
        self,
        bids: Sequence[tuple[float, float]],
        asks: Sequence[tuple[float, float]],
        time_venue_ns: int,
        update_id: int,
    ) -> None:
        """Publish the best levels of a book, best first; more than the block holds are cut off."""
        sides = [np.asarray(side[: self.levels], "f8").reshape(-1, 2) for side in (bids, asks)]
        base = self._begin()
        head = (time_venue_ns, update_id, len(sides[0]), len(sides[1]))
        for i, value in enumerate(head, base + 1):
            self._ints[i] = value
        for at, side in zip((base + 5, base + 5 + 2 * self.levels), sides, strict=True):
            self._slots[at : at + side.size] = side.ravel()
        self._end(base)

    def read(self) -> L2:
        """Return the newest book (empty before the first), the same until another is written."""
        turn = self._words[_TURN]
        if turn != self._read_turn and (cells := self._newest()) is not None:
            time_ns, update_id, n_bids, n_asks = cells[:4].view("i8").tolist()
            sides = cells[4:].reshape(2, self.levels, 2)
            self._read_turn = turn
            self._read = L2(sides[0, :n_bids], sides[1, :n_asks], time_ns, update_id)
        return self._read
