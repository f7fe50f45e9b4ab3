"""
The bridge between the pages of a chart and the order path.

Reading order: `OrderDesk.follow` (a page looks at a market), `OrderDesk.ask` (what it asks), then
a small method for each request. The EMS client is opened once per market and mode, when a page
turns the order side on, or by itself once `emsd` runs; the run's token stays in this process.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial

import trio

from piker import config
from piker.clearing import Order
from piker.errors import PikerError, leaves
from piker.log import get_logger
from piker.ui.messages import Err
from piker.ui.order_closing import close_position
from piker.ui.order_lines import Line
from piker.ui.order_link import OrderLink
from piker.ui.order_market import PAPER, MarketOrders, Page, mode_of
from piker.ui.order_messages import (
    AllocAsked,
    AmendAsked,
    Arm,
    CancelAll,
    CancelAsked,
    Count,
    Flatten,
    Kill,
    Mode,
    OrderAsked,
    OrderRequest,
    SizeAsked,
    Trade,
)
from piker.ui.order_path import Ems
from piker.ui.order_requests import (
    amended,
    needs_confirm,
    new_order,
    number_or_none,
    worth_of,
)
from piker.ui.picture import Picture

log = get_logger(__name__)


class OrderDesk:
    """The order sides of all markets of one chart process."""

    def __init__(
        self, ems: Ems, nursery: trio.Nursery, on_gate: Callable[[Picture], None] = lambda _: None
    ) -> None:
        self._ems = ems
        self._nursery = nursery
        self._on_gate = on_gate  # the order path of a picture's market opens or closes
        self._markets: dict[str, MarketOrders] = {}
        self._links: dict[tuple[str, Mode], OrderLink] = {}
        self._reading: set[tuple[str, str]] = set()
        self._closing: set[tuple[str, str]] = set()  # positions, by market and account
        self._is_up = False

    # ---- pages and the tree

    def follow(self, page: Page, chan: int, picture: Picture) -> None:
        """A page looks at a market: it is told what is known of its orders, and every change."""
        mkt = picture.facts.mkt
        if mkt is None or not page.follows(chan, mkt.fqme):
            return
        market = self._markets.get(mkt.fqme)
        if market is None:
            last, on_state = partial(_last_price, picture), partial(self._on_gate, picture)
            market = MarketOrders(mkt, _accounts(mkt.broker), last, on_state)
            self._markets[mkt.fqme] = market
            for account in market.accounts:
                self._read_ledger(market, account)
            if self._is_up:
                self._turn_on(market, PAPER)
        market.follow(page, chan)

    def market(self, fqme: str) -> MarketOrders:
        """Return the order side of a market that a page follows."""
        return self._markets[fqme]

    def leave(self, page: Page) -> None:
        """A page has gone."""
        for market in self._markets.values():
            market.leave(page)

    def see_tree(self, is_up: bool) -> None:
        """Once `emsd` runs every market is attached: somebody's orders may be there."""
        if is_up and not self._is_up:
            for market in self._markets.values():
                self._turn_on(market, PAPER)
        self._is_up = is_up

    def gate(self, fqme: str) -> str:
        """Return why the order path takes no order of a market, '' when it may."""
        market = self._markets.get(fqme)
        state = market.states["paper"] if market else None
        if state is None or state.state in ("off", "connecting"):
            return ""
        return state.killed or state.text

    # ---- what pages ask

    def ask(self, page: Page, request: OrderRequest, picture: Picture | None) -> None:
        """Do what a page asks; what cannot be is answered with a sentence."""
        market = self._markets.get(picture.facts.fqme) if picture else None
        try:
            if market is None:
                raise ValueError("this channel shows no market that can be traded")
            self._do(market, page, request)
        except _Refused as err:
            self._refuse(page, request, str(err), err.code)
        except (ValueError, PikerError) as err:
            self._refuse(page, request, str(err))

    def _do(self, market: MarketOrders, page: Page, request: OrderRequest) -> None:
        match request:
            case Trade():
                self._turn_on(market, market.account_of(page, request.chan))
            case OrderAsked():
                self._enter(market, page, request)
            case AmendAsked():
                self._amend(market, request)
            case CancelAsked():
                self._ask_cancel(market, request.oid)
            case CancelAll():
                asked = [line.asked.oid for m in market.lines.values() for line in m.working()]
                for oid in asked:
                    self._ask_cancel(market, oid)
                page.send(Count(request.id, request.chan, len(asked)))
            case SizeAsked():
                self._size(market, page, request)
            case AllocAsked():
                self._allocate(market, page, request)
            case Flatten():
                self._flatten(market, page, request)
            case Kill() | Arm():
                self._nursery.start_soon(self._switch, page, request)

    @staticmethod
    def _refuse(page: Page, request: OrderRequest, text: str, code: str = "bad_request") -> None:
        op = str(request.__struct_config__.tag)
        oid = str(getattr(request, "oid", ""))
        page.send(Err(op, code, text, request.chan, request.id, oid=oid))

    def _turn_on(self, market: MarketOrders, account: str) -> OrderLink:
        mode = mode_of(account)
        key = market.mkt.fqme, mode
        link = self._links.get(key)
        if link is None:
            on_mismatch = partial(self._read_ledger, market)
            link = self._links[key] = OrderLink(market, mode, self._ems.open, on_mismatch)
        if not link.is_running:
            link.is_running = True
            self._nursery.start_soon(link.run)
        return link

    def _link(self, market: MarketOrders, mode: Mode) -> OrderLink:
        """Return the link of a mode once orders may go through it."""
        link = self._links.get((market.mkt.fqme, mode))
        state = market.states[mode]
        if link is None or state.state != "ready":
            why = state.text or "the order desk is not connected yet"
            raise _Refused(f"not sent: {why}", "gate")
        return link

    def _enter(self, market: MarketOrders, page: Page, asked: OrderAsked) -> None:
        account = market.account_of(page, asked.chan)
        mode = mode_of(account)
        self._link(market, mode)
        if any(lines.get(asked.oid) for lines in market.lines.values()):
            raise ValueError("oid: is in use; one click is one order")
        size = Decimal(0)
        if not asked.size and asked.action != "alert":
            size = self._allocated(market, account, asked)
        order = new_order(asked, market.mkt, account, size)
        self._check_confirmed(order, mode, market.last(), asked.confirmed)
        self._hand_over(market, order, page, asked)

    def _hand_over(
        self, market: MarketOrders, order: Order, page: Page, asked: OrderAsked | Flatten
    ) -> None:
        """Show a new order on every page and queue it for the EMS."""
        mode = mode_of(order.account)
        link = self._link(market, mode)
        market.enter(order, mode, (page, asked.chan), asked.id)
        try:
            link.ask(lambda client: client.send(order), order.oid)
        except ValueError as err:
            market.drop(order.oid, mode, str(err))

    @staticmethod
    def _check_confirmed(
        order: Order, mode: Mode, last: Decimal | None, is_confirmed: bool
    ) -> None:
        """Refuse an order that the trader has to confirm and has not."""
        worth = worth_of(order, last)
        ui = config.settings().ui
        if not (is_confirmed or order.is_alert) and needs_confirm(ui, mode, order.exec_mode, worth):
            raise _Refused("confirm this with enter", "confirm")

    def _allocated(self, market: MarketOrders, account: str, asked: OrderAsked) -> Decimal:
        price = number_or_none("price", asked.price)
        price = price or number_or_none("trigger_price", asked.trigger_price) or market.last()
        if price is None:
            raise ValueError("size: was missing, and there is no price yet to work it out")
        assert asked.action != "alert"
        size, _ = market.sizer(account).size_at(asked.action, price, asked.steps)
        if not size:
            raise ValueError("size: the limit is used up; raise it in the order pane")
        return size

    def _amend(self, market: MarketOrders, asked: AmendAsked) -> None:
        mode, line = _line(market, asked.oid)
        if asked.revision != line.status.revision:
            text = f"the order was changed meanwhile (revision {line.status.revision}); look again"
            raise _Refused(text, "stale")
        order = amended(line, asked)
        self._check_confirmed(order, mode, market.last(), asked.confirmed)
        self._link(market, mode).ask(lambda client: client.send(order))

    def _ask_cancel(self, market: MarketOrders, oid: str) -> None:
        """
        Ask to cancel an order, whatever its mode.

        Raises:
          ValueError: there is no such order, or no way to the EMS now.
        """
        mode, _ = _line(market, oid)
        self._link(market, mode).ask(lambda client: client.cancel(oid))

    def _size(self, market: MarketOrders, page: Page, asked: SizeAsked) -> None:
        account = market.account_of(page, asked.chan)
        answer = market.sizer(account).size(asked)
        if answer.size:
            ui, worth = config.settings().ui, Decimal(answer.fiat)
            answer.confirm = needs_confirm(ui, mode_of(account), "live", worth)
        page.send(answer)

    def _allocate(self, market: MarketOrders, page: Page, asked: AllocAsked) -> None:
        try:
            market.change_alloc(page, asked.chan, asked)
        except ValueError:
            market.tell_alloc(page, asked.chan)
            raise
        account = market.account_of(page, asked.chan)
        if mode_of(account) == "live":
            self._turn_on(market, account)

    # ---- what takes more than one message

    def _flatten(self, market: MarketOrders, page: Page, asked: Flatten) -> None:
        if not market.held(asked.account):
            raise ValueError(f"{asked.account} holds nothing of {market.mkt.fqme}")
        self._link(market, mode_of(asked.account))
        key = market.mkt.fqme, asked.account
        if key in self._closing:
            raise ValueError(f"{asked.account}: the position is being closed")
        self._closing.add(key)
        self._nursery.start_soon(self._close_position, market, page, asked)

    async def _close_position(self, market: MarketOrders, page: Page, asked: Flatten) -> None:
        def enter(order: Order) -> None:
            self._hand_over(market, order, page, asked)

        try:
            cancel = partial(self._ask_cancel, market)
            await close_position(market, asked.account, cancel, enter)
        except ValueError as err:
            self._refuse(page, asked, str(err))
        finally:
            self._closing.discard((market.mkt.fqme, asked.account))

    async def _switch(self, page: Page, asked: Kill | Arm) -> None:
        try:
            await (self._ems.stop_all() if isinstance(asked, Kill) else self._ems.arm())
        except* PikerError as group:
            self._refuse(page, asked, str(next(leaves(group))))

    # ---- ledgers

    def _read_ledger(self, market: MarketOrders, account: str) -> None:
        key = market.mkt.fqme, account
        if key not in self._reading:
            self._reading.add(key)
            self._nursery.start_soon(self._take_ledger, market, account)

    async def _take_ledger(self, market: MarketOrders, account: str) -> None:
        try:
            read = partial(self._ems.read_ledger, market.mkt.broker, account)
            records = await trio.to_thread.run_sync(read, abandon_on_cancel=True)
            market.take_ledger(account, records)
        except (PikerError, OSError) as err:
            log.warning("ledger not read account=%s cause=%s", account, err)
        finally:
            self._reading.discard((market.mkt.fqme, account))


class _Refused(ValueError):
    """A request that is refused with a code of its own."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code


def _line(market: MarketOrders, oid: str) -> tuple[Mode, Line]:
    """Return an order that goes on, and its mode; refused when there is none."""
    for mode, lines in market.lines.items():
        if line := lines.get(oid):
            return mode, line
    raise _Refused("this order has ended", "unknown_order")


def _accounts(broker: str) -> list[str]:
    """Return the accounts of a broker, in the order of `brokers.toml`."""
    labels = config.broker_settings(broker).get("accounts") or {}
    return [PAPER, *(f"{broker}.{label}" for label in labels)]


def _last_price(picture: Picture) -> Decimal | None:
    last = float(picture.l1[0])
    if last != last or picture.facts.mkt is None:
        return None
    return picture.facts.mkt.quantize(str(last), "price")
