"""
The orders of one market as lines of the page: folded from what the EMS says, nothing of their own.

Pure. Of each order the newest status counts; beside it stand the values that are in force while
an amend is under way, and what its fills add up to. An order that was handed to the EMS and has
no word yet is a line in state `sent`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from piker import clock
from piker.clearing import BrokerdFill, Order, Status
from piker.model.market import plain_text
from piker.ui.order_messages import Fill, Mode, OrderState

ROWS_MAX: Final = 100  # of one `orders` or `fills` message: some 50 kB
_UNDER_WAY: Final = ("pending", "triggered", "amend_in_flight", "cancel_in_flight", "unknown")
_ENDED: Final = ("closed", "canceled", "error")


def text_of(number: Decimal | None) -> str:
    """Return an amount as the page reads it: no exponent, no trailing zeros, '' for none."""
    return "" if number is None else plain_text(number)


def price_text(price: Decimal | None) -> str:
    """Return a price as it was sent; '' for none, which a market order has."""
    return format(price, "f") if price else ""


class Line(msgspec.Struct):
    """One order: its newest status, the order in force, and the sum of its fills."""

    status: Status
    in_force: Order
    revision: int  # of what is in force
    entered_ns: int
    state: str
    tids: set[str] = set()
    filled: Decimal = Decimal(0)
    cost: Decimal = Decimal(0)

    @property
    def is_working(self) -> bool:
        """Whether it may still do something."""
        return self.state not in _ENDED

    @property
    def stands_at_trigger(self) -> bool:
        """Whether the line stands at the trigger: what waits for it has not fired."""
        if self.in_force.trigger_price is None:
            return False
        return self.in_force.exec_mode != "dark" or self.state in ("sent", "dark_open")

    def place(self, order: Order) -> Decimal | None:
        """Return where the line of `order`, a version of this one, stands."""
        return order.trigger_price if self.stands_at_trigger else order.price

    @property
    def asked(self) -> Order:
        """The order as it was last asked to be."""
        return self.status.req or self.in_force


class Lines:
    """The orders of one market in one mode, by oid; ended ones are forgotten at once."""

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self._lines: dict[str, Line] = {}

    def __iter__(self) -> Any:
        return iter(self._lines.values())

    def __len__(self) -> int:
        return len(self._lines)

    def get(self, oid: str) -> Line | None:
        """Return the line of an order that goes on; None when there is none."""
        return self._lines.get(oid)

    def working(self, account: str = "") -> list[Line]:
        """Return the lines that may still do something, of one account or of all."""
        lines = [line for line in self._lines.values() if line.is_working]
        return [line for line in lines if not account or line.asked.account == account]

    # ---- what happens

    def enter(self, order: Order) -> OrderState:
        """Take an order that is being handed to the EMS."""
        now_ns = clock.now_ns()
        status = Status(
            time_ns=now_ns, oid=order.oid, resp="pending", req=order, account=order.account,
            mode=self.mode, client_ref=order.client_ref, state="sent",
        )  # fmt: skip
        line = self._lines[order.oid] = Line(status, order, 1, now_ns, "sent")
        return self.row(line)

    def drop(self, oid: str, reason: str) -> OrderState | None:
        """Return the last word of an order that the EMS never got; None when it has a word."""
        line = self._lines.get(oid)
        if line is None or line.state != "sent":
            return None
        del self._lines[oid]
        line.state = "error"
        return self.row(line, refused="entry", reason=reason)

    def take(self, status: Status) -> tuple[OrderState | None, Fill | None]:
        """Return the row and the fill, if any, that a status amounts to."""
        line = self._lines.get(status.oid)
        if line is None:
            return self._take_first(status)
        fill = self._take_fill(line, status)
        if status.state == "error" and status.req is None:  # refused before it had a dialog
            status = msgspec.structs.replace(status, req=line.in_force)
        line.status = status
        line.state = _state_of(status)
        is_changing = line.state in _UNDER_WAY and status.revision > line.revision
        if status.req is not None and not (is_changing and not status.refused):
            line.in_force, line.revision = status.req, status.revision
        if _is_over(status):
            del self._lines[status.oid]
        row = self.row(line, refused=_refused(status), reason=status.reason)
        if status.refused:  # said once; the order is what it was
            line.status = msgspec.structs.replace(status, refused="", reason="")
        return row, fill

    def _take_first(self, status: Status) -> tuple[OrderState | None, Fill | None]:
        """Take the status of an order that is not known: another client's, or one that ended."""
        fill = fill_in(status)
        if status.req is None or (_is_over(status) and not status.reason):
            return None, fill_row(fill, status) if fill else None
        line = Line(status, status.req, status.revision, status.time_ns, _state_of(status))
        if fill:
            add_fill(line, fill)
        if not _is_over(status):
            self._lines[status.oid] = line
        row = self.row(line, refused=_refused(status), reason=status.reason)
        return row, fill_row(fill, status) if fill else None

    def _take_fill(self, line: Line, status: Status) -> Fill | None:
        fill = fill_in(status)
        return fill_row(fill, status) if fill and add_fill(line, fill) else None

    def reset(
        self, dialogs: Iterable[Status], fills: Mapping[str, Iterable[BrokerdFill]]
    ) -> list[OrderState]:
        """
        Take all open orders anew, and return their rows, oldest first.

        An order handed over that has no word yet stays: its word is still to come.
        """
        known = self._lines
        self._lines = {oid: line for oid, line in known.items() if line.state == "sent"}
        for status in dialogs:
            if status.req is None or _is_over(status):
                continue
            line = _line_of(status, status.req)
            if before := known.get(status.oid):
                line.entered_ns = before.entered_ns
                is_told = "in_force" in status.brokerd_msg or line.state not in _UNDER_WAY
                if not is_told and status.revision > before.revision:
                    line.in_force, line.revision = before.in_force, before.revision
            for fill in fills.get(status.oid, ()):
                add_fill(line, fill)
            self._lines[status.oid] = line
        return self.rows()

    # ---- what is said

    def rows(self) -> list[OrderState]:
        """Return every line, oldest first."""
        return [self.row(line) for line in sorted(self._lines.values(), key=_age)]

    def row(self, line: Line, *, refused: str = "", reason: str = "") -> OrderState:
        """Return a line as the page reads it."""
        status, order, asked = line.status, line.in_force, line.asked
        is_amended = line.revision != status.revision and asked is not order
        size, asked_size = text_of(order.size), text_of(asked.size)
        asked_price = price_text(line.place(asked))
        is_moved = asked_price != price_text(line.place(order))
        return OrderState(
            chan=0,
            oid=status.oid,
            action=order.action,
            exec_mode=order.exec_mode,
            account=order.account,
            mode=self.mode,
            state=line.state,
            resp=status.resp,
            gone=line.state in _ENDED or _is_over(status),
            revision=status.revision,
            price=price_text(order.price),
            size=size if not order.is_alert else "",
            asked_price=asked_price if is_amended and is_moved else "",
            asked_size=asked_size if is_amended and asked_size != size else "",
            filled=text_of(line.filled),
            avg=_average(line, order),
            order_type=order.order_type,
            tif=order.time_in_force,
            post_only=order.post_only,
            reduce_only=order.reduce_only,
            trigger_price=price_text(order.trigger_price),
            trail=order.trail,
            take_profit=price_text(order.take_profit),
            stop_loss=price_text(order.stop_loss),
            parent=order.parent,
            fires=_fires(status),
            src=status.src or "",
            client_ref=order.client_ref,
            gapped=status.gapped,
            refused=refused,
            reason=reason or status.reason,
            t=status.time_ns / clock.NS,
            entered=line.entered_ns / clock.NS,
        )


