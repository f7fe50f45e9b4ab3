"""
Paper matching: what a market would have done with our orders, told from what it did without them.

`PaperBook` is one market. It takes requests with the time at which they take effect and the
market's own trades, quotes and books, and returns what happened to our orders; for paper trading
and backtests alike. It reads no clock, uses no floats and does no I/O: prices count `price_tick`s,
sizes `size_tick`s, 0 as a price or size of the market means that there is none.

The rules that it keeps:
- a resting order fills by trades only: one through its price, or one at its price when the queue
  before it is gone (`_queue`), at its own price, never by more than what traded; one trade is
  shared by all our orders, the better price first, then the older;
- an order that crosses the market walks the displayed levels; what it took is not there for the
  next one until the market shows that level anew; what is left of it goes on taking as the market
  shows more, and rests when it crosses no longer;
- after a loss of sight (`lose`, then `resume`) trades missed fill nothing, queues start again, and
  an order that the market has gone through fills at its own price, marked `gapped`;
- an amend keeps the place in the queue only when the size shrinks at the same price.

Reading order: `_fill_events` and `_queue`, the requests, the market's events, `_execute`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from heapq import heappop, heappush
from typing import Final

from piker.clearing._fill_events import (
    NOTHING,
    Change,
    Closed,
    Ended,
    Fired,
    Opened,
    Output,
    Refused,
    Request,
    Traded,
    Withdrawal,
)
from piker.clearing._own_side import BUY, SELL, Levels, Side
from piker.clearing._queue import UNKNOWN, Resting

NEVER_NS: Final = 1 << 62
COVERED_NS: Final = 1_000_000_000  # after it a price behind the best one is out of sight again
COVERED_MAX: Final = 64  # of those prices
REST_KINDS: Final = frozenset({"gtc", "gtd"})


class PaperBook:
    """Our orders of one market and what may happen to them; see the rules of the module."""

    def __init__(self, price_tick: Decimal, size_tick: Decimal, slippage_ticks: int = 0) -> None:
        self.position = 0  # + long, - short; kept by our fills from here on
        self.bid = self.bid_size = self.ask = self.ask_size = self.last = 0
        self.is_lost = True  # until the market is seen: `resume`
        self._price_tick = price_tick
        self._size_tick = size_tick
        self._slippage = slippage_ticks
        self._orders: dict[str, Resting] = {}
        self._reducers: dict[str, Resting] = {}  # those that are reduce-only
        self._sides = {BUY: Side(BUY), SELL: Side(SELL)}
        # Triggers that fire at or below their price stand like buys, those above like sells.
        self._triggers = {BUY: Side(BUY), SELL: Side(SELL)}
        self._arrivals: list[tuple[int, int, Request]] = []
        self._arrived = 0
        self._last_when: dict[str, int] = {}
        self._expiries: list[tuple[int, int, str]] = []
        self._next_ns = NEVER_NS
        self._taking: dict[str, Resting] = {}
        self._taken: dict[int, dict[int, int]] = {BUY: {}, SELL: {}}  # by the side of the maker
        self._book: dict[int, Levels] = {BUY: (), SELL: ()}
        # Sizes that best prices had when a better one came, newer than the book: (size, time).
        self._covered: dict[int, dict[int, tuple[int, int]]] = {BUY: {}, SELL: {}}
        self._now_ns = 0  # of the newest quote
        self._out: list[Output] = []

    # ---- requests

    def submit(self, order: Resting, when_ns: int) -> None:
        """Let an order take effect at `when_ns`; `on_time` and the market's events say the rest."""
        self._await(order.key, order, when_ns)

    def amend(self, change: Change, when_ns: int) -> None:
        """Let new values take effect at `when_ns`, after what the order still waits for."""
        self._await(change.key, change, when_ns)

    def cancel(self, key: str, when_ns: int) -> None:
        """Let a cancel take effect at `when_ns`, after what the order still waits for."""
        self._await(key, Withdrawal(key), when_ns)

    def restore(self, order: Resting, now_ns: int) -> None:
        """Let an order rest as it did in an earlier life, with nothing told; `resume` goes on."""
        self._know(order, now_ns)
        if order.waits:
            self._watch(order)
        else:
            self._sides[order.side].add(order, UNKNOWN)

    def next_ns(self) -> int:
        """Return when `on_time` has something to do, `NEVER_NS` when nothing is waited for."""
        return self._next_ns

    def order(self, key: str) -> Resting | None:
        """Return an order that is in force."""
        return self._orders.get(key)

    def orders(self) -> Iterable[Resting]:
        """Return the orders that are in force."""
        return self._orders.values()

    def is_awaited(self, key: str) -> bool:
        """Whether a request about the order has not taken effect yet."""
        return key in self._last_when

    def is_idle(self) -> bool:
        """Whether there is no order here and none on its way."""
        return not self._orders and not self._arrivals

    def reach(self, side: int, limit: int = 0, size_max: int = NEVER_NS) -> list[tuple[int, int]]:
        """Return the displayed (price, size) that an order could take now, best first."""
        found: list[tuple[int, int]] = []
        left = 0 if self.is_lost else size_max
        for price, size in self._displayed(-side):
            if left <= 0 or (limit and side * (price - limit) > 0):
                break
            size -= self._taken[-side].get(price, 0)
            if size > 0:
                found.append((price, min(size, left)))
                left -= size
        return found

    # ---- the market

    def on_time(self, now_ns: int) -> Sequence[Output]:
        """Let time pass: requests arrive, orders expire."""
        if now_ns >= self._next_ns:
            self._advance(now_ns)
        return self._flush()

    def on_trade(self, price: int, size: int, now_ns: int) -> Sequence[Output]:
        """Take a public trade."""
        if now_ns >= self._next_ns:
            self._advance(now_ns)
        self.last = price
        if not self.is_lost:
            sides, triggers = self._sides, self._triggers
            if price <= sides[BUY].best or price >= sides[SELL].best:
                self._match(price, size, now_ns)
            if price <= triggers[BUY].best or price >= triggers[SELL].best:
                self._fire(price, now_ns, gapped=False)
        return self._flush() if self._out else NOTHING

    def on_quote(
        self, bid: int, bid_size: int, ask: int, ask_size: int, now_ns: int
    ) -> Sequence[Output]:
        """Take the best bid and ask with their sizes."""
        if now_ns >= self._next_ns:
            self._advance(now_ns)
        taken = self._taken
        if taken[BUY] and (bid != self.bid or bid_size != self.bid_size):
            taken[BUY].pop(bid, None)
        if taken[SELL] and (ask != self.ask or ask_size != self.ask_size):
            taken[SELL].pop(ask, None)
        if bid > self.bid:
            self._cover(BUY, self.bid, self.bid_size, now_ns)
        if 0 < ask < self.ask:
            self._cover(SELL, self.ask, self.ask_size, now_ns)
        self.bid, self.bid_size, self.ask, self.ask_size = bid, bid_size, ask, ask_size
        self._now_ns = now_ns
        if not self.is_lost:
            if bid and bid <= self._sides[BUY].best:
                self._sides[BUY].show_best(bid, bid_size, now_ns)
            if ask and ask >= self._sides[SELL].best:
                self._sides[SELL].show_best(ask, ask_size, now_ns)
            if self._taking:
                self._take_on(now_ns)
        return self._flush() if self._out else NOTHING

    def on_book(self, bids: Levels, asks: Levels, now_ns: int) -> Sequence[Output]:
        """Take the displayed levels, best first; those better than the newest quote are past."""
        if now_ns >= self._next_ns:
            self._advance(now_ns)
        self._book = {BUY: bids, SELL: asks}
        self._covered[BUY].clear()
        self._covered[SELL].clear()
        self._taken = {BUY: {}, SELL: {}}
        if not self.is_lost:
            self._sides[BUY].show_levels(bids, self.bid, now_ns)
            self._sides[SELL].show_levels(asks, self.ask, now_ns)
            if self._taking:
                self._take_on(now_ns)
        return self._flush()

    def lose(self) -> None:
        """Stop: what happens in the market is not seen until `resume`."""
        self.is_lost = True

    def resume(self, now_ns: int) -> Sequence[Output]:
        """Go on from the newest quote and book, after `lose` or at the start."""
        self.is_lost = False
        for side in (BUY, SELL):
            quote = self.ask if side == BUY else self.bid
            for level in self._sides[side].levels():
                level.forget()
                gone_through = quote and side * (level.price - quote) >= 0
                for order in tuple(level.orders) if gone_through else ():
                    size = self._capped(order, order.open_size)
                    if size and not order.is_taking:
                        self._fill(order, order.price, size, now_ns, is_maker=True, gapped=True)
                if (shown := self._shown(side, level.price)) != UNKNOWN:
                    level.show(shown, now_ns)
        if self.last:
            self._fire(self.last, now_ns, gapped=True)
        self._take_on(now_ns)
        return self._flush()

    def set_position(self, position: int, now_ns: int) -> Sequence[Output]:
        """Hold another position: reduce-only orders that reduce nothing any more end."""
        self.position = position
        self._end_reducers(now_ns)
        return self._flush()

    # ---- requests take effect

    def _await(self, key: str, request: Request, when_ns: int) -> None:
        # What is asked later never takes effect before what was asked earlier.
        when_ns = max(when_ns, self._last_when.get(key, 0))
        self._last_when[key] = when_ns
        self._arrived += 1
        heappush(self._arrivals, (when_ns, self._arrived, request))
        self._next_ns = min(self._next_ns, when_ns)

    def _advance(self, now_ns: int) -> None:
        arrivals, expiries = self._arrivals, self._expiries
        while True:
            arrival = arrivals[0][0] if arrivals else NEVER_NS
            expiry = expiries[0][0] if expiries else NEVER_NS
            self._next_ns = min(arrival, expiry)
            if self._next_ns > now_ns:
                return
            if expiry <= arrival:
                _, _, key = heappop(expiries)
                order = self._orders.get(key)
                if order is not None and order.expire_ns == expiry:
                    self._end(order, expiry, "expire_time_ns: its time is over")
                continue
            when_ns, _, request = heappop(arrivals)
            if self._last_when.get(request.key) == when_ns:
                del self._last_when[request.key]
            match request:
                case Resting():
                    self._enter(request, when_ns)
                case Change():
                    self._amend(request, when_ns)
                case Withdrawal(key=key):
                    self._withdraw(key, when_ns)

    def _enter(self, order: Resting, now_ns: int) -> None:
        reason = ""
        if order.expire_ns and order.expire_ns <= now_ns:
            reason = f"expire_time_ns: was {order.expire_ns}, expected after {now_ns}"
        elif order.reduce_only and not self._capped(order, order.size):
            reason = self._no_position()
        elif order.post_only and self.reach(order.side, order.price, 1):
            reason = self._would_take(order.side, order.price)
        if reason:
            self._refuse(order.key, "entry", order.number, reason, now_ns)
            return
        self._know(order, now_ns)
        self._out.append(Opened(key=order.key, time_ns=now_ns, number=order.number))
        if order.waits:
            self._watch(order)
        else:
            self._execute(order, now_ns)

    def _amend(self, change: Change, now_ns: int) -> None:
        order = self._orders.get(change.key)
        reason = ""
        if order is None:
            reason = "oid: the order does not rest here any more"
        elif change.size <= order.filled:
            reason = f"size: was {self._size(change.size)}, {self._size(order.filled)} are filled"
        elif change.expire_ns and change.expire_ns <= now_ns:
            reason = f"expire_time_ns: was {change.expire_ns}, expected after {now_ns}"
        elif order.post_only and self.reach(order.side, change.price, 1):
            reason = self._would_take(order.side, change.price)
        if order is None or reason:
            self._refuse(change.key, "amend", change.number, reason, now_ns)
            return
        keeps_place = change.price == order.price and change.size <= order.size
        if not keeps_place or order.waits:
            self._take_out(order)
        order.price, order.size, order.trigger = change.price, change.size, change.trigger
        order.number, order.expire_ns = change.number, change.expire_ns
        self._keep_expiry(order)
        self._out.append(Opened(key=order.key, time_ns=now_ns, number=order.number))
        if order.waits:
            self._watch(order)
        elif not keeps_place:
            order.live_ns = now_ns
            self._execute(order, now_ns)

    def _withdraw(self, key: str, now_ns: int) -> None:
        if (order := self._orders.get(key)) is not None:
            self._end(order, now_ns, "")
        else:
            reason = f"oid: was {key}, expected an order that rests here"
            self._refuse(key, "cancel", 0, reason, now_ns)

    def _refuse(self, key: str, request: str, number: int, reason: str, now_ns: int) -> None:
        self._out.append(
            Refused(key=key, time_ns=now_ns, request=request, number=number, reason=reason)
        )

    # ---- execution

    def _execute(self, order: Resting, now_ns: int) -> None:
        """Take what the order can have at once, then let it rest or end."""
        if order.time_in_force == "fok":
            found = sum(size for _, size in self.reach(order.side, order.price, order.open_size))
            if found < self._capped(order, order.open_size):
                self._end(order, now_ns, f"fok: in sight were {self._size(found)}")
                return
        crosses = self._take(order, now_ns)
        if order.key not in self._orders:
            return
        if order.kind == "market" or not order.price or order.time_in_force not in REST_KINDS:
            word = "market" if not order.price else order.time_in_force
            self._end(order, now_ns, f"{word}: {self._why_no_more()}")
            return
        self._sides[order.side].add(order, self._shown(order.side, order.price))
        if crosses or self.is_lost:
            order.is_taking = True
            self._taking[order.key] = order

    def _take(self, order: Resting, now_ns: int) -> bool:
        """Walk the displayed levels; return whether the order still crosses the market."""
        side, taken = order.side, self._taken[-order.side]
        levels = self.reach(side, order.price, order.open_size)
        for at, displayed in levels:
            size = self._capped(order, min(displayed, order.open_size))
            if not size:
                break
            price = max(at + side * self._slippage, 1)
            if order.price and side * (price - order.price) > 0:
                price = order.price
            taken[at] = taken.get(at, 0) + size
            self._fill(order, price, size, now_ns, is_maker=False)
        quote = self.ask if side == BUY else self.bid
        return bool(quote) and side * (order.price - quote) >= 0

    def _take_on(self, now_ns: int) -> None:
        """Let orders that came crossing the market take what is shown anew."""
        for order in tuple(self._taking.values()):
            if order.post_only and self.reach(order.side, order.price, 1):
                self._end(order, now_ns, self._would_take(order.side, order.price))
            elif not self._take(order, now_ns) and order.key in self._orders:
                order.is_taking = False
                del self._taking[order.key]

    def _match(self, price: int, size: int, now_ns: int) -> None:
        """Give a trade to the resting orders that it would have met."""
        left = size
        for side in (BUY, SELL):
            for level in self._sides[side].levels_to(price):
                if level.price != price:
                    level.clear(now_ns)
                else:
                    level.trade(size, now_ns)
                for order in tuple(level.orders):
                    if order.is_taking or order.live_ns > now_ns or order.ahead == UNKNOWN:
                        continue
                    before = min(order.ahead, left)
                    order.ahead -= before
                    filled = self._capped(order, min(order.open_size, left - before))
                    if filled:
                        left -= filled
                        self._fill(order, level.price, filled, now_ns, is_maker=True)

    def _fire(self, price: int, now_ns: int, *, gapped: bool) -> None:
        """Execute the stops and take-profits whose trigger a trade has reached."""
        for side in (BUY, SELL):
            for level in self._triggers[side].levels_to(price):
                for order in tuple(level.orders):
                    if order.live_ns > now_ns:
                        continue
                    self._triggers[side].remove(order, order.trigger)
                    order.is_fired, order.live_ns = True, now_ns
                    self._out.append(Fired(key=order.key, time_ns=now_ns, gapped=gapped))
                    if order.reduce_only and not self._capped(order, order.size):
                        self._end(order, now_ns, self._no_position())
                    else:
                        self._execute(order, now_ns)

    def _fill(
        self,
        order: Resting,
        price: int,
        size: int,
        now_ns: int,
        *,
        is_maker: bool,
        gapped: bool = False,
    ) -> None:
        order.filled += size
        self.position += order.side * size
        self._out.append(
            Traded(
                key=order.key,
                time_ns=now_ns,
                price=price,
                size=size,
                is_maker=is_maker,
                gapped=gapped,
            )
        )
        if not order.open_size:
            self._drop(order)
            self._out.append(Closed(key=order.key, time_ns=now_ns))
        self._end_reducers(now_ns)

    def _capped(self, order: Resting, size: int) -> int:
        """Return how much of `size` the order may trade: all, or what reduces the position."""
        if not order.reduce_only:
            return size
        return max(0, min(size, -order.side * self.position))

    def _end_reducers(self, now_ns: int) -> None:
        for order in tuple(self._reducers.values()) if self._reducers else ():
            if not order.waits and not self._capped(order, order.size):
                self._end(order, now_ns, self._no_position())

    def _end(self, order: Resting, now_ns: int, reason: str) -> None:
        self._drop(order)
        self._out.append(
            Ended(
                key=order.key,
                time_ns=now_ns,
                filled=order.filled,
                remaining=order.open_size,
                reason=reason,
            )
        )

    # ---- keeping

    def _know(self, order: Resting, now_ns: int) -> None:
        order.live_ns = now_ns
        self._orders[order.key] = order
        if order.reduce_only:
            self._reducers[order.key] = order
        self._keep_expiry(order)

    def _watch(self, order: Resting) -> None:
        """Let an order wait for its trigger."""
        self._triggers[self._trigger_side(order)].add(order, UNKNOWN, order.trigger)

    def _trigger_side(self, order: Resting) -> int:
        # A stop follows the market away from the order's side, a take-profit waits against it.
        return -order.side if order.kind == "stop" else order.side

    def _keep_expiry(self, order: Resting) -> None:
        if order.expire_ns:
            self._arrived += 1
            heappush(self._expiries, (order.expire_ns, self._arrived, order.key))
            self._next_ns = min(self._next_ns, order.expire_ns)

    def _take_out(self, order: Resting) -> None:
        """Take an order from where it stands; it stays known."""
        if order.waits:
            self._triggers[self._trigger_side(order)].remove(order, order.trigger)
        else:
            self._sides[order.side].remove(order, order.price)
        order.is_taking = False
        self._taking.pop(order.key, None)

    def _drop(self, order: Resting) -> None:
        if self._orders.pop(order.key, None) is not None:
            self._reducers.pop(order.key, None)
            self._take_out(order)

    def _flush(self) -> Sequence[Output]:
        if not self._out:
            return NOTHING
        out, self._out = self._out, []
        return out

    # ---- what the market shows

    def _cover(self, side: int, price: int, size: int, now_ns: int) -> None:
        """Remember what the best price showed when a better one came before it."""
        covered = self._covered[side]
        if len(covered) >= COVERED_MAX:
            covered.clear()
        if price:
            covered[price] = size, now_ns

    def _best(self, side: int) -> tuple[int, int]:
        """Return the newest quote of one side."""
        return (self.bid, self.bid_size) if side == BUY else (self.ask, self.ask_size)

    def _displayed(self, side: int) -> Iterator[tuple[int, int]]:
        """Yield the displayed levels of one side: the newest quote, then what is behind it."""
        best, size = self._best(side)
        if best:
            yield best, size
        behind = self._behind(side)
        for price in sorted(behind, reverse=side == BUY):
            if not best or side * (best - price) > 0:
                yield price, behind[price]

    def _behind(self, side: int) -> dict[int, int]:
        """Return what the newest book shows of one side, and quotes that are newer than it."""
        behind = dict(self._book[side])
        for price, (covered, seen_ns) in self._covered[side].items():
            if self._now_ns - seen_ns <= COVERED_NS:
                behind[price] = covered
        return behind

    def _shown(self, side: int, price: int) -> int:
        """Return what is displayed at a price of a side; `UNKNOWN` behind what is in sight."""
        if self.is_lost:
            return UNKNOWN
        best, size = self._best(side)
        if best and price == best:
            return size
        if not best or side * (best - price) > 0:
            shown = self._behind(side).get(price)
            if shown is not None:
                return shown
        worst = self._book[side][-1][0] if self._book[side] else best
        return 0 if worst and side * (price - worst) > 0 else UNKNOWN

    def _why_no_more(self) -> str:
        if self.is_lost:
            return "the market is out of sight, its feed is not live"
        return "no more is in sight at its price" if self.bid or self.ask else "there is no quote"

    def _would_take(self, side: int, price: int) -> str:
        best = self.ask if side == BUY else self.bid
        market = self._price(best)
        return f"post_only: {self._price(price)} would trade at once, the market is at {market}"

    def _no_position(self) -> str:
        return f"reduce_only: the position is {self._size(self.position)}"

    def _price(self, ticks: int) -> str:
        return format(ticks * self._price_tick, "f")

    def _size(self, ticks: int) -> str:
        return format(ticks * self._size_tick, "f")
