"""
One market of the paper engine: order messages in, what became of them out, as messages.

It turns decimals into ticks and back, refuses what no venue would take, and keeps for each order
what a `PaperBook` does not need: ids, fees, the number of fills. No I/O; times are given.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np

from piker.clearing import _fill_events as on
from piker.clearing._fill_models import PaperTerms
from piker.clearing._matching import PaperBook
from piker.clearing._messages import (
    BrokerdCancel,
    BrokerdError,
    BrokerdFill,
    BrokerdOrder,
    BrokerdOrderAck,
    BrokerdStatus,
    Message,
    PaperOrder,
    Requested,
)
from piker.clearing._own_side import BUY
from piker.clearing._paper_funds import Holding, PaperFunds
from piker.clearing._paper_grid import ACCOUNT, SIDES, ZERO, Grid
from piker.data._blocks import L1, L2
from piker.model.market import MktPair
from piker.model.ticks import (
    FEED_CONNECTING,
    FEED_DOWN,
    FEED_LIVE,
    FEED_STALE,
    GAP,
    QUOTE,
    RECOVERED,
    STATE,
    TRADE,
)

ENDED_MAX: Final = 10_000  # ended orders that a repeated request is still answered for
NS: Final = 1_000_000_000

Emit = Callable[[Message], None]


class Eyes(Protocol):
    """What a market can be asked at any time; a `MarketView` is one."""

    def l1(self) -> L1:
        """Return the newest quote and trade."""

    def l2(self) -> L2:
        """Return the best levels of the book."""


class Asked(NamedTuple):
    """A request that has no effect yet, and the record of when it will have one."""

    order: BrokerdOrder
    effect: dict[str, Any]


class Work(msgspec.Struct, kw_only=True):
    """An order as `emsd` knows it: the request in force, and by number those without effect yet."""

    reqid: str
    order: BrokerdOrder
    entered_ns: int
    asked: dict[int, Asked] = {}
    filled: Decimal = ZERO
    fills: int = 0
    is_open: bool = False
    reserved: Decimal = ZERO

    @property
    def side(self) -> int:
        """BUY or SELL."""
        return SIDES[self.order.action]


def acknowledge(order: BrokerdOrder, reqid: str) -> BrokerdOrderAck:
    """Return the word that a request was taken."""
    return BrokerdOrderAck(reqid=reqid, oid=order.oid, account=ACCOUNT, number=order.number)


class PaperMarket:
    """Our orders of one market, and the market as it goes by."""

    def __init__(
        self, mkt: MktPair, broker: str, terms: PaperTerms, funds: PaperFunds, emit: Emit
    ) -> None:
        """Begin without orders and out of sight; `emit` takes each message for `emsd`."""
        self.mkt = mkt
        self.grid = Grid(mkt)
        self.price_tick, self.size_tick = self.grid.price_tick, self.grid.size_tick
        self.book = PaperBook(self.price_tick, self.size_tick, terms.slippage_ticks)
        self.counters = {"events": 0, "fills": 0}
        self._broker = broker
        self._terms = terms
        self._funds = funds
        self._emit = emit
        self._quote = str(mkt.src).lower()
        self._works: dict[str, Work] = {}
        self._oids: dict[str, str] = {}
        self._ended: OrderedDict[str, BrokerdStatus | BrokerdError] = OrderedDict()
        self._book_id: tuple[int, int] = (0, 0)
        self.holding: Holding = funds.holding(mkt.fqme, self._quote, ZERO)

    # ---- what emsd says

    def hold(self, size: Decimal, now_ns: int) -> None:
        """Take the position that the account has here."""
        self.holding.size = size
        self._pass(self.book.set_position(int(size / self.size_tick), now_ns))

    def restore(self, told: PaperOrder, now_ns: int) -> None:
        """Let an order of an earlier life rest; nothing is told of it until something happens."""
        order = told.order
        reqid = str(order.reqid)
        resting = self.grid.resting(reqid, order)
        resting.filled = self.grid.exact("filled", told.filled, self.size_tick)
        resting.is_fired = told.is_fired
        self.book.restore(resting, now_ns)
        work = Work(
            reqid=reqid,
            order=order,
            entered_ns=told.entered_ns,
            filled=told.filled,
            fills=told.fills,
            is_open=True,
        )
        self._keep(work)

    def take_order(
        self,
        order: BrokerdOrder,
        eyes: Eyes,
        now_ns: int,
        arrived_ns: int,
        *,
        is_acked: bool = False,
    ) -> None:
        """Take an entry (no `reqid`) or an amend of a known order, which came at `arrived_ns`."""
        reqid = order.client_id if order.reqid is None else str(order.reqid)
        work = self._works.get(reqid)
        if order.reqid is None and (work or reqid in self._ended):
            self._answer_again(reqid, order, now_ns)
            return
        request: Requested = "entry" if order.reqid is None else "amend"
        try:
            if work is None and request == "amend":
                raise ValueError(f"oid: was {order.oid}, expected an order that rests here")
            resting = self.grid.resting(reqid, order)
            self._check(order, work, arrived_ns)
        except ValueError as err:
            self._refuse(order, request, str(err), reqid if work else None)
            return
        when_ns, effect = self._effect(order.cause_ns or order.time_ns, now_ns)
        if work is None:
            work = Work(reqid=reqid, order=order, entered_ns=order.time_ns)
        work.asked[order.number] = Asked(order, effect)
        self._keep(work)
        if not is_acked:
            self._emit(acknowledge(order, reqid))
        if request == "entry":
            if self.book.is_idle() and not self.book.is_lost:
                self._see_book(eyes, now_ns)  # nobody has looked while there was no order
            self.book.submit(resting, when_ns)
        else:
            self.book.amend(
                on.Change(
                    key=reqid,
                    number=order.number,
                    price=resting.price,
                    size=resting.size,
                    trigger=resting.trigger,
                    expire_ns=resting.expire_ns,
                ),
                when_ns,
            )

    def take_cancel(self, cancel: BrokerdCancel, now_ns: int) -> None:
        """Take a cancel, by the first id of reqid, client id and oid that is known."""
        ids = (str(cancel.reqid), cancel.client_id, self._oids.get(cancel.oid, ""))
        reqid = next((one for one in ids if one in self._works), "")
        if not reqid:
            reason = f"oid: was {cancel.oid}, expected an order that rests here"
            self._emit(
                BrokerdError(
                    reason=reason,
                    symbol=self.mkt.bs_fqme,
                    oid=cancel.oid,
                    reqid=cancel.reqid,
                    request="cancel",
                    broker_details={"name": "paperboi"},
                )
            )
            return
        when_ns, _ = self._effect(cancel.time_ns, now_ns)
        self.book.cancel(reqid, when_ns)

    def clear(self) -> None:
        """Forget every order: the account was reset."""
        terms = self._terms
        old, self.book = self.book, PaperBook(self.price_tick, self.size_tick, terms.slippage_ticks)
        self.book.on_quote(old.bid, old.bid_size, old.ask, old.ask_size, 0)
        self.book.last = old.last
        self.holding.buys = self.holding.sells = ZERO
        self._works, self._oids, self._book_id = {}, {}, (0, 0)

    # ---- what the market says

    def on_time(self, now_ns: int, eyes: Eyes) -> None:
        """Let what is due take effect."""
        if now_ns >= self.book.next_ns():
            self._pass(self.book.on_time(now_ns))
            self._see_book(eyes, now_ns)

    def on_batch(self, batch: np.ndarray, eyes: Eyes) -> None:
        """Take records of the market's tick ring, in order."""
        self.counters["events"] += len(batch)
        if self.book.is_idle() and not self.book.is_lost:
            batch = _newest(batch)
        on_trade, on_quote = self.book.on_trade, self.book.on_quote
        now_ns = 0
        for kind, flags, price, size, price2, size2, now_ns in self.grid.rows(batch):
            if kind == QUOTE:
                out = on_quote(price, size, price2, size2, now_ns)
            elif kind == TRADE:
                out = () if flags & RECOVERED else on_trade(price, size, now_ns)
            elif kind == GAP or (kind == STATE and flags in {FEED_DOWN, FEED_CONNECTING}):
                self.book.lose()
                continue
            else:
                continue
            if out:
                self._pass(out)
        self._mark()
        if self.book.is_lost:
            self.look(eyes, now_ns)
        elif not self.book.is_idle():
            self._see_book(eyes, now_ns)

    def look(self, eyes: Eyes, now_ns: int) -> None:
        """Go on from what the market shows now, if its feed is there and shows something."""
        l1 = eyes.l1()
        if l1.feed_state not in {FEED_LIVE, FEED_STALE}:
            return
        bid, bid_size, ask, ask_size, last = (
            self.grid.near(value, tick)
            for value, tick in (
                (l1.bid, self.price_tick),
                (l1.bid_size, self.size_tick),
                (l1.ask, self.price_tick),
                (l1.ask_size, self.size_tick),
                (l1.last, self.price_tick),
            )
        )
        if not bid and not ask:
            return
        self.book.on_quote(bid, bid_size, ask, ask_size, now_ns)
        self.book.last = last or self.book.last
        self._see_book(eyes, now_ns)
        self._mark()
        self._pass(self.book.resume(now_ns))

    def _see_book(self, eyes: Eyes, now_ns: int) -> None:
        """Take the displayed levels when they have changed."""
        l2 = eyes.l2()
        if (l2.update_id, l2.time_venue_ns) == self._book_id:
            return
        self._book_id = (l2.update_id, l2.time_venue_ns)
        bids, asks = self.grid.levels(l2.bids), self.grid.levels(l2.asks)
        self._pass(self.book.on_book(bids, asks, now_ns))

    def _mark(self) -> None:
        """Value the position at the middle of the market, or at its last trade."""
        book = self.book
        middle = Decimal(book.bid + book.ask) / 2 if book.bid and book.ask else Decimal(book.last)
        self.holding.mark = middle * self.price_tick

    # ---- checks

    def _check(self, order: BrokerdOrder, work: Work | None, arrived_ns: int) -> None:
        """
        Refuse what no venue would take, or the account cannot afford.

        Raises:
          ValueError: says why.
        """
        if order.deadline_ns and arrived_ns > order.deadline_ns:
            late_s = (arrived_ns - order.deadline_ns) / NS
            raise ValueError(f"deadline: came {late_s:.1f} s after it")
        if order.reduce_only:
            return
        notional = self._notional(order, work.filled if work else ZERO)
        side = SIDES[order.action]
        more = notional - (work.reserved if work else ZERO)
        if more > 0 and (why := self._funds.why_not(self.holding, side, more)):
            raise ValueError(why)

    def _effect(self, cause_ns: int, now_ns: int) -> tuple[int, dict[str, Any]]:
        """Return when a request takes effect, and the record of it."""
        modelled = min(cause_ns, now_ns) + self._terms.latency_ns
        when_ns = max(modelled, now_ns)
        by = "latency" if modelled >= now_ns else "arrival"
        return when_ns, {"name": "paperboi", "effective_ns": when_ns, "by": by}

    def _notional(self, order: BrokerdOrder, filled: Decimal) -> Decimal:
        """Return what is yet to spend: at its limit, its trigger, or what the market shows."""
        price = order.price or order.trigger_price or ZERO
        if order.order_type == "market" or not price:
            book = self.book
            quote = book.ask if order.action == "buy" else book.bid
            price = (quote or book.last) * self.price_tick
        return price * max(abs(order.size) - filled, ZERO)

    # ---- what became of it

    def _pass(self, outputs: Sequence[on.Output]) -> None:
        """Tell `emsd` what happened."""
        for out in outputs:
            work = self._works.get(out.key)
            if work is None:
                continue
            match out:
                case on.Opened(number=number):
                    self._tell_open(work, number, out.time_ns)
                case on.Fired():
                    details = {"name": "paperboi", "fired": True, "gapped": out.gapped}
                    self._emit(self._status(work, "open", out.time_ns, details))
                case on.Traded():
                    self._tell_fill(work, out)
                case on.Closed():
                    self._end(work, self._status(work, "closed", out.time_ns))
                case on.Ended(reason=reason):
                    self._end(work, self._status(work, "canceled", out.time_ns, reason=reason))
                case on.Refused():
                    self._tell_refusal(work, out)

    def _tell_open(self, work: Work, number: int, time_ns: int) -> None:
        details = {"name": "paperboi"}
        if (asked := work.asked.get(number)) is not None:
            work.order, details = asked
        work.asked = {at: later for at, later in work.asked.items() if at > number}
        work.is_open = True
        self._reserve(work)
        self._emit(self._status(work, "open", time_ns, details, reason="paper_trigger"))

    def _tell_fill(self, work: Work, out: on.Traded) -> None:
        price, size = out.price * self.price_tick, out.size * self.size_tick
        fee = self._terms.fee(price * size, is_maker=out.is_maker)
        work.filled += size
        work.fills += 1
        self.counters["fills"] += 1
        self._funds.book(self.holding, work.side, size, price, fee)
        self._reserve(work)
        details: dict[str, Any] = {
            "name": f"{self._broker}_paper",
            "paper_info": {"oid": work.order.oid},
        }
        if out.gapped:
            details["gapped"] = True
        self._emit(
            BrokerdFill(
                time_ns=out.time_ns,
                broker_time=out.time_ns / NS,
                reqid=work.reqid,
                size=size,
                price=price,
                action=work.order.action,
                broker_details=details,
                tid=on.fill_tid(work.reqid, work.entered_ns, work.fills),
                fee=fee,
                fee_asset=self._quote,
                is_maker=out.is_maker,
                client_ref=work.order.client_ref,
                oid=work.order.oid,
                account=ACCOUNT,
                symbol=self.mkt.bs_fqme,
            )
        )

    def _tell_refusal(self, work: Work, out: on.Refused) -> None:
        request: Requested = out.request  # type: ignore[assignment]
        error = self._error(work.order, request, out.reason, work.reqid, out.number)
        if request == "entry":
            self._end(work, error)
            return
        work.asked.pop(out.number, None)
        self._reserve(work)
        self._emit(error)

    def _refuse(
        self, order: BrokerdOrder, request: Requested, reason: str, reqid: str | None
    ) -> None:
        self._emit(self._error(order, request, reason, reqid, order.number))

    def _error(
        self, order: BrokerdOrder, request: Requested, reason: str, reqid: str | None, number: int
    ) -> BrokerdError:
        return BrokerdError(
            reason=reason,
            symbol=self.mkt.bs_fqme,
            oid=order.oid,
            reqid=reqid,
            request=request,
            number=number,
            broker_details={"name": "paperboi"},
        )

    def _answer_again(self, reqid: str, order: BrokerdOrder, now_ns: int) -> None:
        """Answer an entry that came before: it is the same order, not a second one."""
        self._emit(acknowledge(order, reqid))
        work = self._works.get(reqid)
        if work is None:
            self._emit(self._ended[reqid])
        elif work.is_open:
            self._emit(self._status(work, "open", now_ns))

    def _status(
        self,
        work: Work,
        status: str,
        time_ns: int,
        details: dict[str, Any] | None = None,
        reason: str = "",
    ) -> BrokerdStatus:
        return BrokerdStatus(
            time_ns=time_ns,
            reqid=work.reqid,
            status=status,
            oid=work.order.oid,
            account=ACCOUNT,
            filled=work.filled,
            remaining=abs(work.order.size) - work.filled,
            reason=reason,
            number=work.order.number,
            broker_details=details or {"name": "paperboi"},
        )

    # ---- keeping

    def _keep(self, work: Work) -> None:
        self._works[work.reqid] = work
        self._oids[work.order.oid] = work.reqid
        self._reserve(work)

    def _reserve(self, work: Work, *, is_over: bool = False) -> None:
        """Set aside what the order may still spend, by its dearest request."""
        need = ZERO
        if not is_over and not work.order.reduce_only:
            need = self._notional(work.order, work.filled)
            for order, _ in work.asked.values():
                if order is not work.order:
                    need = max(need, self._notional(order, work.filled))
        more, work.reserved = need - work.reserved, need
        if work.side == BUY:
            self.holding.buys += more
        else:
            self.holding.sells += more

    def _end(self, work: Work, last_word: BrokerdStatus | BrokerdError) -> None:
        del self._works[work.reqid]
        self._oids.pop(work.order.oid, None)
        self._reserve(work, is_over=True)
        self._ended[work.reqid] = last_word
        if len(self._ended) > ENDED_MAX:
            self._ended.popitem(last=False)
        self._emit(last_word)

    def has(self, oid: str) -> bool:
        """Whether an order with this oid rests here or is on its way."""
        return oid in self._oids

    def __len__(self) -> int:
        return len(self._works)


def _newest(batch: np.ndarray) -> np.ndarray:
    """Return what a market without orders needs: the newest quote and trade, gaps and states."""
    kinds = batch["type"]
    keep = (kinds == GAP) | (kinds == STATE)
    for kind in (QUOTE, TRADE):
        if len(found := np.flatnonzero(kinds == kind)):
            keep[found[-1]] = True
    kept: np.ndarray = batch[keep]
    return kept
