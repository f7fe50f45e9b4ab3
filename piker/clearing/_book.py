"""
The life of an order: one transition table, used by live, paper, backtest and the tests.

`step(dialog, event)` returns the dialog after the event and what is to be done. It reads no clock,
does no I/O and never raises for what a venue or client says: an event without a row is a note in
the log. `TABLE` says which events a state knows and in which states each may end; `step` holds
every handler to it, and the page `docs/reference/order-states.md` is drawn from it.

The rules that the handlers keep:
- exactly one terminal status; a fill after it is booked and told with `late`;
- one request at a time changes the order: an amend before the answer to the one before waits in a
  queue of one, and a newer amend takes its place;
- an amend names the revision it is based on, which is the number of the newest request accepted;
  numbers are never used twice, so that a stale amend never matches by chance;
- a request of unknown outcome is not sent again and leaves `unknown` by proof only; a cancel may
  be repeated at any time.

Reading order: `Dialog` (in `_dialog`), `TABLE` at the end, `step`, then a handler for each event.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from piker.clearing import _book_events as on
from piker.clearing._dialog import TERMINAL, Change, Dialog, State
from piker.clearing._ids import client_order_id
from piker.clearing._messages import (
    BrokerdCancel,
    BrokerdOrder,
    Order,
    OrderType,
    Reqid,
    Requested,
    Status,
)
from piker.clearing._triggers import side_of, trigger_of

DEADLINE_NS = 3_000_000_000  # of an intent, in venue time: it is sent and taken before, or never

FIXED = ("action", "exec_mode", "symbol", "account", "order_type", "time_in_force",
         "post_only", "reduce_only", "parent")  # fmt: skip


Outputs = list[on.Output]
Handler = Callable[[Dialog, Any, Outputs], Dialog]


class Rule(msgspec.Struct, frozen=True):
    """What handles an event in a state, and the states in which it may leave the dialog."""

    act: Handler
    to: tuple[State, ...]


def step(dialog: Dialog, event: on.Event) -> tuple[Dialog, tuple[on.Output, ...]]:
    """Return the dialog after `event` and what is to be done, in order; never raises for input."""
    rule = TABLE.get((dialog.state, type(event)))
    number = getattr(event, "number", 0)
    if rule is None:
        detail = event.text if isinstance(event, on.Unrecognised) else type(event).__name__
        return dialog, (_note(dialog, f"nothing to do for {detail} in state {dialog.state}"),)
    if number and number != dialog.revision and number != dialog.sent_number:
        return dialog, (_note(dialog, f"{type(event).__name__} is about request {number}"),)
    outputs: Outputs = []
    after = rule.act(dialog, event, outputs)
    assert after.state in rule.to, f"{dialog.state} → {after.state} on {event} is not in the table"
    for output in reversed(outputs):
        if isinstance(output, on.Tell):
            return replace(after, told_ns=output.status.time_ns), tuple(outputs)
    return after, tuple(outputs)


def _note(dialog: Dialog, text: str, level: Literal["debug", "warning"] = "warning") -> on.Note:
    return on.Note(oid=dialog.oid, text=text, level=level)


def status_of(dialog: Dialog, time_ns: int) -> Status:
    """Return what the dialog is now, in a client's words."""
    is_held = dialog.state == "dark_open" or (dialog.state == "triggered" and not dialog.reqid)
    source = "paperboi" if dialog.mode == "paper" else dialog.broker
    fires = {"fires": dialog.trigger_side} if dialog.state == "dark_open" else {}
    return Status(
        time_ns=time_ns,
        oid=dialog.oid,
        resp=dialog.resp,
        reqid=dialog.reqid,
        req=dialog.asked,
        src="dark" if is_held else source,
        cancel_called=dialog.cancel_called,
        brokerd_msg=fires,
        account=dialog.order.account,
        mode=dialog.mode,
        revision=dialog.newest,
        gapped=dialog.gapped,
        client_ref=dialog.order.client_ref,
        state=dialog.state,
    )


def _tell(dialog: Dialog, event: on.Event, out: Outputs, **words: Any) -> None:
    """Tell clients what the dialog is now; with `refused`, that nothing has changed and why."""
    status = status_of(dialog, event.time_ns)
    out.append(on.Tell(status=replace(status, **words) if words else status))


