"""
The dark book: orders and alerts that wait for a price, and the ticks that make them fire.

Pure: batches of ticks in, what fired out. The side of a trigger is fixed when its order is entered
(`side_of`) and given to `arm`; nothing here computes it anew. What fires leaves the book, so it
fires once. A batch without a crossing costs a few array operations, however many orders wait.

Which ticks count: a buy looks at trades and the ask, a sell at trades and the bid, an alert at
trades, those learned from the venue's history too. `lasts` holds prices of trades only.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal

import msgspec
import numpy as np

from piker.clearing._messages import Order, Side, parse_trail
from piker.model.market import MktPair
from piker.model.ticks import GAP, QUOTE, RECOVERED, TRADE

PAD_TICKS = 5

Watch = Literal["buy", "sell", "alert"]
Prices = np.ndarray[Any, np.dtype[np.float64]]

# Prices are found as floats within this share of the trigger and then compared exactly.
_SLACK = 1e-9


class Fired(msgspec.Struct, frozen=True):
    """
    A trigger that was crossed.

    `price` is what to send (None: as the order says), `at` the price that crossed it and `time_ns`
    its market time. `gapped`: it was crossed while nobody watched.
    """

    oid: str
    price: Decimal | None
    at: Decimal
    time_ns: int
    gapped: bool = False


def trigger_of(order: Order) -> Decimal | None:
    """Return the price that a held order waits for; None for a trail that has seen no price."""
    return order.trigger_price or (None if order.trail else order.price or None)


def side_of(order: Order, last: Decimal | None) -> Side:
    """
    Return on which side of its trigger an order fires that is entered at `last`.

    Stops, take-profits and trails say so themselves; any other fires where the market comes from.
    """
    is_buy = order.action == "buy"
    if order.order_type == "stop" or order.trail:
        return ">=" if is_buy else "<="
    if order.order_type == "take_profit":
        return "<=" if is_buy else ">="
    trigger = trigger_of(order)
    return "<=" if trigger is not None and last is not None and trigger < last else ">="


class _Held(msgspec.Struct):
    """One order that waits; `best` is the best price since a trailing one was entered."""

    order: Order
    side: Side
    best: Decimal | None
    distance: Decimal
    is_percent: bool

    def is_quiet(self, low: float, high: float) -> bool:
        """Whether prices from `low` to `high` neither move nor cross the trigger of a trail."""
        level = self.level(self.best)
        if level is None or self.best is None:
            return False
        best, edge = float(self.best), float(level)
        slack = abs(edge) * _SLACK
        if self.side == ">=":
            return low >= best and high < edge - slack
        return high <= best and low > edge + slack

    def level(self, best: Decimal | None) -> Decimal | None:
        """Return the trigger's price when the best price is `best`; None: there is none yet."""
        fixed = trigger_of(self.order)
        if not self.distance or best is None:
            return fixed
        way = best * self.distance / 100 if self.is_percent else self.distance
        trailed = best + way if self.side == ">=" else best - way
        if fixed is None:
            return trailed
        return min(fixed, trailed) if self.side == ">=" else max(fixed, trailed)

    def is_crossed(self, price: Decimal, best: Decimal | None) -> bool:
        """Whether `price` makes the order fire."""
        level = self.level(best)
        if level is None:
            return False
        return price >= level if self.side == ">=" else price <= level

    def better(self, one: Decimal | None, two: Decimal | None) -> Decimal | None:
        """Return the better of two prices for a trail: a sell follows the highest."""
        if one is None or two is None:
            return two if one is None else one
        return min(one, two) if self.side == ">=" else max(one, two)


class _Bounds(msgspec.Struct):
    """Within what prices no order of one kind of watch can fire; trails always need a look."""

    low: float = -np.inf
    high: float = np.inf
    trails: int = 0

    def add(self, held: _Held) -> None:
        if held.distance:
            self.trails += 1
            return
        level = float(trigger_of(held.order) or 0)
        if held.side == ">=":
            self.high = min(self.high, level - abs(level) * _SLACK)
        else:
            self.low = max(self.low, level + abs(level) * _SLACK)


