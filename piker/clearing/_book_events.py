"""
What can happen to an order, what `emsd` then has to do, and a broker's message read as an event.

Events carry `time_ns`: nothing here reads a clock. A `number` is that of the request an answer is
about (the entry is 1, amends count on); 0 means that the broker cannot say.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from piker.clearing._messages import (
    BrokerdCancel,
    BrokerdError,
    BrokerdFill,
    BrokerdOrder,
    BrokerdOrderAck,
    BrokerdPosition,
    BrokerdStatus,
    BrokerMsg,
    Order,
    Reqid,
    Requested,
    Side,
    Status,
)


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="event"):
    """Base of all that happens to an order."""

    time_ns: int


# ---- from a client, the risk gate and the trigger book


class Submit(Event, frozen=True, kw_only=True, tag="submit"):
    """The entry has passed every check; `last` is the market's last trade at that moment."""

    last: Decimal | None = None


class Amend(Event, frozen=True, kw_only=True, tag="amend"):
    """
    A client asks for new values; `order.revision` is what it saw.

    `last` is the market's last trade: a trigger that is moved gets its side from it.
    """

    order: Order
    last: Decimal | None = None


class CancelAsked(Event, frozen=True, kw_only=True, tag="cancel_asked"):
    """A client asks to cancel, or for the `reason` given, a rule of ours."""

    reason: str = ""


class Triggered(Event, frozen=True, kw_only=True, tag="triggered"):
    """
    The trigger of a held order is true.

    `price` is the price to send (None: as the order says), `gapped` that the trigger was crossed
    while nobody watched, `cause_ns` the market time of what crossed it. With `hold` it is not sent
    before `Released`.
    """

    price: Decimal | None = None
    gapped: bool = False
    cause_ns: int = 0
    hold: bool = False


class Released(Event, frozen=True, tag="released"):
    """What a fired order was held back for has ended: send it."""


class Resized(Event, frozen=True, kw_only=True, tag="resized"):
    """The leg of a bracket covers another size, since its entry or the other leg has filled."""

    size: Decimal


class Trailed(Event, frozen=True, kw_only=True, tag="trailed"):
    """The best price since a trailing order was entered has moved."""

    best: Decimal


# ---- from the way to the broker


class Left(Event, frozen=True, kw_only=True, tag="left"):
    """The request has left for the broker: from now on it may have arrived."""

    number: int


class NeverSent(Event, frozen=True, kw_only=True, tag="never_sent"):
    """Proof that the request never left."""

    number: int
    reason: str = "never sent"


class TimedOut(Event, frozen=True, kw_only=True, tag="timed_out"):
    """No answer to the newest request, or to a cancel, before its deadline."""


# ---- from the broker


class Acked(Event, frozen=True, kw_only=True, tag="acked"):
    """The broker has taken a request."""

    reqid: Reqid = None
    number: int = 0


class Opened(Event, frozen=True, kw_only=True, tag="opened"):
    """The order rests at the venue, with the values of request `number`."""

    reqid: Reqid = None
    number: int = 0


class Adopted(Event, frozen=True, kw_only=True, tag="adopted"):
    """An order that somebody else placed rests at the venue."""

    reqid: Reqid


class Filled(Event, frozen=True, kw_only=True, tag="filled"):
    """One execution."""

    fill: BrokerdFill


class Closed(Event, frozen=True, kw_only=True, tag="closed"):
    """The venue says: fully filled."""

    reason: str = ""
    number: int = 0


class Canceled(Event, frozen=True, kw_only=True, tag="canceled"):
    """The venue says: canceled or expired, what was filled stays."""

    reason: str = ""
    number: int = 0


class Refused(Event, frozen=True, kw_only=True, tag="refused"):
    """A request was refused; `request` is empty when nobody said which."""

    reason: str
    request: Requested = ""
    number: int = 0


class Found(Event, frozen=True, kw_only=True, tag="found"):
    """Proof: the order rests at the venue with the values of request `number`."""

    number: int
    reqid: Reqid = None


class Absent(Event, frozen=True, tag="absent"):
    """Proof: twice after the deadline in no open order, closed order or fill of the venue."""


class Unrecognised(Event, frozen=True, kw_only=True, tag="unrecognised"):
    """The broker said something that has no meaning here."""

    text: str


# ---- what `emsd` has to do, in this order


class Output(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="do"):
    """Base of what a step asks for."""


class Send(Output, frozen=True, kw_only=True, tag="send"):
    """Journal, then send an order or an amend to the broker."""

    order: BrokerdOrder


class SendCancel(Output, frozen=True, kw_only=True, tag="send_cancel"):
    """Send a cancel; a slow journal does not hold it back."""

    cancel: BrokerdCancel


class Withdraw(Output, frozen=True, kw_only=True, tag="withdraw"):
    """Drop request `number`, which has not left, from the queue."""

    oid: str
    number: int


class Arm(Output, frozen=True, kw_only=True, tag="arm"):
    """
    Hold the order in the trigger book, in place of an older version of it.

    `side` says on which side of the trigger it fires; `best` is that of a trail, None before the
    first price.
    """

    order: Order
    side: Side
    best: Decimal | None = None


class Disarm(Output, frozen=True, kw_only=True, tag="disarm"):
    """Take the order out of the trigger book."""

    oid: str


class Book(Output, frozen=True, kw_only=True, tag="book"):
    """Enter the fill in the ledger."""

    oid: str
    fill: BrokerdFill


class Tell(Output, frozen=True, kw_only=True, tag="tell"):
    """Tell every client of the market."""

    status: Status


class Hold(Output, frozen=True, kw_only=True, tag="hold"):
    """Tell every client of every market what an account holds."""

    position: BrokerdPosition


class Note(Output, frozen=True, kw_only=True, tag="note"):
    """Write a line to the log."""

    oid: str
    text: str
    level: Literal["debug", "warning"] = "warning"


def read_broker(message: BrokerMsg, time_ns: int) -> Event:
    """Return what a broker's message means for its order; what means nothing is `Unrecognised`."""
    match message:
        case BrokerdOrderAck(reqid=reqid, number=number):
            return Acked(time_ns=time_ns, reqid=reqid, number=number)
        case BrokerdFill():
            return Filled(time_ns=time_ns, fill=message)
        case BrokerdError(reason=reason, request=request, number=number):
            return Refused(time_ns=time_ns, reason=reason, request=request, number=number)
        case BrokerdStatus():
            return _read_status(message, time_ns)
        case _:
            return Unrecognised(time_ns=time_ns, text=f"a {type(message).__name__}")


def _read_status(message: BrokerdStatus, time_ns: int) -> Event:
    """Return what the venue's state of an order means."""
    reqid, number, reason = message.reqid, message.number, message.reason
    match message.status:
        case "pending":
            return Acked(time_ns=time_ns, reqid=reqid, number=number)
        case "open":
            return Opened(time_ns=time_ns, reqid=reqid, number=number)
        case "closed":
            return Closed(time_ns=time_ns, reason=reason, number=number)
        case "canceled":
            return Canceled(time_ns=time_ns, reason=reason, number=number)
        case other:
            return Unrecognised(time_ns=time_ns, text=f"status {other[:40]!r}")
