"""
Orders and positions as rows of a table, and what the terminal has heard of one order.

Pure. Amounts stay the decimal strings that they are on the wire; a mark says PAPER or LIVE, and
LOCAL where the broker runs on a local venue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from piker.clearing import BrokerdFill, Order, Status
from piker.errors import OrderRejected
from piker.model.market import plain_text

OID_SHOWN = 8  # characters of an oid in a table; a prefix is taken wherever an oid is
OID_PREFIX_MIN = 4
NOTHING = (None, "", "0")

Row = dict[str, Any]
SHOWN = (
    "oid", "mode", "account", "fqme", "action", "type", "size", "price", "state", "filled",
    "average_price", "last", "unrealised", "currency", "worth", "refused", "reason",
)  # fmt: skip


class Heard:
    """What has been heard of one order: its newest status, its fills, and its two exits."""

    def __init__(self, order: Order | None = None) -> None:
        self.order = order
        self.status: Status | None = None
        self.exits: dict[str, Status] = {}
        self.filled = Decimal(0)
        self.paid = Decimal(0)
        self.fees: dict[str, Decimal] = {}
        self._tids: set[str] = set()

    @property
    def has_ended(self) -> bool:
        """Whether its terminal status has come."""
        return self.status is not None and self.status.is_terminal

    @property
    def has_word(self) -> bool:
        """Whether something is known of it beyond that it was sent."""
        return self.status is not None and self.status.resp != "pending"

    def is_about(self, status: Status) -> bool:
        """Whether a status is about this order; one of an exit of it is kept by the way."""
        assert self.order is not None
        if status.req is not None and status.req.parent == self.order.oid:
            self.exits[status.oid] = status
        return status.oid == self.order.oid

    def take(self, status: Status) -> None:
        """Count a status in; a fill is counted once however often it is told."""
        if status.resp == "fill":
            self.take_fill(status.brokerd_msg)
            if self.has_ended:
                return  # a late fill changes what was filled, not how the order ended
        self.status = status
        self.order = status.req or self.order

    def take_fill(self, told: Mapping[str, Any]) -> None:
        """Count one fill in."""
        fill = msgspec.convert({"msg": "fill", **told}, BrokerdFill)
        if fill.tid in self._tids:
            return
        self._tids.add(fill.tid)
        self.filled += fill.size
        self.paid += fill.size * fill.price
        if fill.fee:
            self.fees[fill.fee_asset] = self.fees.get(fill.fee_asset, Decimal(0)) + fill.fee

    def rows(self) -> list[Row]:
        """Return the order and its exits as rows."""
        return [self.row(), *map(order_row, self.exits.values())]

    def row(self) -> Row:
        """Return the order as a row."""
        assert self.order is not None
        row = order_row(self.status) if self.status and self.status.req else order_terms(self.order)
        if self.filled:
            row["filled"] = text(self.filled)
            row["average_price"] = text(self.paid / self.filled)
            row["fees"] = {asset: text(fee) for asset, fee in self.fees.items()}
        return row


def text(amount: Decimal | str | None) -> str | None:
    """Return an amount without an exponent and without needless zeros; None when there is none."""
    if amount in (None, ""):
        return None
    exact = Decimal(amount or 0)
    rounded = round(exact, 12)
    return plain_text(rounded if rounded == exact or rounded else exact)


def kind_of(order: Order) -> str:
    """Return in a word how an order acts: limit, market, stop, stop limit, trail, alert …"""
    if order.is_alert:
        return "alert"
    kind = order.order_type.replace("_", " ")
    if order.trail:
        kind = f"trail {order.trail}"
    elif order.order_type == "stop" and order.price:
        kind = "stop limit"
    return f"dark {kind}" if order.is_dark else kind


def order_terms(order: Order) -> Row:
    """Return what an order asks for as a row; what was not asked for is left out."""
    terms = {
        "trigger_price": text(order.trigger_price),
        "trail": order.trail,
        "take_profit": text(order.take_profit),
        "stop_loss": text(order.stop_loss),
        "parent": order.parent,
        "time_in_force": order.time_in_force,
        "expire_time_ns": order.expire_time_ns,
        "post_only": order.post_only,
        "reduce_only": order.reduce_only,
        "client_ref": order.client_ref,
    }
    return {
        "oid": order.oid,
        "fqme": order.symbol,
        "account": order.account,
        "mode": "paper" if order.account in ("", "paper") else "live",
        "action": order.action,
        "type": kind_of(order),
        "size": text(order.size) if order.size else None,
        "price": text(order.price or order.trigger_price),
        **{name: value for name, value in terms.items() if value},
    }


def order_row(status: Status) -> Row:
    """Return an order and how it stands as a row."""
    order, told = status.req, {} if status.resp == "fill" else status.brokerd_msg
    filled = Decimal(told.get("filled") or 0)
    row: Row = {"time_ns": status.time_ns, "oid": status.oid}
    if order is not None:
        row |= order_terms(order)
    row |= {
        "account": status.account or row.get("account", ""),
        "mode": status.mode,
        "resp": status.resp,
        "state": status.state or status.resp,
        "revision": status.revision,
        "filled": text(filled),
        "average_price": text(told.get("avg_price")) if filled else None,
    }
    extra = {
        "fires": told.get("fires", ""),
        "src": status.src,
        "gapped": status.gapped,
        "refused": status.refused,
        "reason": status.reason,
    }
    return row | {name: value for name, value in extra.items() if value}


def position_row(position: Mapping[str, Any], mode: str, quote: Mapping[str, Any] | None) -> Row:
    """Return a position as a row, with what it has won or lost at the last trade."""
    size, average = Decimal(position["size"]), Decimal(position["avg_price"])
    last = Decimal(str(quote["last"])) if quote and quote.get("last") is not None else None
    return {
        "fqme": position["symbol"],
        "account": position["account"],
        "mode": mode,
        "size": text(size),
        "average_price": text(average),
        "last": text(last),
        "unrealised": text(size * (last - average)) if last is not None else None,
        "currency": position.get("currency", ""),
    }


def shown(rows: list[Row], local: Mapping[str, str]) -> list[Row]:
    """Return rows as a table shows them: the columns that any of them has, short, with marks."""
    names = [name for name in SHOWN if any(row.get(name) not in NOTHING for row in rows)]
    if not any(row.get("mode") == "live" for row in rows):
        names = [name for name in names if name != "account"]  # PAPER says it
    return [{name: shown_cell(name, row, local) for name in names} for row in rows]


def shown_cell(name: str, row: Row, local: Mapping[str, str]) -> Any:
    """Return one value of a row for a table."""
    match name:
        case "filled" if row.get(name) in NOTHING:
            return ""
        case "oid":
            return row[name][:OID_SHOWN]
        case "mode":
            return mark_of(row, local)
        case "type" if row.get("fires"):
            return f"{row[name]} {row['fires']}"
    return row.get(name)


def mark_of(row: Row, local: Mapping[str, str]) -> str:
    """Return PAPER or LIVE, with LOCAL beside it for a broker on a local venue."""
    mark = str(row.get("mode", "paper")).upper()
    return f"{mark} LOCAL" if str(row.get("fqme", "")).rpartition(".")[2] in local else mark


def is_of(fqmes: Sequence[str], symbol: str) -> bool:
    """Whether a market is one of those asked for; a short address means all that it fits."""
    tokens = set(symbol.split("."))
    return not fqmes or any(tokens.issuperset(fqme.split(".")) for fqme in fqmes)


def find_oid(prefix: str, dialogs: list[Status]) -> Status:
    """
    Return the order whose oid begins with `prefix`.

    Raises:
      OrderRejected: none does, several do, or the prefix is too short.
    """
    wanted = prefix.lower()
    if len(wanted) < OID_PREFIX_MIN:
        raise OrderRejected(f"oid: was {prefix!r}, expected at least {OID_PREFIX_MIN} characters")
    found = [status for status in dialogs if status.oid.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(status.oid[:16] for status in found)
        raise OrderRejected(f"oid: was {prefix!r}, which begins several orders: {names}")
    raise OrderRejected(f"oid: no open order begins with {prefix!r}; see `piker orders`")
