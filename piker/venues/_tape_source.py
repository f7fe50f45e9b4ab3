"""
One recorded market: its trades, its bars and its book, as far as the tape has been played.

The records at the top are the recorded payloads, as far as they matter here; unknown fields pass.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

import msgspec
import numpy as np
import trio

from piker.venues._market import (
    TRADE_DTYPE,
    MarketSpec,
    Rows,
    empty_trades,
    fill_flat,
    klines_of,
)
from piker.venues._noise import Ints

QUOTES: Final = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "BTC", "ETH", "BNB", "EUR", "TRY")
LOOPS_KEPT: Final = 20  # loops whose trades stay as history
STREAM: Final = re.compile(rb'^\{"stream":"([^"@]+)@([^"]+)","data":')
_NUMBER: Final = re.compile(rb'"(E|T|t|U|u)":(\d+)')


class _Trade(msgspec.Struct):
    t: int
    T: int
    p: Decimal
    q: Decimal
    m: bool


class _TradeFrame(msgspec.Struct):
    data: _Trade


class _Diff(msgspec.Struct):
    U: int
    u: int
    b: list[tuple[Decimal, Decimal]]
    a: list[tuple[Decimal, Decimal]]


class _DiffFrame(msgspec.Struct):
    data: _Diff


class Snapshot(msgspec.Struct):
    """A REST depth snapshot as the recorder saved it."""

    lastUpdateId: int
    bids: list[tuple[Decimal, Decimal]]
    asks: list[tuple[Decimal, Decimal]]


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One recorded frame: when it arrived, its stream, its bytes; `data` begins at `data_at`."""

    local_ns: int
    stream: str
    combined: bytes
    data_at: int

    @property
    def raw(self) -> bytes:
        """The frame as a raw stream has it: the bytes of `data`, verbatim."""
        return self.combined[self.data_at : -1]