# ---- what leaves for the broker


def _send(dialog: Dialog, event: on.Event, out: Outputs) -> None:
    """Ask for the request that is in flight, or for the entry."""
    out.append(on.Send(order=brokerd_order(dialog, event.time_ns, in_force=False)))


def _send_entry(dialog: Dialog, event: on.Event, out: Outputs) -> Dialog:
    """Ask for the entry, and keep when that was."""
    _send(dialog, event, out)
    return replace(dialog, sent_ns=event.time_ns)


def brokerd_order(dialog: Dialog, time_ns: int, *, in_force: bool) -> BrokerdOrder:
    """
    Return the order as a broker is asked for it at `time_ns`.

    With `in_force` that is what the broker has, else the request that was given to it last.
    """
    change = None if in_force else dialog.in_flight
    order = change.order if change else dialog.order
    number = change.number if change else dialog.revision
    order = _fired(order) if dialog.is_fired else order
    return BrokerdOrder(
        oid=dialog.oid,
        account=order.account,
        time_ns=time_ns,
        symbol=_without_broker(order.symbol, dialog.broker),
        price=order.price,
        size=order.size,
        action=order.action,
        reqid=dialog.reqid,
        number=number,
        client_id=client_order_id(order.account, dialog.oid, number),
        deadline_ns=time_ns + DEADLINE_NS,
        order_type=order.order_type,
        time_in_force=order.time_in_force,
        post_only=order.post_only,
        reduce_only=order.reduce_only,
        trigger_price=order.trigger_price,
        trail=order.trail,
        expire_time_ns=order.expire_time_ns,
        client_ref=order.client_ref,
        cause_ns=order.cause_ns,
    )


def _fired(order: Order) -> Order:
    """Return a held order as it leaves once its trigger was true: a plain limit or market order."""
    is_market = order.order_type == "market" or (order.order_type == "stop" and not order.price)
    kind: OrderType = "market" if is_market else "limit"
    price = Decimal(0) if is_market else order.price
    return replace(order, order_type=kind, price=price, trigger_price=None, trail="", parent="")


def _send_cancel(dialog: Dialog, event: on.Event, out: Outputs) -> None:
    """Ask to cancel the order under each client id that it may have at the venue."""
    numbers = [dialog.revision]
    if dialog.in_flight and dialog.has_left:
        numbers.append(dialog.in_flight.number)
    for number in numbers:
        cancel = BrokerdCancel(
            oid=dialog.oid,
            time_ns=event.time_ns,
            account=dialog.order.account,
            reqid=dialog.reqid,
            symbol=_without_broker(dialog.order.symbol, dialog.broker),
            client_id=client_order_id(dialog.order.account, dialog.oid, number),
        )
        out.append(on.SendCancel(cancel=cancel))


def _without_broker(fqme: str, broker: str) -> str:
    return fqme.removesuffix(f".{broker}")


# ---- the three ways on: a settled state, an end, a request dropped


def _settle(dialog: Dialog, event: on.Event, out: Outputs) -> Dialog:
    """Return the dialog in the state that its facts make, with the next queued amend sent."""
    if dialog.cancel_called:
        return replace(dialog, state="cancel_in_flight")
    if dialog.is_open and not dialog.in_flight and dialog.queued:
        if dialog.filled < dialog.queued.order.size:
            dialog = replace(dialog, in_flight=dialog.queued, queued=None, has_left=False)
            dialog = replace(dialog, state="amend_in_flight")
            _send(dialog, event, out)
            _tell(dialog, event, out)
            return dialog
        dialog = _drop_amends(dialog, event, out, f"size: filled are {dialog.filled:f} already")
    if dialog.in_flight:
        return replace(dialog, state="amend_in_flight")
    if dialog.is_open:
        return replace(dialog, state="partially_filled" if dialog.filled else "open")
    return replace(dialog, state="triggered" if dialog.is_fired else "pending")


def _end(dialog: Dialog, event: on.Event, out: Outputs, state: State, reason: str = "") -> Dialog:
    """Return the dialog ended, with its one terminal status as the last word."""
    if dialog.in_flight and not dialog.has_left:
        out.append(on.Withdraw(oid=dialog.oid, number=dialog.sent_number))
    dialog = _drop_amends(dialog, event, out, f"the order is {state}")
    dialog = replace(dialog, state=state, ended_ns=event.time_ns)
    _tell(dialog, event, out, reason=reason)
    return dialog