def _line_of(status: Status, req: Order) -> Line:
    """Return the line of an order that goes on, as a handshake tells it: both of its versions."""
    said = status.brokerd_msg
    entered_ns = int(said.get("entered_ns") or status.time_ns)
    line = Line(status, req, status.revision, entered_ns, _state_of(status))
    in_force = said.get("in_force")
    if in_force and line.state in _UNDER_WAY:
        amounts = {name: Decimal(in_force[name]) for name in ("price", "size")}
        if amounts != {"price": req.price, "size": req.size}:
            line.in_force, line.revision = msgspec.structs.replace(req, **amounts), 0
    return line


def add_fill(line: Line, fill: BrokerdFill) -> bool:
    """Count a fill of the line's order; False when it was counted before."""
    if fill.tid in line.tids:
        return False
    line.tids.add(fill.tid)
    line.filled += fill.size
    line.cost += fill.size * fill.price
    return True


def fill_row(fill: BrokerdFill, status: Status) -> Fill:
    """Return an execution as the page reads it."""
    return Fill(
        chan=0,
        oid=status.oid,
        tid=fill.tid,
        t=fill.broker_time,
        price=format(fill.price, "f"),
        size=text_of(fill.size),
        action=fill.action or (status.req.action if status.req else ""),
        account=fill.account or status.account,
        mode=status.mode,
        fee=text_of(fill.fee),
        fee_asset=fill.fee_asset,
        is_maker=fill.is_maker,
        late=fill.late,
    )


def fill_in(status: Status) -> BrokerdFill | None:
    """Return the execution that a status tells of; None when it tells of none we can read."""
    if status.resp != "fill":
        return None
    try:
        return msgspec.convert(status.brokerd_msg, BrokerdFill)
    except (msgspec.ValidationError, ValueError):
        return None


def _state_of(status: Status) -> str:
    return status.state or status.resp


def _refused(status: Status) -> str:
    return status.refused or ("entry" if status.resp == "error" else "")


def _is_over(status: Status) -> bool:
    """
    Whether the line goes: an alert that fired has said all, though its `closed` is to come.

    A late fill says so too, since its order has ended.
    """
    has_fired = status.resp == "triggered" and status.req is not None and status.req.is_alert
    return status.is_terminal or has_fired or _state_of(status) in _ENDED


def _age(line: Line) -> tuple[int, str]:
    return line.entered_ns, line.status.oid


def _average(line: Line, order: Order) -> str:
    if not line.filled:
        return ""
    digits = max(0, -int(order.price.as_tuple().exponent)) if order.price else 8
    return text_of(round(line.cost / line.filled, digits + 2))


def _fires(status: Status) -> str:
    side = str(status.brokerd_msg.get("fires", ""))
    return {">=": "at or above", "<=": "at or below"}.get(side, "")
