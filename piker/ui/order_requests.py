"""
What the page asks, as messages of the order path; refused here when it makes no sense at all.

Pure. Limits, ticks and balances are judged by `emsd` alone, whoever asks; here only what a page
cannot mean is refused, with the name of the field.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from piker import clock
from piker.clearing import Order, exact
from piker.model.market import MktPair
from piker.settings import Ui
from piker.ui.order_lines import Line
from piker.ui.order_messages import AmendAsked, Mode, OrderAsked

CLIENT_REF = "chart"
_YEAR_10000_S = 253_402_300_800
_OID = re.compile(r"[0-9a-f]{32}")


def number_or_none(field: str, text: str) -> Decimal | None:
    """
    Return a decimal, None for ''.

    Raises:
      ValueError: not a number; names the field.
    """
    return exact(field, text) if text else None


def new_order(asked: OrderAsked, mkt: MktPair, account: str, size: Decimal) -> Order:
    """
    Return the order that the page asks for; `size` is the allocator's, used where it gave none.

    Raises:
      ValueError: names the field that cannot be.
    """
    if not _OID.fullmatch(asked.oid):
        raise ValueError(f"oid: was {asked.oid[:40]!r}, expected 32 hexadecimal digits")
    is_alert = asked.action == "alert"
    price = number_or_none("price", asked.price) or Decimal(0)
    return Order(
        action=asked.action,
        exec_mode="live" if is_alert else asked.exec_mode,
        oid=asked.oid,
        symbol=mkt.fqme,
        account=account,
        price=price,
        size=Decimal(0) if is_alert else number_or_none("size", asked.size) or size,
        brokers=(mkt.broker,),
        order_type=asked.order_type,
        time_in_force=asked.tif,
        expire_time_ns=_nanoseconds(asked.expire),
        post_only=asked.post_only,
        reduce_only=asked.reduce_only,
        trigger_price=number_or_none("trigger_price", asked.trigger_price),
        trail=asked.trail,
        take_profit=number_or_none("take_profit", asked.take_profit),
        stop_loss=number_or_none("stop_loss", asked.stop_loss),
        parent=asked.parent,
        client_ref=CLIENT_REF,
    )


def _nanoseconds(seconds: float) -> int:
    """
    Return a time of the page in the order path's unit.

    Raises:
      ValueError: no time that can be.
    """
    if not 0 <= seconds < _YEAR_10000_S:
        raise ValueError(f"expire: was {seconds}, expected epoch seconds")
    return round(seconds * clock.NS)


def amended(line: Line, asked: AmendAsked) -> Order:
    """
    Return the order with the page's new values, based on the revision that the page saw.

    The new price is where the line was dragged to: of an order that waits for its trigger it is
    the trigger's, and its own only when both were the same.

    Raises:
      ValueError: names the field that cannot be.
    """
    before = line.asked
    changes: dict[str, Any] = {}
    for field in ("size", "take_profit", "stop_loss"):
        if (value := number_or_none(field, getattr(asked, field))) is not None:
            changes[field] = value
    if (price := number_or_none("price", asked.price)) is not None:
        if line.stands_at_trigger:
            changes["trigger_price"] = price
        if not line.stands_at_trigger or before.price == before.trigger_price:
            changes["price"] = price
    if not changes:
        raise ValueError("amend: nothing was changed")
    return replace(before, revision=asked.revision, **changes)


def needs_confirm(ui: Ui, mode: Mode, exec_mode: str, worth: Decimal | None) -> bool:
    """Whether `[ui] confirm` wants the trader to confirm an order of so much; None: not known."""
    if ui.confirm == "live":
        return mode == "live" and exec_mode == "live"
    above = ui.confirm_above
    return above is not None and (worth is None or worth > above)


def worth_of(order: Order, last: Decimal | None) -> Decimal | None:
    """Return what an order is worth at its price, or at the last one; None when there is none."""
    price = order.price or order.trigger_price or last
    return price * order.size if price is not None else None


def closing_order(oid: str, mkt: MktPair, account: str, held: Decimal) -> Order:
    """Return the market order that closes what is held."""
    return Order(
        action="sell" if held > 0 else "buy",
        exec_mode="live",
        oid=oid,
        symbol=mkt.fqme,
        account=account,
        size=abs(held),
        brokers=(mkt.broker,),
        order_type="market",
        reduce_only=True,
        client_ref=CLIENT_REF,
    )