def _drop_amends(
    dialog: Dialog, event: on.Event, out: Outputs, reason: str, *, keep_sent: bool = False
) -> Dialog:
    """Return the dialog without its amends, each told as refused; `keep_sent`: only the queue."""
    if not (dialog.queued or dialog.in_flight or dialog.state == "amend_in_flight"):
        return dialog
    dropped = [dialog.queued, None if keep_sent else dialog.in_flight]
    left_in = dialog.in_flight if keep_sent else None
    settled = replace(dialog, in_flight=left_in, queued=None)
    if settled.is_open and settled.state == "amend_in_flight" and not left_in:
        settled = replace(settled, state="partially_filled" if settled.filled else "open")
    for change in dropped:
        if change:
            _tell(settled, event, out, refused="amend", reason=reason)
    return settled


# ---- requests of clients


def _on_submit(dialog: Dialog, event: on.Submit, out: Outputs) -> Dialog:
    if dialog.order.is_dark:
        best = event.last if dialog.order.trail else None
        side = side_of(dialog.order, event.last)
        dialog = replace(dialog, state="dark_open", trigger_side=side, best=best)
        _arm(dialog, out)
    else:
        _send(dialog, event, out)
        dialog = replace(dialog, state="pending", sent_ns=event.time_ns)
    _tell(dialog, event, out)
    return dialog


def armed(dialog: Dialog) -> on.Arm:
    """Return what the trigger book has to hold of a dialog."""
    assert dialog.trigger_side, f"{dialog.oid} is held without a side"
    return on.Arm(order=dialog.order, side=dialog.trigger_side, best=dialog.best)


def _arm(dialog: Dialog, out: Outputs) -> None:
    """Ask for the order to be held; a leg that covers nothing yet is not."""
    out.append(armed(dialog) if dialog.is_armed else on.Disarm(oid=dialog.oid))


def _why_not(dialog: Dialog, order: Order) -> str:
    """Return why an amend cannot be, or '' when it can."""
    if dialog.is_terminal:
        return f"oid: the order is {dialog.state} already"
    if order.revision is None:
        return f"revision: was missing, expected {dialog.newest}; the oid is in use"
    if order.revision != dialog.newest:
        return f"revision: was {order.revision}, expected {dialog.newest}; read the order again"
    for field in FIXED:
        old, new = getattr(dialog.order, field), getattr(order, field)
        if old != new:
            return f"{field}: was {new}, expected {old}; an amend cannot change it"
    if dialog.cancel_called:
        return "oid: a cancel is in flight"
    if not (order.is_alert or order.parent) and order.size <= dialog.filled:
        return f"size: was {order.size:f}, expected above {dialog.filled:f}, which is filled"
    return ""


def _on_amend(dialog: Dialog, event: on.Amend, out: Outputs) -> Dialog:
    if reason := _why_not(dialog, event.order):
        _tell(dialog, event, out, refused="amend", reason=reason)
        return dialog
    number = dialog.last_number + 1
    owner = {"client_ref": dialog.order.client_ref, "brokers": dialog.order.brokers}
    order = replace(event.order, revision=None, **owner)
    dialog = replace(dialog, last_number=number)
    if dialog.state == "dark_open":
        if event.last is not None and trigger_of(order) != trigger_of(dialog.order):
            dialog = replace(dialog, trigger_side=side_of(order, event.last))
        dialog = replace(dialog, order=order, revision=number)
        _arm(dialog, out)
        _tell(dialog, event, out)
        return dialog
    dialog = replace(dialog, queued=Change(number, order))
    if dialog.state in {"open", "partially_filled"}:
        return _settle(dialog, event, out)
    _tell(dialog, event, out)
    return dialog


