"""
Brackets: the take-profit and the stop of one entry, as a pair of which one may trade.

A leg is an order of its own, held by `emsd`, whose `parent` is the entry. What is to be done
follows from the dialogs alone: `next_move` says the next thing, its caller does it and asks again
until there is none, all within the record of the event that made it necessary. So nothing of a
bracket is journalled, and a replay makes the same moves.

The rules:
- a leg covers what the entry has filled less what the other legs have, and is armed only then;
- a leg that fires cancels the rest of the entry; a stop that fires cancels the take-profit, and
  leaves only when that one has ended;
- both crossed in one batch of ticks: the stop alone fires;
- an entry that ends without a fill ends its legs, and so does the end of all it had filled;
- an entry that fills on after its stop has closed is covered by another stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Literal

from msgspec.structs import replace

from piker.clearing import _book_events as on
from piker.clearing._dialog import Dialog
from piker.clearing._messages import Order, exact
from piker.clearing._triggers import Fired
from piker.errors import OrderRejected

Kind = Literal["take_profit", "stop"]
Move = tuple[str, on.Event] | Order
PRICES: tuple[tuple[Kind, str], ...] = (("take_profit", "take_profit"), ("stop", "stop_loss"))

MOVES_MAX = 64  # that one event may lead to: some for each leg, far below a loop without end


def leg_oid(entry_oid: str, kind: Kind, number: int = 1) -> str:
    """Return the oid of an entry's leg `number` of its kind: 32 hex characters."""
    return blake2b(
        f"{len(entry_oid)}:{entry_oid}:{kind}:{number}".encode(), digest_size=16
    ).hexdigest()


def leg_of(entry: Order, kind: Kind, price: Decimal, number: int = 1) -> Order:
    """Return the leg that `entry` asks for at `price`; it covers nothing yet."""
    return Order(
        action="sell" if entry.action == "buy" else "buy",
        exec_mode="dark",
        oid=leg_oid(entry.oid, kind, number),
        symbol=entry.symbol,
        account=entry.account,
        brokers=entry.brokers,
        order_type=kind,
        trigger_price=price,
        price=price if kind == "take_profit" else Decimal(0),
        reduce_only=True,
        client_ref=entry.client_ref,
        parent=entry.oid,
    )


def is_at_venue(dialog: Dialog) -> bool:
    """Whether an order that was held has gone out and not ended."""
    return dialog.is_fired and not (dialog.is_terminal or dialog.is_held_back)


def rest(entry: Dialog, legs: Iterable[Dialog]) -> Decimal:
    """Return how much of what the entry has filled no leg has taken back."""
    return max(Decimal(0), entry.filled - sum((leg.filled for leg in legs), Decimal(0)))


def next_move(entry: Dialog, legs: Sequence[Dialog], event: on.Event, time_ns: int) -> Move | None:
    """
    Return what is to be done next after `event`, or None when the bracket is as it has to be.

    A move is an order to enter, or an event for the dialog of an oid. `legs` are all of the entry,
    in the order in which they were entered.
    """
    if not entry.is_terminal:
        for kind, field in PRICES:
            price = getattr(entry.asked, field)
            if price is not None and not any(leg.oid == leg_oid(entry.oid, kind) for leg in legs):
                return leg_of(entry.asked, kind, price)
    live = [leg for leg in legs if not leg.is_terminal]
    for rule in (_cancel, _size, _release):
        if move := rule(entry, legs, live, event, time_ns):
            return move
    return None if live else _cover(entry, legs)


def _cancel(
    entry: Dialog, legs: Sequence[Dialog], live: list[Dialog], event: on.Event, time_ns: int
) -> Move | None:
    """Cancel what has no purpose any more; a cancel that was just refused is not repeated."""
    if entry.is_terminal and not rest(entry, legs):
        reason = "all of its entry is closed" if entry.filled else "its entry has no fill"
        for leg in live:
            if not is_at_venue(leg):
                return leg.oid, on.CancelAsked(time_ns=time_ns, reason=reason)
    if isinstance(event, on.Refused):
        return None
    if any(leg.is_fired and leg.order.order_type == "stop" for leg in legs):
        for leg in live:
            if leg.order.order_type == "take_profit" and not leg.cancel_called:
                return leg.oid, on.CancelAsked(time_ns=time_ns, reason="its stop has fired")
    is_working = not (entry.is_terminal or entry.cancel_called) and entry.filled < entry.asked.size
    if is_working and any(leg.is_fired for leg in legs):
        return entry.oid, on.CancelAsked(time_ns=time_ns, reason="a leg of it has fired")
    return None


