"""
The paper engine without its actor: the dialog with `emsd` on one side, markets on the other.

It keeps nothing across lives. `emsd` tells it account and orders first; nothing is matched before
`PaperReady`, and everything is forgotten when `emsd` leaves. Markets are opened when the first
order asks for them, or when the account holds something there, and stay open. Reading order:
`_matching`, `_paper_market`, then `PaperEngine`.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from typing import Any, Final, NamedTuple

import numpy as np
import trio

from piker import faults
from piker.clearing._fill_models import PaperTerms
from piker.clearing._matching import NEVER_NS
from piker.clearing._messages import (
    BrokerdCancel,
    BrokerdError,
    BrokerdFill,
    BrokerdOrder,
    BrokerdStatus,
    Message,
    PaperAccount,
    PaperOrder,
    PaperReady,
    parse_intent,
)
from piker.clearing._paper_funds import PaperFunds
from piker.clearing._paper_grid import ACCOUNT, ZERO
from piker.clearing._paper_market import Eyes, PaperMarket, acknowledge
from piker.clearing._world import Channel, MarketView, World, send_some
from piker.data._blocks import L1, L2, NO_L1
from piker.errors import BadPayload, ConnectionLost, PikerError, innermost
from piker.log import get_logger

log = get_logger(__name__)

MARKETS_MAX: Final = 256  # open at once; each has a reader of its tick ring
WAITING_MAX: Final = 1024  # messages that wait for one market to open; more are refused
OUTBOX_MAX: Final = 50_000  # messages that emsd has not taken; more means that it hangs
RETRY_S: Final = 2.0  # between tries to open the market of a resting order

MarketMsg = BrokerdOrder | BrokerdCancel | PaperOrder
GONE: Final = (ConnectionLost, trio.BrokenResourceError, trio.ClosedResourceError)


class _Blind:
    """What is seen of a market that is not open: nothing."""

    def l1(self) -> L1:
        """Return no quote of a feed that is not there."""
        return NO_L1

    def l2(self) -> L2:
        """Return no levels."""
        none: np.ndarray = np.empty((0, 2))
        return L2(none, none, 0, 0)


BLIND: Final = _Blind()


class _Waiting(NamedTuple):
    """A message for a market that is not open, and when it came."""

    message: MarketMsg
    arrived_ns: int
    is_acked: bool = False


class _Desk:
    """One market of the engine: what waits for it while it opens, then the market itself."""

    def __init__(self, fqme: str) -> None:
        self.fqme = fqme
        self.waiting: deque[_Waiting] = deque()
        self.market: PaperMarket | None = None
        self.eyes: Eyes = BLIND
        self.nap = trio.CancelScope()
        self.nap_ns = NEVER_NS

    def wake(self) -> None:
        """Have the time keeper look again when something is due earlier than it knew."""
        if self.market is not None and self.market.book.next_ns() < self.nap_ns:
            self.nap.cancel()


class PaperEngine:
    """All paper orders of a broker, for one dialog with `emsd`."""

    def __init__(self, world: World, broker: str, terms: PaperTerms, first: str = "") -> None:
        """`first` is the market to open at once, before an order asks for it."""
        self._first = first
        self._world = world
        self._broker = broker
        self._terms = terms
        self._funds = PaperFunds(terms)
        self._positions: dict[str, Decimal] = {}
        self._desks: dict[str, _Desk] = {}
        self._out: deque[dict[str, Any]] = deque()
        self._has_out = trio.Event()
        self._way_out: Channel | None = None  # while nothing waits to leave but what was just said
        self._is_ready = trio.Event()
        self._nursery: trio.Nursery | None = None

    async def serve(self, channel: Channel) -> None:
        """Answer `emsd` until it leaves; then everything is forgotten."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._send_all, channel)
            channel.on_message(self._take_and_answer)
            try:
                async for raw in channel:
                    self._take_and_answer(raw)
            except GONE as err:
                log.info("emsd is gone cause=%r", err)
            nursery.cancel_scope.cancel()

    def statistics(self) -> dict[str, int]:
        """Return named counters."""
        markets = [desk.market for desk in self._desks.values() if desk.market is not None]
        return {
            "markets": len(markets),
            "orders": sum(len(market) for market in markets),
            "fills": sum(market.counters["fills"] for market in markets),
            "events": sum(market.counters["events"] for market in markets),
            "outbox": len(self._out),
        }

    # ---- emsd's side

    def _take_and_answer(self, raw: object, more: bool = False) -> bool:
        """Take a message of emsd; all that is said to it leaves as one, in this turn if it can."""
        self._take(raw)
        if self._way_out is not None and self._out and not more:
            out = list(self._out)
            if self._way_out.send_nowait(*out):
                self._out.clear()
                for _ in out:
                    faults.point("paperboi.answer.sent")
        return True

    async def _send_all(self, channel: Channel) -> None:
        assert self._nursery is not None
        try:
            while True:
                while not self._out:
                    self._has_out, self._way_out = trio.Event(), channel
                    await self._has_out.wait()
                    self._way_out = None
                await send_some(channel, self._out)
                faults.point("paperboi.answer.sent")
        except GONE as err:
            log.info("emsd is gone cause=%r", err)
            self._nursery.cancel_scope.cancel()

    def _emit(self, message: Message) -> None:
        if len(self._out) >= OUTBOX_MAX and self._nursery is not None:
            log.error("emsd does not read, %s messages wait: ending the dialog", OUTBOX_MAX)
            self._nursery.cancel_scope.cancel()
            return
        if isinstance(message, BrokerdFill):
            faults.point("paperboi.fill.made")
        self._out.append(message.to_dict())
        self._has_out.set()

    def _take(self, raw: object) -> None:
        """Take one message of emsd; one without sense is answered, and the dialog goes on."""
        try:
            message = parse_intent(raw)
        except BadPayload as err:
            log.warning("unreadable message of emsd: %s", err)
            oid = raw.get("oid") if isinstance(raw, dict) else None
            self._emit(BrokerdError(reason=str(err), oid=oid if isinstance(oid, str) else None))
            return
        log.debug("from emsd %s", message)
        match message:
            case PaperAccount():
                self._take_account(message)
            case PaperReady():
                self._get_ready()
            case PaperOrder():
                self._pass_on(message.order.symbol, message)
            case _:
                faults.point("paperboi.request.taken")
                self._pass_on(message.symbol, message)

    def _take_account(self, account: PaperAccount) -> None:
        """Take what the account has; after the start it is a reset, which ends every order."""
        now_ns = self._world.now_ns()
        self._positions = dict(account.positions)
        self._funds.set(account.balances, account.positions)
        for desk in self._desks.values():
            if self._is_ready.is_set():
                desk.waiting.clear()
            if desk.market is not None:
                desk.market.clear()
                desk.market.hold(self._positions.get(desk.fqme, ZERO), now_ns)
                desk.market.look(desk.eyes, now_ns)

    def _get_ready(self) -> None:
        self._is_ready.set()
        for fqme in filter(None, (self._first, *self._positions)):
            # What is held has to be valued before more can be afforded.
            if len(self._desks) < MARKETS_MAX // 2:
                self._desk(fqme)

    def _pass_on(self, symbol: str, message: MarketMsg) -> None:
        """Give a message to its market, or let it wait until that is open."""
        fqme = f"{symbol}.{self._broker}" if symbol else self._market_of(message)
        if not fqme:
            self._refuse(message, "symbol: was empty, expected the market's name")
            return
        is_told = isinstance(message, PaperOrder)  # it rests already: no limit may end it
        if not is_told and fqme not in self._desks and len(self._desks) >= MARKETS_MAX:
            self._refuse(message, f"markets: {MARKETS_MAX} are open, expected fewer")
            return
        desk = self._desk(fqme)
        now_ns = self._world.now_ns()
        if desk.market is not None:
            self._handle(desk, _Waiting(message, now_ns), now_ns)
        elif not is_told and len(desk.waiting) >= WAITING_MAX:
            self._refuse(message, f"{fqme}: {WAITING_MAX} requests wait for the market to open")
        else:
            is_entry = isinstance(message, BrokerdOrder) and message.reqid is None
            is_acked = is_entry and self._is_ready.is_set()
            if is_acked and isinstance(message, BrokerdOrder):
                # It came in time: how long a market takes to open is not the client's to bear.
                self._emit(acknowledge(message, message.client_id))
            desk.waiting.append(_Waiting(message, now_ns, is_acked))

    def _market_of(self, message: MarketMsg) -> str:
        """Return the market of a cancel that does not say it, '' when nobody knows."""
        oid = message.oid if isinstance(message, BrokerdCancel) else ""
        found = (
            desk.fqme
            for desk in self._desks.values()
            if desk.market is not None and desk.market.has(oid)
        )
        return next(found, "")

    def _desk(self, fqme: str) -> _Desk:
        desk = self._desks.get(fqme)
        if desk is None:
            assert self._nursery is not None
            desk = self._desks[fqme] = _Desk(fqme)
            self._nursery.start_soon(self._run_market, desk)
        return desk

    def _handle(self, desk: _Desk, waited: _Waiting, now_ns: int) -> None:
        """Let an open market take a message."""
        market = desk.market
        assert market is not None
        match message := waited.message:
            case BrokerdOrder():
                market.take_order(
                    message, desk.eyes, now_ns, waited.arrived_ns, is_acked=waited.is_acked
                )
            case BrokerdCancel():
                market.take_cancel(message, now_ns)
            case PaperOrder():
                try:
                    market.restore(message, now_ns)
                except ValueError as err:
                    self._end(message, str(err))
        market.on_time(now_ns, desk.eyes)
        desk.wake()

    def _refuse(self, message: MarketMsg, reason: str) -> None:
        """Answer a request that its market cannot take."""
        if isinstance(message, PaperOrder):
            self._end(message, reason)
            return
        is_order = isinstance(message, BrokerdOrder)
        is_entry = is_order and message.reqid is None
        self._emit(
            BrokerdError(
                reason=reason,
                symbol=message.symbol,
                oid=message.oid,
                reqid=message.reqid,
                request="entry" if is_entry else "amend" if is_order else "cancel",
                number=message.number if isinstance(message, BrokerdOrder) else 0,
                broker_details={"name": "paperboi"},
            )
        )

    def _end(self, told: PaperOrder, reason: str) -> None:
        """Cancel an order of an earlier life that cannot rest here."""
        order = told.order
        self._emit(
            BrokerdStatus(
                time_ns=self._world.now_ns(),
                reqid=order.reqid,
                status="canceled",
                oid=order.oid,
                account=ACCOUNT,
                filled=told.filled,
                remaining=abs(order.size) - told.filled,
                reason=reason,
                number=order.number,
                broker_details={"name": "paperboi"},
            )
        )

    # ---- the market's side

    async def _run_market(self, desk: _Desk) -> None:
        """Hold a market open; while it cannot be, refuse what is new and keep what rests."""
        while True:
            try:
                async with self._world.open_market(desk.fqme) as view:
                    await self._run_open(desk, view)
                reason = f"{desk.fqme}: the feed has ended"
            except* PikerError as group:
                reason = str(innermost(group))
            log.warning("paper market is closed fqme=%s cause=%s", desk.fqme, reason)
            desk.eyes = BLIND
            if desk.market is not None:
                desk.market.book.lose()
            elif not self._turn_away(desk, reason):
                del self._desks[desk.fqme]
                return
            now_ns = self._world.now_ns()
            await self._world.sleep_until_ns(now_ns + int(RETRY_S * 1e9))

    def _turn_away(self, desk: _Desk, reason: str) -> int:
        """Refuse the new requests that wait for a market; return how many orders go on waiting."""
        told = {
            str(each.message.order.reqid): each
            for each in desk.waiting
            if isinstance(each.message, PaperOrder)
        }
        for message, *_ in desk.waiting:
            if isinstance(message, PaperOrder):
                continue
            rests = told.get(str(message.reqid))
            if isinstance(message, BrokerdCancel) and rests is not None:
                del told[str(message.reqid)]
                assert isinstance(rests.message, PaperOrder)
                self._end(rests.message, "")
            else:
                self._refuse(message, reason)
        desk.waiting = deque(told.values())
        return len(told)

    async def _run_open(self, desk: _Desk, view: MarketView) -> None:
        """Match in an open market, once `emsd` has told all."""
        await self._is_ready.wait()
        ticks = view.ticks()
        now_ns = self._world.now_ns()
        desk.eyes = view
        market = desk.market
        if market is None:
            assert self._nursery is not None
            market = PaperMarket(view.mkt, self._broker, self._terms, self._funds, self._emit)
            market.hold(self._positions.get(desk.fqme, ZERO), now_ns)
            desk.market = market
            self._nursery.start_soon(self._keep_time, desk, market)
        waiting, desk.waiting = desk.waiting, deque()
        for each in waiting:
            if isinstance(each.message, PaperOrder):
                self._handle(desk, each, now_ns)
        market.look(view, now_ns)
        for each in waiting:
            if not isinstance(each.message, PaperOrder):
                self._handle(desk, each, now_ns)
        async for batch in ticks:
            market.on_batch(batch, view)
            desk.wake()

    async def _keep_time(self, desk: _Desk, market: PaperMarket) -> None:
        """Let requests take effect and orders expire when their time has come."""
        while True:
            desk.nap_ns = market.book.next_ns()
            with trio.CancelScope() as desk.nap:
                if desk.nap_ns == NEVER_NS:
                    await trio.sleep_forever()
                await self._world.sleep_until_ns(desk.nap_ns)
            market.on_time(self._world.now_ns(), desk.eyes)
