"""All that is known of one order: its states, and the record that a journal's snapshot holds."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from piker.clearing._messages import BrokerdFill, Mode, Order, Reqid, Resp, Side

State = Literal[
    "new", "dark_open", "pending", "triggered", "open", "partially_filled",
    "amend_in_flight", "cancel_in_flight", "unknown", "closed", "canceled", "error",
]  # fmt: skip
STATES: tuple[State, ...] = (
    "new", "dark_open", "pending", "triggered", "open", "partially_filled",
    "amend_in_flight", "cancel_in_flight", "unknown", "closed", "canceled", "error",
)  # fmt: skip
TERMINAL: tuple[State, ...] = ("closed", "canceled", "error")


class Change(msgspec.Struct, frozen=True, gc=False):
    """An amend that was accepted and is not yet in force."""

    number: int
    order: Order


class Dialog(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """
    All that is known of one order; a journal's snapshot holds it as it is.

    `order` is what is in force, made by request `revision`; `in_flight` was sent and not
    answered, `queued` waits behind it. `has_left` is about the newest request sent. Of a held order
    `trigger_side` and `best` (of a trail) say when it fires.
    """

    oid: str
    order: Order
    broker: str
    mode: Mode = "paper"
    state: State = "new"
    revision: int = 1
    last_number: int = 1
    in_flight: Change | None = None
    queued: Change | None = None
    reqid: Reqid = None
    has_left: bool = False
    is_open: bool = False  # the venue has said so, or filled some of it
    trigger_side: Side | None = None
    best: Decimal | None = None
    is_fired: bool = False  # a held order whose trigger was true
    is_held_back: bool = False  # fired, and not sent before the other leg of its bracket has ended
    cancel_called: bool = False
    gapped: bool = False
    filled: Decimal = Decimal(0)
    fills: tuple[BrokerdFill, ...] = ()
    sent_ns: int = 0  # when the entry was given to the broker
    ended_ns: int = 0
    told_ns: int = 0  # when clients last heard of it

    @property
    def is_terminal(self) -> bool:
        """Whether the dialog has had its terminal status."""
        return self.state in TERMINAL

    @property
    def is_armed(self) -> bool:
        """Whether a held order can fire: the leg of a bracket only when it covers something."""
        return bool(self.order.size) or self.order.is_alert

    @property
    def newest(self) -> int:
        """The number of the newest request accepted: what the next amend is based on."""
        newest = self.queued or self.in_flight
        return newest.number if newest else self.revision

    @property
    def asked(self) -> Order:
        """The order as it will be when all that was accepted is in force."""
        newest = self.queued or self.in_flight
        return newest.order if newest else self.order

    @property
    def sent_number(self) -> int:
        """The number of the newest request that was given to the broker."""
        return self.in_flight.number if self.in_flight else self.revision

    @property
    def resp(self) -> Resp:
        """The state in the words of a `Status`."""
        match self.state:
            case "dark_open" | "triggered" | "closed" | "canceled" | "error":
                return self.state
            case "open" | "partially_filled":
                return "open"
        if self.in_flight or not self.is_open:
            return "triggered" if self.is_fired and not self.is_open else "pending"
        return "open"


def new_dialog(order: Order, broker: str, mode: Mode = "paper") -> Dialog:
    """Return the dialog of an entry before anything has happened to it."""
    return Dialog(oid=order.oid, order=order, broker=broker, mode=mode)