def _size(
    entry: Dialog, legs: Sequence[Dialog], live: list[Dialog], event: on.Event, time_ns: int
) -> Move | None:
    """Let each leg cover what is left; one at the venue grows with the entry."""
    left = rest(entry, legs)
    for leg in live:
        whole = leg.filled + left
        if is_at_venue(leg):
            may_grow = isinstance(event, on.Filled) and leg.order.price and not leg.cancel_called
            is_right = whole <= leg.asked.size or not may_grow
        else:
            is_right = whole == leg.order.size
        if not is_right:
            return leg.oid, on.Resized(time_ns=time_ns, size=whole)
    return None


def _release(
    entry: Dialog, legs: Sequence[Dialog], live: list[Dialog], event: on.Event, time_ns: int
) -> Move | None:
    """Send a stop that was held back when no other leg is at the venue."""
    for leg in live:
        if leg.is_held_back and leg.order.size and not any(is_at_venue(each) for each in live):
            return leg.oid, on.Released(time_ns=time_ns)
    return None


def _cover(entry: Dialog, legs: Sequence[Dialog]) -> Move | None:
    """Enter another stop for what the entry filled after its last one had closed."""
    if not legs or not rest(entry, legs):
        return None
    newest = max(legs, key=lambda leg: leg.ended_ns)
    if newest.state != "closed" or newest.order.order_type != "stop":
        return None
    trigger = newest.order.trigger_price
    if trigger is None:
        return None
    number = 1 + sum(leg.order.order_type == "stop" for leg in legs)
    return leg_of(entry.order, "stop", trigger, number)


def repriced(before: Order, after: Order, legs: Sequence[Dialog], time_ns: int) -> list[Move]:
    """Return what an amend of an entry's leg prices leads to for legs that are there already."""
    moves: list[Move] = []
    for kind, field in PRICES:
        price = getattr(after, field)
        mine = [leg for leg in legs if leg.order.order_type == kind and not leg.is_terminal]
        if price == getattr(before, field):
            continue
        if price is None:
            moves += [(leg.oid, on.CancelAsked(time_ns=time_ns)) for leg in mine]
        elif mine:
            moves += [(leg.oid, _moved(leg, price, time_ns)) for leg in mine]
        else:
            number = 1 + sum(leg.order.order_type == kind for leg in legs)
            if number > 1:
                moves.append(leg_of(after, kind, price, number))
    return moves


def _moved(leg: Dialog, price: Decimal, time_ns: int) -> on.Amend:
    changes: dict[str, Any] = {"trigger_price": price, "revision": leg.newest}
    if leg.order.order_type == "take_profit":
        changes["price"] = price
    return on.Amend(time_ns=time_ns, order=replace(leg.asked, **changes))


def shape_leg(order: Order, dialogs: Mapping[str, Dialog], legs: Sequence[Dialog]) -> Order:
    """
    Return a client's order that names a `parent` as the leg it is to be.

    Raises:
      OrderRejected: there is no such entry that still works, or it has such a leg already.
    """

    def refuse(text: str) -> OrderRejected:
        return OrderRejected(text, oid=order.oid)

    entry = dialogs.get(order.parent)
    if entry is None or entry.order.is_alert or entry.order.parent:
        raise refuse(f"parent: was {order.parent}, expected the oid of an entry")
    if entry.is_terminal:
        raise refuse(f"parent: {order.parent} is {entry.state}, expected an entry that works")
    for field in ("symbol", "account"):
        ours, asked = getattr(entry.order, field), getattr(order, field)
        if ours != asked:
            raise refuse(f"{field}: was {asked}, expected {ours}, as its parent")
    if order.action == entry.order.action:
        raise refuse(f"action: was {order.action}, expected the other side than its parent")
    for leg in legs:
        if not leg.is_terminal and leg.order.order_type == order.order_type:
            raise refuse(f"parent: its {order.order_type} is {leg.oid}; amend that one")
    return replace(order, reduce_only=True, size=rest(entry, legs))


def shape_amend(order: Order, known: Dialog) -> Order:
    """Return a client's amend of a leg with our size, and a take-profit's two prices as one."""
    price, trigger = order.price, order.trigger_price
    if order.order_type == "take_profit" and trigger is not None:
        if trigger != known.asked.trigger_price:
            price = trigger
        elif price != known.asked.price:
            trigger = exact("price", price)
    return replace(
        order, reduce_only=True, size=known.asked.size, price=price, trigger_price=trigger
    )


def stop_first(find: Callable[[str], Dialog | None], fired: Iterable[Fired]) -> list[Fired]:
    """Return what fired in one batch without each take-profit whose stop has fired with it."""
    batch = list(fired)
    stopped = set()
    for one in batch:
        dialog = find(one.oid)
        if dialog is not None and dialog.order.parent and dialog.order.order_type == "stop":
            stopped.add(dialog.order.parent)
    kept = []
    for one in batch:
        dialog = find(one.oid)
        is_gain = dialog is not None and dialog.order.order_type == "take_profit"
        if not (dialog is not None and is_gain and dialog.order.parent in stopped):
            kept.append(one)
    return kept