def _on_cancel_asked(dialog: Dialog, event: on.CancelAsked, out: Outputs) -> Dialog:
    if dialog.is_terminal:
        reason = f"oid: the order is {dialog.state} already"
        _tell(dialog, event, out, refused="cancel", reason=reason)
        return dialog
    is_repeat, dialog = dialog.cancel_called, replace(dialog, cancel_called=True)
    if dialog.state == "dark_open":
        out.append(on.Disarm(oid=dialog.oid))
        return _end(dialog, event, out, "canceled", event.reason)
    if dialog.state in {"pending", "triggered", "amend_in_flight"} and not dialog.has_left:
        out.append(on.Withdraw(oid=dialog.oid, number=dialog.sent_number))
        if not dialog.in_flight:
            return _end(dialog, event, out, "canceled", event.reason or "never sent")
        dialog = _drop_amends(dialog, event, out, "never sent: a cancel was asked for")
        dialog = replace(dialog, has_left=True)
    if not is_repeat:
        dialog = _drop_amends(dialog, event, out, "a cancel was asked for", keep_sent=True)
    _send_cancel(dialog, event, out)
    if dialog.state != "unknown":
        dialog = replace(dialog, state="cancel_in_flight")
    _tell(dialog, event, out, reason=event.reason)
    return dialog


def _on_triggered(dialog: Dialog, event: on.Triggered, out: Outputs) -> Dialog:
    dialog = replace(dialog, state="triggered", gapped=event.gapped, is_fired=True)
    out.append(on.Disarm(oid=dialog.oid))
    if dialog.order.is_alert:
        _tell(dialog, event, out)
        return _end(dialog, event, out, "closed")
    if event.price is not None:
        trigger = dialog.order.trigger_price or dialog.order.price or None
        order = replace(dialog.order, price=event.price, trigger_price=trigger)
        dialog = replace(dialog, order=order)
    if event.cause_ns:
        dialog = replace(dialog, order=replace(dialog.order, cause_ns=event.cause_ns))
    dialog = replace(dialog, is_held_back=event.hold)
    _tell(dialog, event, out)
    return dialog if event.hold else _send_entry(dialog, event, out)


def _on_released(dialog: Dialog, event: on.Released, out: Outputs) -> Dialog:
    if not dialog.is_held_back:
        out.append(_note(dialog, "was not held back"))
        return dialog
    return _send_entry(replace(dialog, is_held_back=False), event, out)


def _on_resized(dialog: Dialog, event: on.Resized, out: Outputs) -> Dialog:
    """Return a leg with another size; one that has left is amended, as by a client."""
    order = replace(dialog.asked, size=event.size)
    if dialog.state == "dark_open" or dialog.is_held_back:
        queued = Change(dialog.queued.number, order) if dialog.queued else None
        order = replace(dialog.order, size=event.size)
        dialog = replace(dialog, order=order, queued=queued)
        if dialog.state == "dark_open":
            _arm(dialog, out)
        _tell(dialog, event, out)
        return dialog
    number = dialog.last_number + 1
    dialog = replace(dialog, last_number=number, queued=Change(number, order))
    if dialog.state in {"open", "partially_filled"}:
        return _settle(dialog, event, out)
    return dialog


def _on_trailed(dialog: Dialog, event: on.Trailed, out: Outputs) -> Dialog:
    dialog = replace(dialog, best=event.best)
    _arm(dialog, out)
    return dialog


# ---- the way to the broker


def _on_left(dialog: Dialog, event: on.Left, out: Outputs) -> Dialog:
    return replace(dialog, has_left=True) if event.number == dialog.sent_number else dialog


def _on_never_sent(dialog: Dialog, event: on.NeverSent, out: Outputs) -> Dialog:
    if dialog.in_flight and event.number == dialog.in_flight.number:
        return _amend_failed(dialog, event, out, event.reason)
    if event.number == dialog.revision and not dialog.is_open and dialog.reqid is None:
        return _end(dialog, event, out, "canceled", event.reason)
    out.append(_note(dialog, f"request {event.number} is said to be unsent, which cannot be"))
    return dialog


def _on_timed_out(dialog: Dialog, event: on.TimedOut, out: Outputs) -> Dialog:
    is_acked = dialog.is_open or dialog.reqid is not None
    if not dialog.has_left:
        out.append(_note(dialog, "timed out before it left", "debug"))
        return dialog
    if dialog.cancel_called:
        _send_cancel(dialog, event, out)
    if dialog.state == "unknown" or (is_acked and not dialog.in_flight):
        return dialog
    dialog = replace(dialog, state="unknown")
    _tell(dialog, event, out, reason="no answer in time: asking the venue")
    return dialog


# ---- the broker's word


