"""
The exchange behind the wire: its markets, and how far time has been played.

`Market` is one market's past and its live book; `Exchange` is what REST asks and what a player
(`_players.py`) moves on. REST never shows what has not been played, so streams and REST agree by
construction.
"""

from __future__ import annotations

from decimal import Decimal

from piker.clock import monotonic_ns
from piker.venues._engine import BUY, SELL
from piker.venues._house import HouseBook
from piker.venues._market import Source
from piker.venues._synthetic import SyntheticSource
from piker.venues._tape_source import TapeSource
from piker.venues._time import VenueClock
from piker.venues.binance._streams import Hub
from piker.venues.binance._wire import Wire, amount


class Market:
    """One market: its past, its writer, and its live book once somebody looks at it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.wire = Wire(source.spec)
        self.book: HouseBook | None = None
        self.diff_id = 0  # last update id that a depth diff covered
        self.quoted: tuple[object, ...] = ()

    def agg_trades(
        self,
        upto_ns: int,
        limit: int,
        first: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> list[bytes]:
        """
        Return aggregate trades as REST lists them, oldest first.

        Each trade here is one taker order's, so an aggregate holds one trade and has its id.
        """
        source = self.source
        if first is not None:
            rows = source.trades_by_id(first, limit, upto_ns)
        elif start_ms is not None:
            rows = source.trades_since(start_ms, limit, upto_ns)
        else:
            newest = source.last_tid(upto_ns)
            rows = source.trades_by_id(newest + 1 - limit, limit, upto_ns)
            if end_ms is not None:
                rows = source.trades_since(max(0, end_ms - 3_600_000), 100_000, upto_ns)
                rows = rows[rows["time_ms"] <= end_ms][-limit:]
        if end_ms is not None:
            rows = rows[rows["time_ms"] <= end_ms]
        return [self.wire.agg_trade_row(row) for row in rows.tolist()]


class Exchange:
    """All markets of one venue at one moment."""

    def __init__(self, clock: VenueClock, markets: list[Market], hub: Hub) -> None:
        self.clock = clock
        self.markets = {market.wire.symbol: market for market in markets}
        self.hub = hub
        hub.now_ms = lambda: self.played_ns // 1_000_000
        self.played_ns = clock.now_ns()
        # The market begins to move at the anchor of its clock, or now.
        anchor_ns = clock.spec.anchor_ns if clock.spec else 0
        self._began = self.played_ns, max(anchor_ns, monotonic_ns())
        self.counts = {"trades": 0, "frames_played": 0}

    def speed_played(self) -> float:
        """Return market seconds played for each real second since the market began to move."""
        played_ns, real_ns = self._began
        passed_ns = monotonic_ns() - real_ns
        return (self.played_ns - played_ns) / passed_ns if passed_ns > 0 else 0.0

    def live_book(self, market: Market) -> HouseBook:
        """Return the synthetic market's book, started when this is the first look at it."""
        if market.book is None:
            assert isinstance(market.source, SyntheticSource), "a tape keeps its own book"
            book = HouseBook(market.source.flow)
            book.start(self.played_ns // 1_000_000)
            market.book, market.diff_id = book, book.update_id
        return market.book

    def depth(self, market: Market, count: int) -> bytes:
        """Return a REST book snapshot."""
        source = market.source
        if isinstance(source, TapeSource):
            update_id, bids, asks = source.depth(count, self.played_ns)
            sides = (",".join(f'["{amount(p)}","{amount(s)}"]' for p, s in x) for x in (bids, asks))
            return '{{"lastUpdateId":{},"bids":[{}],"asks":[{}]}}'.format(
                update_id, *sides
            ).encode()
        book = self.live_book(market)
        levels = (book.engine.levels(side, count) for side in (BUY, SELL))
        return market.wire.depth(book.update_id, *levels)

    def best(self, market: Market) -> tuple[str, str, str, str]:
        """Return bid, bid size, ask, ask size as Binance writes them."""
        source, wire = market.source, market.wire
        if isinstance(source, TapeSource):
            _, bids, asks = source.depth(1, self.played_ns)
            nothing = (Decimal(0), Decimal(0))
            (bid, bid_size), (ask, ask_size) = [*bids, nothing][0], [*asks, nothing][0]
            return amount(bid), amount(bid_size), amount(ask), amount(ask_size)
        engine = self.live_book(market).engine
        best_bid, best_ask = engine.best(BUY) or (0, 0), engine.best(SELL) or (0, 0)
        return (
            wire.price(best_bid[0]),
            wire.size(best_bid[1]),
            wire.price(best_ask[0]),
            wire.size(best_ask[1]),
        )