class DarkBook:
    """
    The held orders of one broker, by market.

    `pad_ticks` is how far beyond the crossing price a limit order is sent, in ticks of the price.
    """

    def __init__(self, broker: str, pad_ticks: int = PAD_TICKS) -> None:
        self.broker = broker
        self.pad_ticks = pad_ticks
        self.lasts: dict[str, Decimal] = {}
        self._held: dict[str, _Held] = {}
        self._markets: dict[str, dict[str, _Held]] = {}
        self._bounds: dict[str, dict[Watch, _Bounds]] = {}
        self._moved: set[str] = set()

    def __contains__(self, oid: object) -> bool:
        return oid in self._held

    def __len__(self) -> int:
        return len(self._held)

    def fqmes(self) -> set[str]:
        """Return the markets that must be watched."""
        return set(self._markets)

    def trigger(self, oid: str) -> Decimal | None:
        """Return the price at which a held order fires now."""
        held = self._held[oid]
        return held.level(held.best)

    def arm(self, order: Order, side: Side, best: Decimal | None = None) -> None:
        """Hold `order`, in place of an older version of it, whose best price is kept."""
        distance, is_percent = parse_trail(order.trail) if order.trail else (Decimal(0), False)
        held = _Held(order, side, None, distance, is_percent)
        older = self._held.get(order.oid)
        if distance:
            held.best = held.better(best, older.best if older else None)
        if older is not None and older.order.symbol != order.symbol:
            self.disarm(order.oid)
        self._held[order.oid] = held
        self._markets.setdefault(order.symbol, {})[order.oid] = held
        self._bounds.pop(order.symbol, None)

    def disarm(self, oid: str) -> bool:
        """Take an order out; return whether it was there."""
        held = self._held.pop(oid, None)
        if held is None:
            return False
        symbol = held.order.symbol
        del self._markets[symbol][oid]
        if not self._markets[symbol]:
            del self._markets[symbol]
        self._bounds.pop(symbol, None)
        self._moved.discard(oid)
        return True

    def bests(self) -> dict[str, Decimal]:
        """Return the best price of each trail that has moved since this was last asked."""
        moved = {oid: self._held[oid].best for oid in sorted(self._moved)}
        self._moved.clear()
        return {oid: best for oid, best in moved.items() if best is not None}

    def crossed_while_down(self, fqme: str, last: Decimal, mkt: MktPair) -> list[Fired]:
        """
        Return what the market at `last` has crossed while nobody watched, and take it out.

        To be asked once after a start, or after the market's data were lost for a while.
        """
        fired = []
        for held in tuple(self._markets.get(fqme, {}).values()):
            self._follow(held, last)
            if held.is_crossed(last, held.best):
                fired.append(self._fire(held, last, 0, mkt, gapped=True))
        return fired

    def on_ticks(self, fqme: str, batch: np.ndarray, mkt: MktPair) -> list[Fired]:
        """Return what a batch of TICK_DTYPE records crosses, in its order, and take it out."""
        self._keep_last(fqme, batch, mkt)
        market = self._markets.get(fqme)
        if not market:
            return []
        watched = _watched(batch)
        bounds = self._bounds_of(fqme)
        crossed: list[tuple[int, int, _Held]] = []
        for watch, prices in watched.items():
            bound = bounds.get(watch)
            if bound is None:
                continue
            low, high = np.fmin.reduce(prices), np.fmax.reduce(prices)
            if not (bound.trails or low <= bound.low or high >= bound.high):
                continue
            for place, held in enumerate(market.values()):
                if held.order.action == watch and not (
                    held.distance and held.is_quiet(float(low), float(high))
                ):
                    row = self._first_crossing(held, prices, mkt)
                    if row is not None:
                        crossed.append((row, place, held))
        crossed.sort(key=lambda one: one[:2])
        return [self._fire_at(held, row, batch, watched, mkt) for row, _, held in crossed]

    # ---- one order

    def _first_crossing(self, held: _Held, prices: Prices, mkt: MktPair) -> int | None:
        """Return the first row that makes `held` fire; a trail's best price follows up to there."""
        if not held.distance:
            level = trigger_of(held.order)
            assert level is not None
            for row in _near(prices, np.full(1, float(level)), held.side):
                if held.is_crossed(mkt.quantize(float(prices[row]), "price"), None):
                    return int(row)
            return None
        start = np.nan if held.best is None else float(held.best)
        follow = np.fmin if held.side == ">=" else np.fmax
        bests = follow.accumulate(np.concatenate(([start], prices)))[1:]
        for row in _near(prices, _levels(held, bests), held.side):
            best = mkt.quantize(float(bests[row]), "price")
            if held.is_crossed(mkt.quantize(float(prices[row]), "price"), best):
                return int(row)
        if len(bests) and not np.isnan(bests[-1]):
            self._follow(held, mkt.quantize(float(bests[-1]), "price"))
        return None

    def _follow(self, held: _Held, price: Decimal) -> None:
        """Let the best price of a trail follow `price`."""
        if held.distance:
            best = held.better(held.best, price)
            if best != held.best:
                held.best = best
                self._moved.add(held.order.oid)

    def _fire_at(
        self,
        held: _Held,
        row: int,
        batch: np.ndarray,
        watched: dict[Watch, Prices],
        mkt: MktPair,
    ) -> Fired:
        prices = watched[_watch(held.order)]
        record = batch[row]
        time_ns = int(record["time_venue_ns"]) or int(record["time_recv_ns"])
        is_recovered = record["type"] == TRADE and int(record["flags"]) & RECOVERED
        before = np.flatnonzero(~np.isnan(prices[:row]))
        since = int(before[-1]) if len(before) else 0
        gapped = bool(is_recovered or np.any(batch["type"][since:row] == GAP))
        price = mkt.quantize(float(prices[row]), "price")
        return self._fire(held, price, time_ns, mkt, gapped=gapped)

    def _fire(self, held: _Held, at: Decimal, time_ns: int, mkt: MktPair, *, gapped: bool) -> Fired:
        self.disarm(held.order.oid)
        return Fired(held.order.oid, self._price(held.order, at, mkt), at, time_ns, gapped)

    def _price(self, order: Order, at: Decimal, mkt: MktPair) -> Decimal | None:
        """Return the limit to send when `at` has crossed the trigger, None for the order's own."""
        is_own = order.order_type in {"market", "stop"} or (
            order.order_type == "take_profit" and order.price
        )
        if is_own or order.is_alert:
            return None
        pad = mkt.price_tick * self.pad_ticks
        padded = mkt.quantize(at + pad if order.action == "buy" else at - pad, "price")
        return padded if padded > 0 else mkt.price_tick or at

    # ---- one market

    def _bounds_of(self, fqme: str) -> dict[Watch, _Bounds]:
        bounds = self._bounds.get(fqme)
        if bounds is None:
            bounds = self._bounds[fqme] = {}
            for held in self._markets[fqme].values():
                bounds.setdefault(_watch(held.order), _Bounds()).add(held)
        return bounds

    def _keep_last(self, fqme: str, batch: np.ndarray, mkt: MktPair) -> None:
        is_live = (batch["type"] == TRADE) & (batch["flags"] & RECOVERED == 0)
        rows = np.flatnonzero(is_live)
        if len(rows):
            self.lasts[fqme] = mkt.quantize(float(batch["price"][rows[-1]]), "price")


