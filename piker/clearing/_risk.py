"""
The risk gate: what stands between a client's order and everything behind it.

Pure: an order and what is known of its account and market in, the reason to refuse it out. Each
reason names the limit that was broken, the value and the limit. A limit of 0 is off.

What passes what: an order that only reduces its position, and an amend that only makes an order
smaller, pass the limits of notional, position and loss, the kill switch and a damaged journal. A
cancel never asks. An alert trades nothing: only its price is checked, and that the market has one.
Orders of unknown outcome count as if they were there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from piker.clearing._dialog import Dialog
from piker.clearing._messages import Order
from piker.model.market import MktPair
from piker.settings import Clearing

RiskLimits = Clearing

SECOND_NS = 1_000_000_000
ZERO = Decimal(0)
PRICES = ("price", "trigger_price", "take_profit", "stop_loss")


class RiskView(msgspec.Struct, frozen=True, kw_only=True):
    """
    What is known when an order is checked, of its account and market.

    `last` is the last trade's price and `stale` why the data are not current; `position` is signed.
    `working` are the orders of the market that go on. `realised`, `fees` and `unrealised` are of
    this UTC day, in the quote currency. `known` is the order that is amended. `stopped` and
    `unsound` say why no new risk is taken: the kill switch, and the state of the journal.
    """

    now_ns: int
    mkt: MktPair
    last: Decimal | None
    stale: str = ""
    position: Decimal = ZERO
    working: Sequence[Dialog] = ()
    known: Dialog | None = None
    realised: Decimal = ZERO
    fees: Decimal = ZERO
    unrealised: Decimal = ZERO
    stopped: str = ""
    unsound: str = ""

    @property
    def quote(self) -> str:
        """The currency in which limits are given."""
        return str(self.mkt.src).upper()

    @property
    def base(self) -> str:
        """What is bought and sold."""
        return str(self.mkt.dst).upper()


def working(dialogs: Iterable[Dialog], action: str, except_oid: str = "") -> Decimal:
    """
    Return how much orders on one side may still add to a position.

    Held orders are not there yet, and what is reduce-only adds nothing.
    """
    sizes = (
        dialog.asked.size - dialog.filled
        for dialog in dialogs
        if dialog.order.action == action
        and dialog.oid != except_oid
        and not (dialog.is_terminal or dialog.state == "dark_open" or dialog.order.reduce_only)
    )
    return sum((max(size, ZERO) for size in sizes), ZERO)


def price_of(order: Order, last: Decimal | None) -> Decimal | None:
    """Return at what price an order counts against limits of money; None: nobody knows."""
    if order.order_type != "market" and order.price:
        return order.price
    return order.trigger_price or last


class RiskGate:
    """The checks in front of one account; remembers when it let the newest orders pass."""

    def __init__(self, limits: RiskLimits) -> None:
        self.limits = limits
        self._band_share = limits.price_band_pct / 100
        self._passed: deque[int] = deque(maxlen=max(1, limits.orders_per_s))

    def check(self, order: Order, view: RiskView) -> str:
        """Return why `order`, or an amend of `view.known`, is refused; '' when it passes."""
        reason = self._off_tick(order, view) or (self._legs(order, view) if order.has_legs else "")
        if reason:
            return reason
        if order.is_alert:
            return self._last(view) if view.last is None else ""
        reason = (
            self._data(order, view)
            or self._size(order, view)
            or self._band(order, order.price, view)
            or ("" if only_reduces(order, view) else self._new_risk(order, view))
            or self._rate(view)
        )
        if not reason:
            self._passed.append(view.now_ns)
        return reason

    def check_fired(self, order: Order, price: Decimal | None, view: RiskView) -> str:
        """
        Return why a held order whose trigger was true may not leave at `price` (None: its own).

        It was checked when it was entered; what may have changed since is checked again. It
        counts as an order of this second, and is never refused for being one too many.
        """
        sent = order.price if price is None else price
        reason = self._band(order, sent, view, is_fired=True)
        if not (reason or order.is_alert or only_reduces(order, view)):
            at = sent if sent and order.order_type != "market" else view.last
            reason = self._closed(view) or self._position(order, at, view) or self._loss(view)
        if not reason:
            self._passed.append(view.now_ns)
        return reason

    # ---- one limit each

    def _off_tick(self, order: Order, view: RiskView) -> str:
        tick = view.mkt.price_tick
        for field in PRICES if tick else ():
            value = getattr(order, field)
            if value and value % tick:
                return f"{field}: was {value:f}, expected a multiple of {tick:f}"
        tick = view.mkt.size_tick
        if tick and order.size % tick:
            return f"size: was {order.size:f}, expected a multiple of {tick:f}"
        return ""

    def _legs(self, order: Order, view: RiskView) -> str:
        """Refuse a stop that would fire, or a take-profit that would, as soon as it is held."""
        anchor = order.trigger_price or order.price or view.last
        if anchor is None:
            return ""
        is_buy = order.action == "buy"
        for field, is_above in (("take_profit", is_buy), ("stop_loss", not is_buy)):
            price = getattr(order, field)
            if price is not None and (price <= anchor if is_above else price >= anchor):
                side = "above" if is_above else "below"
                return f"{field}: was {price:f}, expected {side} {anchor:f}"
        return ""

    def _data(self, order: Order, view: RiskView) -> str:
        if view.stale and self.limits.stale_gate:
            return f"stale_gate: {view.mkt.fqme} is stale: {view.stale}"
        if view.last is None and (order.is_dark or price_of(order, None) is None):
            return self._last(view)
        return ""

    def _last(self, view: RiskView) -> str:
        return f"last: no trade of {view.mkt.fqme} is known yet"

    def _size(self, order: Order, view: RiskView) -> str:
        limit = self.limits.max_size
        if limit and order.size > limit:
            return f"max_size: was {order.size:f} {view.base}, limit {limit:f}"
        return ""

    def _band(self, order: Order, price: Decimal, view: RiskView, *, is_fired: bool = False) -> str:
        """Refuse a limit too far on the far side of the market; away from it is free."""
        share, last = self._band_share, view.last
        is_market = order.order_type == "market" or not price
        if not share or last is None or is_market or (order.is_dark and not is_fired):
            return ""
        if not is_fired and order.order_type in {"stop", "take_profit"}:
            last = order.trigger_price or last  # it is sent when the market is there
        if order.action == "buy" and price > (bound := last * (1 + share)):
            return f"price_band_pct: buy at {price:f}, limit {_plain(bound)}: {_off(price, last)}"
        if order.action == "sell" and price < (bound := last * (1 - share)):
            return f"price_band_pct: sell at {price:f}, limit {_plain(bound)}: {_off(price, last)}"
        return ""

    def _new_risk(self, order: Order, view: RiskView) -> str:
        price = price_of(order, view.last)
        return (
            self._closed(view)
            or self._notional(order, price, view)
            or self._position(order, price, view)
            or self._loss(view)
        )

    def _closed(self, view: RiskView) -> str:
        if view.stopped:
            return f"stopped: {view.stopped}; piker arm to trade again"
        if view.unsound:
            return f"no new risk: {view.unsound}"
        return ""

    def _notional(self, order: Order, price: Decimal | None, view: RiskView) -> str:
        limit = self.limits.max_notional
        if not limit:
            return ""
        if price is None:
            return self._last(view)
        worth = order.size * price
        if worth > limit:
            return f"max_notional: was {_money(worth, limit)} {view.quote}, limit {limit}"
        return ""

    def _position(self, order: Order, price: Decimal | None, view: RiskView) -> str:
        limit = self.limits.max_position
        if not limit or price is None:
            return ""
        filled = view.known.filled if view.known else ZERO
        adds = order.size - filled + working(view.working, order.action, order.oid)
        after = view.position + adds if order.action == "buy" else view.position - adds
        worth = abs(after) * price
        if worth > limit:
            return f"max_position: would be {_money(worth, limit)} {view.quote}, limit {limit}"
        return ""

    def _loss(self, view: RiskView) -> str:
        limit = self.limits.daily_loss
        if not limit:
            return ""
        made = view.realised - view.fees + view.unrealised
        if -made >= limit:
            return f"daily_loss: was {_money(-made, limit)} {view.quote} today, limit {limit}"
        return ""

    def _rate(self, view: RiskView) -> str:
        """Refuse one more than the limit within any second of the run's time."""
        limit = self.limits.orders_per_s
        if not limit or len(self._passed) < limit:
            return ""
        if 0 <= view.now_ns - self._passed[0] < SECOND_NS:
            return f"orders_per_s: were {limit + 1} within a second, limit {limit}"
        return ""


def only_reduces(order: Order, view: RiskView) -> bool:
    """Whether an order adds no risk: it can only shrink its position, or an order that is there."""
    if order.reduce_only or order.parent:
        return True
    known = view.known
    if known is not None and known.order.action == order.action:
        asked = known.asked
        old, new = price_of(asked, view.last), price_of(order, view.last)
        if order.size <= asked.size and old is not None and new is not None and new <= old:
            return True
    is_exit = view.position < 0 if order.action == "buy" else view.position > 0
    left = order.size - (known.filled if known else ZERO)
    return is_exit and left + working(view.working, order.action, order.oid) <= abs(view.position)


def _plain(value: Decimal) -> str:
    """Return a number with at most 8 decimals, without exponent and idle zeros."""
    text = f"{value:.8f}"
    return text.rstrip("0").rstrip(".")


def _money(value: Decimal, limit: Decimal) -> str:
    """Return an amount to the cent, or whole when the cent would hide that it breaks `limit`."""
    text = f"{value:.2f}"
    return text if Decimal(text) > limit else f"{value:f}"


def _off(price: Decimal, last: Decimal) -> str:
    return f"{abs(price - last) / last * 100:.2f} % off the last trade {last:f}"
