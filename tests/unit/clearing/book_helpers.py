"""Orders, dialogs and a naive venue for the tests of the order life cycle."""

from __future__ import annotations

import random
from collections import deque
from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from piker.clearing import _book_events as on
from piker.clearing._book import step
from piker.clearing._dialog import Dialog, new_dialog
from piker.clearing._messages import BrokerdFill, BrokerdOrder, Order, Status

OID = "8f" * 16


def order(**changes: Any) -> Order:
    fields: dict[str, Any] = {
        "action": "buy",
        "exec_mode": "live",
        "oid": OID,
        "symbol": "btcusdt.spot.binance",
        "account": "paper",
        "price": Decimal(100),
        "size": Decimal(10),
        "client_ref": "bot",
    }
    return Order(**{**fields, **changes})


def fill(tid: str, size: Any = 1, **changes: Any) -> on.Filled:
    made = BrokerdFill(
        time_ns=1, broker_time=1.0, reqid=7, size=Decimal(size), price=Decimal(100), tid=tid
    )
    return on.Filled(time_ns=1, fill=replace(made, **changes) if changes else made)


def amend(revision: int | None, price: int = 101, **changes: Any) -> on.Amend:
    return on.Amend(time_ns=1, order=order(revision=revision, price=Decimal(price), **changes))


class Run:
    """A dialog with everything that its steps asked for."""

    def __init__(self, first: Order | None = None, *events: on.Event) -> None:
        self.dialog: Dialog = new_dialog(first or order(), "binance")
        self.outputs: list[on.Output] = []
        self.last: tuple[on.Output, ...] = ()
        for event in events:
            self.step(event)

    def step(self, event: on.Event) -> tuple[on.Output, ...]:
        self.dialog, self.last = step(self.dialog, event)
        self.outputs += self.last
        return self.last

    def told(self) -> list[Status]:
        return [output.status for output in self.outputs if isinstance(output, on.Tell)]

    def last_told(self) -> Status:
        return next(one.status for one in reversed(self.last) if isinstance(one, on.Tell))

    def sent(self) -> list[BrokerdOrder]:
        return [output.order for output in self.outputs if isinstance(output, on.Send)]

    def cancels(self) -> int:
        return sum(isinstance(output, on.SendCancel) for output in self.outputs)


class Venue:
    """
    The truth, kept naively: one order, requests executed in turn, answers that may get lost.

    What it says of fills and ends is never lost: a broker's reconcile would bring it.
    """

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.status = "none"
        self.number = 0
        self.price = self.size = self.filled = Decimal(0)
        self.inbox: deque[on.Output] = deque()
        self.answers: deque[on.Event] = deque()
        self.trades = 0

    def say(self, event: on.Event, *, may_be_lost: bool = True) -> None:
        if not may_be_lost or self.draw.random() > 0.15:
            self.answers.append(event)

    def take_one(self) -> None:
        """Execute the oldest request; some never arrive."""
        if not self.inbox:
            return
        asked = self.inbox.popleft()
        if self.draw.random() < 0.1:
            return
        match asked:
            case on.Send(order=sent) if self.status == "none":
                self.enter(sent)
            case on.Send(order=sent):
                self.amend(sent)
            case on.SendCancel():
                if self.status == "open":
                    self.status = "canceled"
                    self.say(on.Canceled(time_ns=1), may_be_lost=False)
                else:
                    self.say(on.Refused(time_ns=1, request="cancel", reason="unknown order"))

    def enter(self, sent: BrokerdOrder) -> None:
        self.number, self.price, self.size = sent.number, sent.price, sent.size
        if self.draw.random() < 0.1:
            self.status = "error"
            self.say(on.Refused(time_ns=1, request="entry", reason="no"), may_be_lost=False)
            return
        self.status = "open"
        self.say(on.Acked(time_ns=1, reqid=7, number=sent.number))
        self.say(on.Opened(time_ns=1, reqid=7, number=sent.number))

    def amend(self, sent: BrokerdOrder) -> None:
        if self.status != "open" or sent.size <= self.filled or self.draw.random() < 0.2:
            self.say(on.Refused(time_ns=1, request="amend", number=sent.number, reason="no"))
            return
        self.number, self.price, self.size = sent.number, sent.price, sent.size
        self.say(on.Opened(time_ns=1, reqid=7, number=sent.number))

    def trade(self) -> None:
        """Fill some of the order."""
        if self.status != "open":
            return
        size = min(Decimal(self.draw.randrange(1, 5)), self.size - self.filled)
        self.trades += 1
        self.filled += size
        self.say(fill(f"t{self.trades}", size), may_be_lost=False)
        if self.filled == self.size:
            self.status = "closed"
            self.say(on.Closed(time_ns=1), may_be_lost=False)

    def look_up(self) -> on.Event:
        """Return what a search by client id proves, once nothing is on its way any more."""
        if self.status == "open":
            return on.Found(time_ns=1, number=self.number, reqid=7)
        return on.Absent(time_ns=1)