class TapeSource:
    """One recorded market's public past, and its book."""

    def __init__(self, symbol: str, kinds: dict[str, list[Frame]]) -> None:
        trade_frames = kinds.get("trade", [])
        decode = msgspec.json.Decoder(_TradeFrame, strict=False).decode
        trades = [decode(frame.combined).data for frame in trade_frames]
        self.spec = _spec(symbol, trades)
        self.rows = _rows(trades, self.spec)
        self._by_time = np.argsort(self.rows["time_ms"], kind="stable")
        self._arrived: Ints = np.array([frame.local_ns for frame in trade_frames], np.int64)
        self._diffs = [
            frame for kind, group in kinds.items() if kind.startswith("depth") for frame in group
        ]
        self._book = _Book()
        self._snapshot: Snapshot | None = None
        self._applied = 0
        self._recorded = self.rows, self._arrived
        self._loop, self._shift_ms = 0, 0
        self._update_span = self._updates()

    def add_snapshot(self, snapshot: Snapshot) -> None:
        """Use the tape's first snapshot as the start of the book."""
        if self._snapshot is None:
            self._snapshot = snapshot
            self._book.load(snapshot)

    def shifted(self, combined: bytes, shift_ms: int, loop: int) -> bytes:
        """Return a frame with its stamps and ids moved on to a later loop."""
        tid_span = len(self._recorded[0])
        spans = {b"E": shift_ms, b"T": shift_ms, b"t": loop * tid_span}

        def move(found: re.Match[bytes]) -> bytes:
            by = spans.get(found[1], loop * self._update_span)
            return b'"%s":%d' % (found[1], int(found[2]) + by)

        return _NUMBER.sub(move, combined)

    def start_again(self, loop: int, shift_ms: int) -> None:
        """Add the trades of the next loop and take the book back to its snapshot."""
        rows, arrived = self._recorded
        rows = rows.copy()
        rows["tid"] += loop * len(rows)
        rows["time_ms"] += shift_ms
        keep = -LOOPS_KEPT * len(rows)
        self.rows = np.concatenate([self.rows, rows])[keep:]
        self._arrived = np.concatenate([self._arrived, arrived + shift_ms * 1_000_000])[keep:]
        self._by_time = np.argsort(self.rows["time_ms"], kind="stable")
        self._loop, self._shift_ms, self._applied = loop, shift_ms, 0
        if self._snapshot is not None:
            self._book.load(self._snapshot)
            self._book.update_id += loop * self._update_span

    def _updates(self) -> int:
        """Return how many update ids the tape spans."""
        if not self._diffs:
            return 0
        decode = msgspec.json.Decoder(_DiffFrame).decode
        first, last = (decode(self._diffs[at].combined).data for at in (0, -1))
        return last.u - first.U + 1

    @property
    def start_ms(self) -> int:
        """When its history begins."""
        return int(self.rows["time_ms"].min()) if len(self.rows) else 0

    def first_tid(self) -> int:
        """Return the id of the oldest trade."""
        return int(self.rows["tid"][0]) if len(self.rows) else 0

    def last_tid(self, upto_ns: int) -> int:
        """Return the id of the newest public trade, `first_tid() - 1` when there is none."""
        return self.first_tid() + self._public(upto_ns) - 1

    def trades_by_id(self, first: int, count: int, upto_ns: int) -> Rows:
        """Return up to `count` public trades from id `first` on, by id."""
        lo = int(np.searchsorted(self.rows["tid"], first))
        return self.rows[lo : min(lo + count, self._public(upto_ns))]

    def trades_since(self, start_ms: int, count: int, upto_ns: int) -> Rows:
        """Return up to `count` public trades at or after `start_ms`, by id."""
        rows = self.rows[: self._public(upto_ns)]
        return rows[rows["time_ms"] >= start_ms][:count]

    async def klines(self, period_ms: int, start_ms: int, stop_ms: int, upto_ns: int) -> Rows:
        """Return the bars whose open is in [start, stop), ascending, without holes."""
        await trio.lowlevel.checkpoint()
        public = self._public(upto_ns)
        order = self._by_time[self._by_time < public]
        if not len(order):
            return klines_of(empty_trades(), period_ms)
        times = self.rows["time_ms"]
        first_ms = int(times[order[0]]) // period_ms * period_ms
        # Venue stamps may run ahead of the local ones that drive the replay.
        played_ms = min(upto_ns, int(self._arrived[-1])) // 1_000_000
        last_ms = max(int(times[order[-1]]), played_ms)
        start_ms = max(first_ms, -(-start_ms // period_ms) * period_ms)
        end_ms = min(stop_ms - 1, last_ms) // period_ms * period_ms + period_ms
        if end_ms <= start_ms:
            return klines_of(empty_trades(), period_ms)
        rows = klines_of(self.rows[order], period_ms)
        rows = rows[rows["time_ms"] < end_ms]
        whole = fill_flat(rows, period_ms, first_ms, end_ms, int(rows["open"][0]))
        return whole[whole["time_ms"] >= start_ms]

    def depth(
        self, count: int, upto_ns: int
    ) -> tuple[int, list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        """Return (update id, bids, asks) of the book as played, at first the snapshot."""
        decode = msgspec.json.Decoder(_DiffFrame).decode
        while self._applied < len(self._diffs):
            frame = self._diffs[self._applied]
            if frame.local_ns + self._shift_ms * 1_000_000 >= upto_ns:
                break
            moved = self.shifted(frame.combined, self._shift_ms, self._loop)
            self._book.apply(decode(moved if self._loop else frame.combined).data)
            self._applied += 1
        return self._book.top(count)

    def _public(self, upto_ns: int) -> int:
        return int(np.searchsorted(self._arrived, upto_ns))


def _rows(trades: list[_Trade], spec: MarketSpec) -> Rows:
    out: Any = np.zeros(len(trades), TRADE_DTYPE)
    out["tid"] = [trade.t for trade in trades]
    out["time_ms"] = [trade.T for trade in trades]
    out["price"] = [int(trade.p / spec.price_tick) for trade in trades]
    out["size"] = [int(trade.q / spec.size_tick) for trade in trades]
    out["taker_sell"] = [trade.m for trade in trades]
    return np.asarray(out)


class _Book:
    """Price levels as decimals, by the venue's own update rule."""

    def __init__(self) -> None:
        self.update_id = 0
        self.bids: dict[Decimal, Decimal] = {}
        self.asks: dict[Decimal, Decimal] = {}

    def load(self, snapshot: Snapshot) -> None:
        self.update_id = snapshot.lastUpdateId
        self.bids = dict(snapshot.bids)
        self.asks = dict(snapshot.asks)

    def apply(self, diff: _Diff) -> None:
        if diff.u <= self.update_id:
            return
        for levels, changes in ((self.bids, diff.b), (self.asks, diff.a)):
            for price, size in changes:
                if size:
                    levels[price] = size
                else:
                    levels.pop(price, None)
        self.update_id = diff.u

    def top(
        self, count: int
    ) -> tuple[int, list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        bids = sorted(self.bids.items(), reverse=True)[:count]
        asks = sorted(self.asks.items())[:count]
        return self.update_id, bids, asks


def _spec(symbol: str, trades: list[_Trade]) -> MarketSpec:
    quote = next((quote for quote in QUOTES if symbol.endswith(quote)), symbol[-3:])
    return MarketSpec(
        symbol,
        symbol.removesuffix(quote),
        quote,
        _tick([trade.p for trade in trades], Decimal("0.01")),
        _tick([trade.q for trade in trades], Decimal("0.00001")),
    )


def _tick(values: list[Decimal], default: Decimal) -> Decimal:
    """Return the coarsest power of ten that all `values` are multiples of."""
    digits = 0
    for value in values:
        exponent = value.normalize().as_tuple().exponent
        assert isinstance(exponent, int)
        digits = max(digits, -exponent)
    return Decimal(1).scaleb(-digits) if values else default
