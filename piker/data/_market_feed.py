"""
One market in `datad`: a backend's events in, ring records, blocks and bars out.

`MarketFeed` is the only writer of its ring, blocks and arrays, and does no I/O: the tasks around
it are in `_feed_tasks`. One call of `apply` takes what one read of the venue's socket gave, puts
all records at once and rings the doorbell once. A bar's close is a record of the ring, in order
with the trades: it stands before the trade that opened the next bar.

Trade ids decide what is missing. A duplicate is dropped and counted. A jump, or a connection
that was lost, opens a `Loss`: live trades go on into ring and bars (flagged PARTIAL), a copy of
them is not needed, and `recover` later adds what the venue's history gave for the missing ids.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import trio

from piker import faults
from piker.data._blocks import L1Block, L2Block
from piker.data._ring import TickRing
from piker.model.feed import Book, FeedState, Quote, Trade
from piker.model.market import MktPair
from piker.model.ticks import (
    BAR,
    FEED_CONNECTING,
    FEED_LIVE,
    FEED_NAMES,
    FEED_STALE,
    QUOTE,
    RECOVERED,
    STATE,
    TAKER_SELL,
    TICK_DTYPE,
    TRADE,
)
from piker.tsp._bar_rows import BarChanges
from piker.tsp._trade_ids import TradeIds
from piker.tsp.series import BarSeries

NS = 1_000_000_000
NAN = math.nan
Event = Trade | Quote | Book | FeedState
Record = tuple[int, int, int, float, float, float, float, int, int, int]


class Loss(msgspec.Struct):
    """Trades that were not seen: ids `first_tid` (None: from the start) to `last_tid`."""

    first_tid: int | None
    last_tid: int
    start_s: int  # open of the oldest row that misses trades
    stop_ns: int  # venue time of the trade that ended the loss


class MarketFeed:
    """The writer of one market's shared memory."""

    def __init__(
        self,
        mkt: MktPair,
        ring: TickRing,
        series: dict[int, BarSeries],
        l1: L1Block,
        l2: L2Block,
        ring_bell: Callable[[], None],
        publish: Callable[[dict[str, Any]], None],
        now_ns: Callable[[], int],
    ) -> None:
        """`publish` takes control events for clients, `ring_bell` wakes the ring's readers."""
        self.mkt = mkt
        self.ring = ring
        self.series = series
        self.l1 = l1
        self.l2 = l2
        self.losses: list[Loss] = []  # ended, not recovered yet; oldest first
        self.has_losses = trio.Event()
        self.state = FeedState(FEED_CONNECTING, "", 0, 0.0, 0.0)
        self.newest_ns = 0  # venue time of the newest trade
        self.last_event_ns = 0  # run time of the newest message of any kind
        self.counters = dict.fromkeys(
            ("trades", "quotes", "books", "duplicates", "jumps", "recovered", "disconnects"), 0
        )
        self._ids = TradeIds()
        self._ring_bell = ring_bell
        self._publish = publish
        self._now_ns = now_ns
        self._records: list[Record] = []
        self._trades: list[tuple[int, Trade]] = []  # (position in _records, trade)
        self._is_lost = True  # until the first trade, whose id says what was before
        self._down_since_ns = 0
        self._l1: dict[str, Any] = {
            "bid": NAN, "bid_size": NAN, "ask": NAN, "ask_size": NAN, "last": NAN,
            "last_size": NAN, "last_tid": -1, "time_venue_ns": 0, "time_recv_ns": 0,
            "feed_state": FEED_CONNECTING, "session_open": 1, "trades": 0,
        }  # fmt: skip

    # ---- live -----------------------------------------------------------------------------

    def apply(self, events: Sequence[Event]) -> None:
        """Take what one read of the venue's socket gave, in order."""
        book: Book | None = None
        for event in events:
            match event:
                case Trade():
                    self._take_trade(event)
                case Quote():
                    self._take_quote(event)
                case Book():
                    self.counters["books"] += 1
                    book = event
                case FeedState():
                    self._take_state(event)
        if any(not isinstance(event, FeedState) for event in events):
            self.last_event_ns = self._now_ns()
            if self.state.state == FEED_STALE:
                self._take_state(FeedState(FEED_LIVE, "", 0, 0.0, self.state.expected_gap_s))
        self._flush_trades()
        if book is not None:
            self.l2.write(book.bids, book.asks, book.time_venue_ns, book.update_id)
        self._put()

    def _take_trade(self, trade: Trade) -> None:
        admitted = self._ids.admit(trade.tid)
        if admitted is False:
            self.counters["duplicates"] += 1
            return
        if admitted is not True and not self._is_lost:
            self.counters["jumps"] += 1
            self._mark_lost()
        self._is_lost = False
        flags = trade.flags | (TAKER_SELL if trade.taker_sell else 0)
        self._trades.append((len(self._records), trade))
        self._records.append(
            (0, TRADE, flags, trade.price, trade.size, NAN, NAN,
             trade.time_venue_ns, trade.time_recv_ns, trade.tid)
        )  # fmt: skip

    def _take_quote(self, quote: Quote) -> None:
        self.counters["quotes"] += 1
        self._records.append(
            (0, QUOTE, 0, quote.bid, quote.bid_size, quote.ask, quote.ask_size,
             quote.time_venue_ns, quote.time_recv_ns, -1)
        )  # fmt: skip
        self._l1 |= {
            "bid": quote.bid,
            "bid_size": quote.bid_size,
            "ask": quote.ask,
            "ask_size": quote.ask_size,
            "time_recv_ns": quote.time_recv_ns,
        }

    def _take_state(self, state: FeedState) -> None:
        was, self.state = self.state, state
        self._l1["feed_state"] = state.state
        if state.state != was.state:
            self._records.append((0, STATE, state.state, NAN, NAN, NAN, NAN, 0, self._now_ns(), -1))
        if state.state not in (FEED_LIVE, FEED_STALE) and was.state in (FEED_LIVE, FEED_STALE):
            self.counters["disconnects"] += 1
            self._down_since_ns = self._now_ns()
            self._flush_trades()
            self._mark_lost()
        if state.state == FEED_LIVE and self._down_since_ns:
            self._tell_gap(self._down_since_ns // NS, self._now_ns() // NS, "feed", 0, False)
            self._down_since_ns = 0
        self._publish({"event": "state", **self.describe_state()})

    def describe_state(self) -> dict[str, Any]:
        """Return the newest feed state as plain values."""
        return {
            "state": self.state.state,
            "name": FEED_NAMES.get(self.state.state, "down"),
            "cause": self.state.cause,
            "attempt": self.state.attempt,
            "retry_in_s": self.state.retry_in_s,
            "expected_gap_s": self.state.expected_gap_s,
        }

    def announce(self, period_s: int, epoch_s: int) -> None:
        """Close every row of a period that ended before `epoch_s`, and open the one there."""
        series = self.series.get(period_s)
        if series is None:
            return
        self._write_bars(series, series.builder.announce(epoch_s), [])
        self._put()

    # ---- losses ---------------------------------------------------------------------------

    def _mark_lost(self) -> None:
        self._flush_trades()
        self._is_lost = True
        for series in self.series.values():
            self._write_bars(series, series.builder.mark_lost(), [])
            series.lost_since = self.newest_ns // NS // series.period_s * series.period_s

    def _note_losses(self) -> None:
        """Remember the losses that the newest trades ended, by what the builders say is missing."""
        for series in self.series.values():
            for gap in series.builder.gaps:
                assert gap.last_tid is not None
                assert gap.t0_s is not None
                loss = next((old for old in self.losses if old.last_tid == gap.last_tid), None)
                if loss is None:
                    loss = Loss(gap.first_tid, gap.last_tid, gap.t0_s, self.newest_ns)
                    self.losses.append(loss)
                    self.has_losses.set()
                loss.start_s = min(loss.start_s, gap.t0_s)

    def recover(self, loss: Loss, trades: Sequence[Trade]) -> int:
        """
        Count the trades that history gave for `loss`; return how many were new.

        `trades` must be all with ids `loss.first_tid` (None: from `loss.start_s` on) to
        `loss.last_tid`. They also go into the ring, flagged RECOVERED, unless they are older
        than this feed.
        """
        columns = _columns(trades)
        for series in self.series.values():
            changes = series.builder.rebuild(
                *columns, first_tid=loss.first_tid, last_tid=loss.last_tid
            )
            self._write_bars(series, changes, [])
        self._forget(loss)
        if loss.first_tid is not None:
            for trade in trades:
                flags = RECOVERED | (TAKER_SELL if trade.taker_sell else 0)
                self._records.append(
                    (0, TRADE, flags, trade.price, trade.size, NAN, NAN,
                     trade.time_venue_ns, trade.time_recv_ns, trade.tid)
                )  # fmt: skip
            self._ids.recovered(loss.first_tid, loss.last_tid)
            self.counters["recovered"] += len(trades)
            if trades:
                self._tell_gap(loss.start_s, loss.stop_ns // NS, "feed", len(trades), True)
        self._put()
        return len(trades)

    def give_up(self, loss: Loss) -> None:
        """Leave the rows of a loss to a repair from the venue's bars."""
        for series in self.series.values():
            for gap in series.builder.gaps:
                if gap.last_tid == loss.last_tid:
                    series.apply(series.builder.give_up(gap))
        self._forget(loss)
        missing = 0 if loss.first_tid is None else loss.last_tid - loss.first_tid + 1
        if loss.first_tid is not None:
            self._ids.recovered(loss.first_tid, loss.last_tid)
            self._tell_gap(loss.start_s, loss.stop_ns // NS, "feed", missing, False)

    def _forget(self, loss: Loss) -> None:
        self.losses.remove(loss)
        if not self.losses:
            self.has_losses = trio.Event()

    def _tell_gap(self, start_s: int, stop_s: int, kind: str, n: int, filled: bool) -> None:
        self._publish(
            {"event": "gap", "t0": start_s, "t1": stop_s, "kind": kind, "n": n, "filled": filled}
        )

    # ---- writing --------------------------------------------------------------------------

    def _flush_trades(self) -> None:
        """Count the collected trades in both builders and put the bar closes between them."""
        if not self._trades:
            return
        trades = [trade for _, trade in self._trades]
        positions = [position for position, _ in self._trades]
        columns = _columns(trades)
        closes: list[tuple[int, int, Record]] = []
        for series in self.series.values():
            changes = series.builder.add_trades(*columns)
            series.lost_since = None
            closes += self._write_bars(series, changes, positions)
        for position, _, record in sorted(closes, key=lambda close: close[:2], reverse=True):
            self._records.insert(position, record)
        newest = max(trades, key=lambda trade: trade.tid)
        self.newest_ns = max(self.newest_ns, *(trade.time_venue_ns for trade in trades))
        self.counters["trades"] += len(trades)
        self._l1 |= {
            "last": newest.price,
            "last_size": newest.size,
            "last_tid": newest.tid,
            "time_venue_ns": newest.time_venue_ns,
            "time_recv_ns": newest.time_recv_ns,
            "trades": self.counters["trades"],
        }
        self._trades = []
        self._note_losses()

    def _write_bars(
        self, series: BarSeries, changes: BarChanges, positions: list[int]
    ) -> list[tuple[int, int, Record]]:
        """
        Write rows; return the records of closed ones as `(position, order, record)`.

        Without `positions` (no batch of trades) the records are appended at once.
        """
        if not changes and not changes.closed:
            return []
        series.apply(changes)
        closes: list[tuple[int, int, Record]] = []
        for n, row in changes.closed:
            index = series.array.index_of(row.time)
            record = (
                0, BAR, series.period_s, row.close, row.volume, row.open, float(row.count),
                row.time * NS, self._now_ns(), -1 if index is None else index,
            )  # fmt: skip
            if positions:
                closes.append((positions[n], series.period_s * (1 << 40) + row.time, record))
            else:
                self._records.append(record)
        return closes

    def _put(self) -> None:
        if not self._records:
            return
        records = np.array(self._records, TICK_DTYPE)
        self._records = []
        self.ring.put_many(records)
        faults.point("datad.ticks.published")
        self.l1.write(**self._l1)
        self._ring_bell()

    def take_first_quote(self, quote: dict[str, Any]) -> None:
        """Fill the L1 block from a backend's first quote, before the stream begins."""
        names = {
            "last": "last",
            "size": "last_size",
            "bid": "bid",
            "bsize": "bid_size",
            "ask": "ask",
            "asize": "ask_size",
        }
        for key, name in names.items():
            if isinstance(quote.get(key), (int, float)):
                self._l1[name] = float(quote[key])
        # To the microsecond: a float of epoch seconds carries no more.
        self._l1["time_venue_ns"] = round(quote.get("broker_ts", 0.0) * 1e6) * 1000
        self._l1["time_recv_ns"] = self._now_ns()
        self.l1.write(**self._l1)

    def statistics(self) -> dict[str, Any]:
        """Return the counters of this market, bars included."""
        return {
            **self.counters,
            "losses_open": len(self.losses),
            "ring_head": self.ring.head,
            "state": FEED_NAMES.get(self.state.state, "down"),
            **{
                f"{name}_{period_s}s": value
                for period_s, series in self.series.items()
                for name, value in series.statistics().items()
            },
        }


def _columns(
    trades: Sequence[Trade],
) -> tuple[list[int], list[int], list[float], list[float]]:
    return (
        [trade.tid for trade in trades],
        [trade.time_venue_ns for trade in trades],
        [trade.price for trade in trades],
        [trade.size for trade in trades],
    )
