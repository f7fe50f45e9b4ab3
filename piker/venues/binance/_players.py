"""
The players: the one task of a venue that moves `played_ns` on and publishes what happened.

`SyntheticPlayer` lets the house trade what the flow says; `TapePlayer` sends recorded frames.
Both also feed `KlineStreams`.
"""

from __future__ import annotations

from typing import Final

import trio

from piker.venues._engine import BUY, SELL
from piker.venues._house import HouseBook
from piker.venues._tape import Tape
from piker.venues._tape_source import Frame
from piker.venues._time import PacedClock
from piker.venues.binance._exchange import Exchange, Market
from piker.venues.binance._klines import PERIODS_MS, klines_asked

TICK_S: Final = 0.02  # how often a player looks at the clock
BOOK_STEP_MS: Final = 100
KLINE_PAUSE_S: Final = 0.25  # forming bars are streamed at most this often
CATCH_UP_MS: Final = 300_000  # market time made in one go after a pause
QUOTE_EACH_TRADE_SPEED_MAX: Final = 20  # faster, the best quotes are streamed once per book step
PARTIALS: Final = (5, 10, 20)
BACKLOG_BYTES_MAX: Final = 1_000_000  # an unpaced tape waits for clients with more than this
UNPACED_FRAMES: Final = 200


class KlineStreams:
    """The `@kline_<interval>` streams: each closed bar once, the forming one now and then."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._open_ms: dict[str, int] = {}
        self._next_s = 0.0

    async def publish(self) -> None:
        """Send what changed since the last call to those who listen."""
        now_s = trio.current_time()
        if now_s < self._next_s:
            return
        self._next_s = now_s + KLINE_PAUSE_S
        hub, upto_ns = self._exchange.hub, self._exchange.played_ns
        heard = [stream for stream in hub.streams() if "@kline_" in stream]
        self._open_ms = {k: v for k, v in self._open_ms.items() if k in heard}
        for stream in heard:
            symbol, _, interval = stream.partition("@kline_")
            market = self._exchange.markets.get(symbol.upper())
            if market is None or interval not in PERIODS_MS:
                continue
            start_ms = self._open_ms.get(stream)
            limit = 1 if start_ms is None else 1000
            rows = await klines_asked(market.source, interval, limit, upto_ns, start_ms)
            for row in rows:
                payload = market.wire.kline(
                    row, interval, PERIODS_MS[interval], upto_ns // 1_000_000
                )
                hub.publish(stream, payload)
            if len(rows):
                self._open_ms[stream] = int(rows["time_ms"][-1])


class SyntheticPlayer:
    """Lets the house trade what the flow says as time passes, and publishes it."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._klines = KlineStreams(exchange)
        speed = exchange.clock.speed
        self._quotes_each_trade = speed <= QUOTE_EACH_TRADE_SPEED_MAX
        steps = max(1, round(speed * TICK_S * 1000 / BOOK_STEP_MS))
        self._step_ms = BOOK_STEP_MS * steps
        self._stepped = 0

    async def run(self) -> None:
        """Play until cancelled."""
        while True:
            is_behind = await self._play()
            await trio.sleep(0 if is_behind else TICK_S)

    async def _play(self) -> bool:
        """Play up to now; returns whether more is due at once."""
        exchange = self._exchange
        start_ms = exchange.played_ns // 1_000_000
        now_ms = exchange.clock.now_ns() // 1_000_000
        stop_ms = min(now_ms, start_ms + CATCH_UP_MS)
        if stop_ms <= start_ms:
            return False
        is_step = stop_ms // self._step_ms > self._stepped
        for market in exchange.markets.values():
            self._wake(market)
            if market.book is not None:
                self._trade(market, market.book, start_ms, stop_ms)
                if is_step:
                    self._step(market, market.book, stop_ms)
        exchange.played_ns = stop_ms * 1_000_000
        if is_step:
            self._stepped = stop_ms // self._step_ms
            await self._klines.publish()
        return stop_ms < now_ms

    def _wake(self, market: Market) -> None:
        """Start the book of a market that somebody began to listen to."""
        if market.book is None:
            prefix = market.wire.stream_key + "@"
            if any(stream.startswith(prefix) for stream in self._exchange.hub.streams()):
                self._exchange.live_book(market)

    def _trade(self, market: Market, book: HouseBook, start_ms: int, stop_ms: int) -> None:
        hub, wire, key = self._exchange.hub, market.wire, market.wire.stream_key
        rows = book.flow.trades_between(start_ms + 1, stop_ms + 1)
        trades, aggregates = f"{key}@trade", f"{key}@aggTrade"
        hears_trades, hears_aggregates = hub.is_heard(trades), hub.is_heard(aggregates)
        for row in rows.tolist():
            book.trade(row)
            if hears_trades:
                hub.publish(trades, wire.trade(row))
            if hears_aggregates:
                hub.publish(aggregates, wire.agg_trade(row))
            if self._quotes_each_trade:
                self._quote(market, book)
        self._exchange.counts["trades"] += len(rows)

    def _step(self, market: Market, book: HouseBook, now_ms: int) -> None:
        """Re-quote, then send best quotes, diff and partial books."""
        hub, wire, key = self._exchange.hub, market.wire, market.wire.stream_key
        book.requote(now_ms)
        self._quote(market, book)
        bids, asks = book.engine.take_changes()
        if bids or asks:
            first, market.diff_id = market.diff_id + 1, book.update_id
            diffs = [name for name in (f"{key}@depth", f"{key}@depth@100ms") if hub.is_heard(name)]
            payload = wire.depth_update(now_ms, first, book.update_id, bids, asks) if diffs else b""
            for name in diffs:
                hub.publish(name, payload)
        for count in PARTIALS:
            for name in (f"{key}@depth{count}", f"{key}@depth{count}@100ms"):
                if hub.is_heard(name):
                    levels = (book.engine.levels(side, count) for side in (BUY, SELL))
                    hub.publish(name, wire.depth(book.update_id, *levels))

    def _quote(self, market: Market, book: HouseBook) -> None:
        stream = f"{market.wire.stream_key}@bookTicker"
        if not self._exchange.hub.is_heard(stream):
            return
        bid, ask = book.engine.best(BUY), book.engine.best(SELL)
        if bid and ask and (bid, ask) != market.quoted:
            market.quoted = bid, ask
            self._exchange.hub.publish(stream, market.wire.book_ticker(book.update_id, bid, ask))