def _learn(dialog: Dialog, event: on.Event, reqid: Reqid, out: Outputs) -> Dialog:
    """Return the dialog with the broker's id of the order; a cancel that lacked it is repeated."""
    if reqid is None or reqid == dialog.reqid:
        return dialog
    if dialog.reqid is not None:
        out.append(_note(dialog, f"reqid was {dialog.reqid}, is {reqid}"))
    dialog = replace(
        dialog, reqid=reqid, has_left=True if not dialog.in_flight else dialog.has_left
    )
    if dialog.cancel_called:
        _send_cancel(dialog, event, out)
    return dialog


def _on_acked(dialog: Dialog, event: on.Acked, out: Outputs) -> Dialog:
    dialog = _learn(dialog, event, event.reqid, out)
    if dialog.state == "unknown" and not dialog.in_flight and dialog.reqid is not None:
        dialog = _settle(dialog, event, out)
        _tell(dialog, event, out)
    return dialog


def _on_opened(dialog: Dialog, event: on.Opened, out: Outputs) -> Dialog:
    change = dialog.in_flight
    # Without a number it is the amend's answer only when the amend has left and was awaited.
    is_of_another = event.number or not dialog.has_left or dialog.state == "unknown"
    if change and event.number != change.number and is_of_another:
        out.append(_note(dialog, "open says nothing of the amend in flight", "debug"))
        return dialog
    was_open, reqid = dialog.is_open and not dialog.in_flight, dialog.reqid
    dialog = _confirm(_learn(dialog, event, event.reqid, out), event, out)
    if was_open and dialog.reqid == reqid:
        out.append(_note(dialog, "open was said again", "debug"))
        return dialog
    return _go_on(dialog, event, out)


def _confirm(dialog: Dialog, event: on.Event, out: Outputs) -> Dialog:
    """Return the dialog open at the venue, with the amend in flight, if any, in force."""
    change = dialog.in_flight
    dialog = replace(dialog, is_open=True, has_left=True)
    if change is None:
        return dialog
    dialog = replace(dialog, order=change.order, revision=change.number, in_flight=None)
    if dialog.cancel_called:
        _send_cancel(dialog, event, out)
    return dialog


def _go_on(dialog: Dialog, event: on.Event, out: Outputs) -> Dialog:
    """Tell that the order rests, then send what waited for that."""
    queued = dialog.queued
    rests = _settle(replace(dialog, queued=None) if queued else dialog, event, out)
    _tell(rests, event, out)
    return _settle(replace(rests, queued=queued), event, out) if queued else rests


def _on_adopted(dialog: Dialog, event: on.Adopted, out: Outputs) -> Dialog:
    dialog = replace(dialog, reqid=event.reqid, is_open=True, has_left=True, state="open")
    _tell(dialog, event, out)
    return dialog


def _on_filled(dialog: Dialog, event: on.Filled, out: Outputs) -> Dialog:
    fill = event.fill
    if any(known.tid == fill.tid for known in dialog.fills):
        out.append(_note(dialog, f"fill {fill.tid} was said again", "debug"))
        return dialog
    owner = dialog.order.client_ref
    fill = replace(fill, late=dialog.is_terminal, client_ref=owner, oid=dialog.oid)
    filled = dialog.filled + fill.size
    if filled > dialog.asked.size and filled > dialog.order.size:
        out.append(_note(dialog, f"filled {filled} of {dialog.order.size}: more than was asked"))
    gapped = dialog.gapped or fill.broker_details.get("gapped") is True
    dialog = replace(dialog, filled=filled, fills=(*dialog.fills, fill), gapped=gapped)
    out.append(on.Book(oid=dialog.oid, fill=fill))
    if dialog.is_terminal:
        _tell(dialog, event, out, resp="fill", brokerd_msg=fill.to_dict())
        return dialog
    dialog = dialog if dialog.is_open else replace(dialog, is_open=True)
    dialog = _learn(dialog, event, fill.reqid, out)
    if not (dialog.in_flight or dialog.has_left):
        dialog = replace(dialog, has_left=True)
    if dialog.state != "unknown" or not dialog.in_flight:
        queued = dialog.queued
        dialog = _settle(replace(dialog, queued=None) if queued else dialog, event, out)
        dialog = replace(dialog, queued=queued) if queued else dialog
    _tell(dialog, event, out, resp="fill", brokerd_msg=fill.to_dict())
    if dialog.queued and dialog.state in {"open", "partially_filled"}:
        return _settle(dialog, event, out)
    return dialog


