"""
The synthetic flow as a `Source`: history from 7 days before the venue's first start until now.

Also the memory that makes one market in time of many runs: `first_start_ms`, a file of one fact.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import trio

from piker.errors import ConfigError
from piker.venues._flow import Flow
from piker.venues._market import (
    DAY_MS,
    HOUR_MS,
    MINUTE_MS,
    Rows,
    empty_trades,
    fill_flat,
    klines_of,
    merge_klines,
)

HISTORY_MS: Final = 7 * DAY_MS
STATE_FORMAT: Final = 1


class _State(msgspec.Struct):
    format: int
    seed: int
    first_start_ms: int


def first_start_ms(state_dir: Path | None, seed: int, now_ms: int) -> int:
    """
    Return when the venue of this seed was first started; remembers `now_ms` when it is new.

    Raises:
      ConfigError: the folder cannot be written or its file is not ours.
    """
    if state_dir is None:
        return now_ms
    path = state_dir / f"synthetic-{seed}.json"
    try:
        if path.exists():
            state = msgspec.json.decode(path.read_bytes(), type=_State)
            if state.format != STATE_FORMAT:
                raise ConfigError(f"{path}: format was {state.format}, expected {STATE_FORMAT}")
            return state.first_start_ms
        state_dir.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(_State(STATE_FORMAT, seed, now_ms)))
        os.replace(part, path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; choose a folder with --state") from None
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}; remove the file to start anew") from None
    return now_ms


class SyntheticSource:
    """One made-up market's public past."""

    def __init__(self, flow: Flow, start_ms: int) -> None:
        self.flow = flow
        self.spec = flow.market
        # A whole hour, so that every period up to an hour begins with a whole bar.
        self._start_ms = start_ms // HOUR_MS * HOUR_MS

    @property
    def start_ms(self) -> int:
        """When its history begins."""
        return self._start_ms

    def first_tid(self) -> int:
        """Return the id of the oldest trade."""
        return int(self.flow.hour(self.start_ms // HOUR_MS)["tid"][0])

    def last_tid(self, upto_ns: int) -> int:
        """Return the id of the newest public trade."""
        upto_ms = upto_ns // 1_000_000
        rows = self.flow.hour(upto_ms // HOUR_MS)
        at = int(np.searchsorted(rows["time_ms"], upto_ms, side="right"))
        return max(int(rows["tid"][0]) + at - 1, self.first_tid() - 1)

    def trades_by_id(self, first: int, count: int, upto_ns: int) -> Rows:
        """Return up to `count` public trades from id `first` on, by id."""
        first, stop = max(first, self.first_tid()), self.last_tid(upto_ns) + 1
        stop = min(stop, first + count)
        parts = []
        while first < stop:
            rows = self.flow.hour(self.flow.hour_of_tid(first))
            at = first - int(rows["tid"][0])
            parts.append(rows[at : at + stop - first])
            first += len(parts[-1])
        return np.concatenate(parts) if parts else empty_trades()

    def trades_since(self, start_ms: int, count: int, upto_ns: int) -> Rows:
        """Return up to `count` public trades at or after `start_ms`, by id."""
        start_ms = max(start_ms, self.start_ms)
        if start_ms > upto_ns // 1_000_000:
            return empty_trades()
        rows = self.flow.hour(start_ms // HOUR_MS)
        first = int(rows["tid"][0]) + int(np.searchsorted(rows["time_ms"], start_ms))
        return self.trades_by_id(first, count, upto_ns)

    async def klines(self, period_ms: int, start_ms: int, stop_ms: int, upto_ns: int) -> Rows:
        """Return the bars whose open is in [start, stop), ascending, without holes."""
        upto_ms = upto_ns // 1_000_000
        start_ms = max(start_ms, self.start_ms // period_ms * period_ms)
        end_ms = min(stop_ms - 1, upto_ms) // period_ms * period_ms + period_ms
        if end_ms <= start_ms:
            return klines_of(empty_trades(), period_ms)
        if period_ms < MINUTE_MS:
            trades = self.flow.trades_between(start_ms, min(end_ms, upto_ms + 1))
            rows = klines_of(trades, period_ms)
            return fill_flat(rows, period_ms, start_ms, end_ms, self.flow.close_before(start_ms))
        parts = []
        first_hour = max(start_ms, self.start_ms) // HOUR_MS
        for hour in range(first_hour, -(-min(end_ms, upto_ms + 1) // HOUR_MS)):
            parts.append(self._minutes(hour, start_ms, end_ms, upto_ms))
            await trio.lowlevel.checkpoint()
        return merge_klines(np.concatenate(parts), period_ms)

    def _minutes(self, hour: int, start_ms: int, end_ms: int, upto_ms: int) -> Rows:
        if (hour + 1) * HOUR_MS <= upto_ms:
            rows = self.flow.hour_minutes(hour)
        else:
            rows = self._young_minutes(hour, upto_ms)
        lo, hi = np.searchsorted(rows["time_ms"], (start_ms, end_ms))
        return rows[lo:hi]

    def _young_minutes(self, hour: int, upto_ms: int) -> Rows:
        start_ms = hour * HOUR_MS
        trades = self.flow.trades_between(start_ms, upto_ms + 1)
        stop_ms = upto_ms // MINUTE_MS * MINUTE_MS + MINUTE_MS
        close = self.flow.close_before(start_ms)
        return fill_flat(klines_of(trades, MINUTE_MS), MINUTE_MS, start_ms, stop_ms, close)
