"""
A desk for the page's order mode: answers each request as the chart actor would, at once.

What a test wants to be different it takes out of `answers`, or says itself with `say`.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from stage import FQME, NOW, Stage

from piker.ui import order_messages as om

CHAN = 1
ALLOC = om.AllocState(
    CHAN, "paper", "paper", [om.Account("paper", "paper", "0")], "currency", "6000", 6, "0.01632",
    "1000", "0.0", "BTC", "USDT",
)  # fmt: skip


class Desk:
    """The order side of one market, as far as a page can tell."""

    def __init__(self, stage: Stage, state: Any = "ready", **prefs: Any) -> None:
        self.stage = stage
        self.rows: dict[str, om.OrderState] = {}
        self.asked: list[Any] = []
        self.is_mute = False
        self.needs_confirm = False
        stage.prefs |= {"confirm": "live", "order_labels": "hover", "notify": {}} | prefs
        stage.desk = self.take
        self.state = state

    def open(self) -> None:
        """Load the page and turn its orders on."""
        self.stage.open()
        self.stage.say(om.DeskState(CHAN, self.state))
        if self.state == "ready":
            self.stage.say(ALLOC)
            self.stage.say(om.Orders(CHAN, "paper", []))

    def of(self, kind: type) -> list[Any]:
        """Return the requests of one kind that the page has made."""
        return [request for request in self.asked if isinstance(request, kind)]

    def take(self, request: Any) -> None:
        if not isinstance(request, om.OrderRequest):
            return
        self.asked.append(request)
        if not self.is_mute:
            self.answer(request)

    def answer(self, request: Any) -> None:
        match request:
            case om.SizeAsked(id_, chan, side, price, steps):
                size = f"{0.01632 * steps:.5f}"
                fiat, share = f"{1000 * steps}", f"{steps}.0"
                self.stage.say(
                    om.Sized(id_, chan, side, price, steps, size, fiat, share, self.needs_confirm)
                )
            case om.OrderAsked():
                self.put(row_of(request), request.id)
            case om.AmendAsked(id_, _, oid, _, price):
                row = self.rows[oid]
                self.put(replace(row, state="amend_in_flight", asked_price=price), id_)
            case om.CancelAsked(id_, _, oid):
                self.put(replace(self.rows[oid], state="cancel_in_flight"), id_)
            case om.CancelAll(id_, chan):
                self.stage.say(om.Count(id_, chan, len(self.rows)))
            case om.AllocAsked(id_):
                changed = {
                    key: value
                    for key in ("account", "unit", "limit", "slots")
                    if (value := getattr(request, key)) is not None
                }
                self.stage.say(replace(ALLOC, id=id_, **changed))

    def put(self, row: om.OrderState, request_id: int = 0) -> None:
        """Say a row, and remember it while it is working."""
        self.rows[row.oid] = row
        if row.gone:
            del self.rows[row.oid]
        self.stage.say(replace(row, id=request_id))

    def say(self, oid: str, **fields: Any) -> None:
        """Say a change of an order."""
        self.put(replace(self.rows[oid], **fields))

    def working(self, price: float, action: str = "buy", oid: str = "", **fields: Any) -> str:
        """Put an open order on the chart and return its oid."""
        oid = oid or f"{len(self.rows) + 1:032x}"
        base = {"exec_mode": "live", "state": "open", "size": "0.01632", "revision": 1}
        base |= {"account": "paper", "mode": "paper", "client_ref": "chart", "entered": NOW}
        self.put(om.OrderState(CHAN, oid, action, price=f"{price:.1f}", **{**base, **fields}))
        self.stage.until(f"piker.debug.facts().lines.some(l => l.oid === '{oid}')")
        return oid

    # ---- hands

    def y_of(self, price: float) -> float:
        """Return the window row of a price."""
        facts = self.stage.facts()
        row = self.stage.js("([t, p]) => piker.debug.xy(t, p).y", [facts["last"]["t"], price])
        return float(row + 40)

    def hover(self, price: float, x: float = 500) -> None:
        self.stage.page.mouse.move(x, self.y_of(price))
        self.stage.facts()

    def hold(self, *keys: str) -> None:
        for key in keys:
            self.stage.page.keyboard.down(key)

    def let_go(self, *keys: str) -> None:
        for key in keys:
            self.stage.page.keyboard.up(key)

    def price(self, offset: float) -> float:
        """Return a price of the plot, `offset` from the last one."""
        return round(float(self.stage.facts()["price"]) + offset, 1)

    def line(self, oid: str, kind: str = "order") -> dict[str, Any]:
        """Return what the page says of a line."""
        lines = self.stage.facts()["lines"]
        return next(line for line in lines if line["oid"] == oid and line["kind"] == kind)

    def last_message(self) -> str:
        return str(self.stage.facts()["messages"][-1])


def row_of(asked: om.OrderAsked) -> om.OrderState:
    """Return the row of an order that was handed to the EMS."""
    return om.OrderState(
        asked.chan, asked.oid, asked.action, asked.exec_mode, "paper", "paper", "sent",
        price=asked.price, size=asked.size, client_ref="chart", entered=NOW, t=NOW,
        take_profit=asked.take_profit, stop_loss=asked.stop_loss,
    )  # fmt: skip


def fill_of(oid: str, price: float, action: str = "buy", t: float = NOW, **fields: Any) -> om.Fill:
    """Return an execution on paper."""
    base = {
        "size": "0.00500",
        "account": "paper",
        "mode": "paper",
        "fee": "0.3",
        "fee_asset": "USDT",
    }
    return om.Fill(
        CHAN, oid, f"{oid[:6]}-{t}-{price}", t, price=f"{price:.1f}", action=action, **base | fields
    )


def position_of(size: str, avg: float, **fields: Any) -> om.PositionState:
    """Return a position on paper."""
    base = {"realised": "12.4", "fees": "1.96", "slots": "2.0", "quote": "USDT"}
    return om.PositionState(CHAN, "paper", "paper", size, f"{avg:.1f}", **base | fields)


__all__ = ["ALLOC", "CHAN", "FQME", "Desk", "fill_of", "position_of", "row_of"]