def _on_closed(dialog: Dialog, event: on.Closed, out: Outputs) -> Dialog:
    return _end(dialog, event, out, "closed", event.reason)


def _on_canceled(dialog: Dialog, event: on.Canceled, out: Outputs) -> Dialog:
    return _end(dialog, event, out, "canceled", event.reason)


def _refused_request(dialog: Dialog, event: on.Refused) -> Requested:
    """Return which request a refusal is about, or '' when that cannot be told."""
    if event.request:
        return event.request
    if dialog.in_flight and event.number == dialog.in_flight.number:
        return "amend"
    if dialog.cancel_called:
        return "cancel"
    if not dialog.is_open:
        return "entry"
    return "amend" if dialog.in_flight and dialog.has_left else ""


def _on_refused(dialog: Dialog, event: on.Refused, out: Outputs) -> Dialog:
    request = _refused_request(dialog, event)
    if request == "entry" and not dialog.is_open:
        if dialog.state == "dark_open":
            out.append(on.Disarm(oid=dialog.oid))
        return _end(dialog, event, out, "error", event.reason)
    if request == "amend" and dialog.in_flight:
        return _amend_failed(dialog, event, out, event.reason)
    if request == "cancel" and dialog.state == "cancel_in_flight":
        if not dialog.is_open and dialog.reqid is None:
            # An order that is still on its way is unknown to the venue: no answer to the cancel.
            out.append(_note(dialog, f"cancel before the ack: {event.reason}"))
            return dialog
        dialog = _settle(replace(dialog, cancel_called=False), event, out)
        _tell(dialog, event, out, refused="cancel", reason=event.reason)
        return dialog
    out.append(_note(dialog, f"refused without a request of ours: {event.reason}"))
    return dialog


def _amend_failed(dialog: Dialog, event: on.Event, out: Outputs, reason: str) -> Dialog:
    """Return the dialog as it was before its amend; one queued behind it falls with it."""
    dialog = _drop_amends(replace(dialog, has_left=True), event, out, reason)
    was_unknown = dialog.state == "unknown"
    dialog = _settle(dialog, event, out)
    if was_unknown:
        _tell(dialog, event, out)
    return dialog


def _on_found(dialog: Dialog, event: on.Found, out: Outputs) -> Dialog:
    dialog = _learn(dialog, event, event.reqid, out)
    if dialog.cancel_called:
        _send_cancel(dialog, event, out)
    if dialog.in_flight and event.number != dialog.in_flight.number:
        return _amend_failed(dialog, event, out, "the venue has not taken it")
    return _go_on(_confirm(dialog, event, out), event, out)


def _on_absent(dialog: Dialog, event: on.Absent, out: Outputs) -> Dialog:
    return _end(dialog, event, out, "canceled", "the venue does not have it")


# ---- the table

_RESTING: tuple[State, ...] = ("open", "partially_filled")
_UNSURE: tuple[State, ...] = ("pending", "triggered")
_WORKING: tuple[State, ...] = (
    *_UNSURE, *_RESTING, "amend_in_flight", "cancel_in_flight", "unknown",
)  # fmt: skip
_AT_VENUE: tuple[State, ...] = (*_RESTING, "amend_in_flight")


Line = tuple[tuple[State, ...], type[on.Event], Handler, tuple[State, ...]]
_SAME: tuple[State, ...] = ()