def _watch(order: Order) -> Watch:
    return order.action


def _watched(batch: np.ndarray) -> dict[Watch, Prices]:
    """Return the prices of a batch as each kind of order sees them; NaN where it sees none."""
    is_trade, is_quote = batch["type"] == TRADE, batch["type"] == QUOTE
    trades = np.where(is_trade, batch["price"], np.nan)
    return {
        "buy": np.where(is_quote, batch["price2"], trades),
        "sell": np.where(is_quote, batch["price"], trades),
        "alert": trades,
    }


def _levels(held: _Held, bests: Prices) -> Prices:
    """Return the trigger at each row of a trail whose best prices are `bests`."""
    distance = float(held.distance)
    way = bests * (distance / 100) if held.is_percent else distance
    levels: Prices = bests + way if held.side == ">=" else bests - way
    fixed = trigger_of(held.order)
    if fixed is not None:
        levels = (np.fmin if held.side == ">=" else np.fmax)(levels, float(fixed))
    return levels


def _near(prices: Prices, levels: Prices, side: Side) -> np.ndarray:
    """Return the rows whose price crosses its level, or comes as close as floats can tell."""
    slack = np.abs(levels) * _SLACK
    with np.errstate(invalid="ignore"):
        crossed = prices >= levels - slack if side == ">=" else prices <= levels + slack
    return np.flatnonzero(crossed)