class TapePlayer:
    """
    Plays recorded frames verbatim when their local time stamp has come.

    At speed 0 there is no clock: it starts with the first subscriber and goes as fast as the
    slowest client reads. At its end the market stands still; looping, it starts again with stamps
    and ids moved on, and a server shutdown so that clients build their books anew.
    """

    def __init__(self, exchange: Exchange, tape: Tape, *, is_looping: bool) -> None:
        self._exchange = exchange
        self._tape = tape
        self._is_looping = is_looping
        self._next = 0
        self._klines = KlineStreams(exchange)

    async def run(self) -> None:
        """Play until cancelled."""
        clock = self._exchange.clock
        while True:
            if isinstance(clock, PacedClock):
                await self._play_unpaced(clock)
            else:
                await trio.sleep(TICK_S)
                now_ns = clock.now_ns()
                self._play(self._tape.played(now_ns), now_ns)
            if self._is_looping and self._next == len(self._tape.frames):
                self._start_again()
            await self._klines.publish()

    def _start_again(self) -> None:
        self._tape.start_again()
        self._next = 0
        self._exchange.hub.shut_down()

    def _play(self, stop: int, now_ns: int) -> None:
        hub, before_ns = self._exchange.hub, self._exchange.played_ns
        self._exchange.played_ns = now_ns
        for index in range(self._next, stop):
            frame = self._tape.frame(index)
            hub.publish(frame.stream, frame.raw, frame.combined)
            if "@depth" in frame.stream:
                self._derive_books(frame)
        self._exchange.counts["frames_played"] += max(0, stop - self._next)
        self._next = max(self._next, stop)
        for market in self._exchange.markets.values():
            self._derive_trades(market, before_ns, now_ns)

    def _derive_books(self, frame: Frame) -> None:
        """Publish what Binance would have sent beside a recorded depth diff."""
        hub, key = self._exchange.hub, frame.stream.partition("@")[0]
        for name in (f"{key}@depth", f"{key}@depth@100ms"):
            if name != frame.stream:
                hub.publish(name, frame.raw)
        for count in PARTIALS:
            for name in (f"{key}@depth{count}", f"{key}@depth{count}@100ms"):
                if hub.is_heard(name):
                    market = self._exchange.markets[key.upper()]
                    hub.publish(name, self._exchange.depth(market, count))

    def _derive_trades(self, market: Market, before_ns: int, now_ns: int) -> None:
        stream = f"{market.wire.stream_key}@aggTrade"
        first = market.source.last_tid(before_ns) + 1
        count = market.source.last_tid(now_ns) + 1 - first
        self._exchange.counts["trades"] += count
        if count and self._exchange.hub.is_heard(stream):
            for row in market.source.trades_by_id(first, count, now_ns).tolist():
                self._exchange.hub.publish(stream, market.wire.agg_trade(row))

    async def _play_unpaced(self, clock: PacedClock) -> None:
        hub, count = self._exchange.hub, len(self._tape.frames)
        if not hub.streams() or self._next == count or hub.backlog() > BACKLOG_BYTES_MAX:
            await trio.sleep(TICK_S / 4)
            return
        stop = min(self._next + UNPACED_FRAMES, count)
        clock.time_ns = self._tape.frame(stop - 1).local_ns + 1
        self._play(stop, clock.time_ns)
        await trio.lowlevel.checkpoint()