# States, event, handler, and where it may lead beside the state itself.
_LINES: tuple[Line, ...] = (
    (("new",), on.Submit, _on_submit, ("pending", "dark_open")),
    (("new",), on.Adopted, _on_adopted, ("open",)),
    (("new", "dark_open"), on.Refused, _on_refused, ("error",)),
    (("dark_open",), on.Amend, _on_amend, _SAME),
    (("dark_open",), on.CancelAsked, _on_cancel_asked, ("canceled",)),
    (("dark_open",), on.Triggered, _on_triggered, ("triggered", "closed")),
    (("dark_open",), on.Trailed, _on_trailed, _SAME),
    (("triggered",), on.Released, _on_released, _SAME),
    (("dark_open", "triggered", "amend_in_flight", "unknown"), on.Resized, _on_resized, _SAME),
    (_RESTING, on.Resized, _on_resized, ("amend_in_flight",)),
    ((*_UNSURE, "unknown", "amend_in_flight", "cancel_in_flight"), on.Amend, _on_amend, _SAME),
    (_RESTING, on.Amend, _on_amend, ("amend_in_flight",)),
    (TERMINAL, on.Amend, _on_amend, _SAME),
    (_UNSURE, on.CancelAsked, _on_cancel_asked, ("cancel_in_flight", "canceled")),
    (_AT_VENUE, on.CancelAsked, _on_cancel_asked, ("cancel_in_flight",)),
    (("cancel_in_flight", "unknown"), on.CancelAsked, _on_cancel_asked, _SAME),
    (TERMINAL, on.CancelAsked, _on_cancel_asked, _SAME),
    (_WORKING, on.Left, _on_left, _SAME),
    (_UNSURE, on.NeverSent, _on_never_sent, ("canceled",)),
    (("amend_in_flight",), on.NeverSent, _on_never_sent, _RESTING),
    (("cancel_in_flight",), on.NeverSent, _on_never_sent, ("canceled",)),
    (("unknown",), on.NeverSent, _on_never_sent,
     ("canceled", "cancel_in_flight", *_RESTING)),
    ((*_UNSURE, "amend_in_flight", "cancel_in_flight"), on.TimedOut, _on_timed_out,
     ("unknown",)),
    (("unknown",), on.TimedOut, _on_timed_out, _SAME),
    ((*_UNSURE, *_AT_VENUE, "cancel_in_flight"), on.Acked, _on_acked, _SAME),
    (("unknown",), on.Acked, _on_acked, (*_UNSURE, "cancel_in_flight")),
    (_UNSURE, on.Opened, _on_opened, ("open", "amend_in_flight")),
    (("unknown",), on.Opened, _on_opened,
     (*_RESTING, "amend_in_flight", "cancel_in_flight")),
    (_RESTING, on.Opened, _on_opened, _SAME),
    (("amend_in_flight",), on.Opened, _on_opened, _RESTING),
    (("cancel_in_flight",), on.Opened, _on_opened, _SAME),
    (_UNSURE, on.Filled, _on_filled, ("partially_filled", "amend_in_flight")),
    (("open",), on.Filled, _on_filled, ("partially_filled",)),
    (("partially_filled", "amend_in_flight", "cancel_in_flight"), on.Filled, _on_filled, _SAME),
    (("unknown",), on.Filled, _on_filled,
     ("partially_filled", "amend_in_flight", "cancel_in_flight")),
    (TERMINAL, on.Filled, _on_filled, _SAME),
    (_WORKING, on.Closed, _on_closed, ("closed",)),
    (_WORKING, on.Canceled, _on_canceled, ("canceled",)),
    (_UNSURE, on.Refused, _on_refused, ("error",)),
    (_RESTING, on.Refused, _on_refused, _SAME),
    (("amend_in_flight",), on.Refused, _on_refused, _RESTING),
    (("cancel_in_flight",), on.Refused, _on_refused,
     ("error", *_UNSURE, *_RESTING, "amend_in_flight")),
    (("unknown",), on.Refused, _on_refused, ("error", "cancel_in_flight", *_RESTING)),
    (("unknown",), on.Found, _on_found,
     (*_RESTING, "amend_in_flight", "cancel_in_flight")),
    (("unknown",), on.Absent, _on_absent, ("canceled",)),
)  # fmt: skip


def _rows() -> dict[tuple[State, type[on.Event]], Rule]:
    """Return the table: one rule for each state and event of a line."""
    # A row may always leave the state as it is, but for events that certainly end or move it.
    moves = {on.Submit, on.Adopted, on.Triggered, on.Closed, on.Canceled, on.Found, on.Absent}
    table: dict[tuple[State, type[on.Event]], Rule] = {}
    for states, event, act, to in _LINES:
        for state in states:
            assert (state, event) not in table, f"two rows for {state} on {event.__name__}"
            stays: tuple[State, ...] = () if event in moves else (state,)
            table[state, event] = Rule(act, tuple(dict.fromkeys((*stays, *to))))
    return table


TABLE = _rows()
