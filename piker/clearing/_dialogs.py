"""
All order dialogs of a daemon, found by oid or by the broker's own id.

A view over `step`: it keeps the newest `Dialog` of each oid, lets the bracket of an order follow
each of its steps, and hands on what is to be done. A message of a broker never raises here; a
client's request for an order that nobody knows does.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from msgspec.structs import replace

from piker.clearing import _book_events as on
from piker.clearing import _brackets as brackets
from piker.clearing._book import armed, status_of, step
from piker.clearing._dialog import Dialog
from piker.clearing._messages import (
    BrokerdFill,
    BrokerdPosition,
    BrokerMsg,
    Cancel,
    Mode,
    Order,
    Reqid,
    Status,
    parse_broker,
)
from piker.errors import BadPayload, OrderRejected

Outputs = tuple[on.Output, ...]


class OrderDialogs:
    """
    Every dialog of a daemon, ended ones included until `forget` drops them.

    An ended dialog stays known, so that its oid is not entered again and its late fills are
    booked.
    """

    def __init__(self, dialogs: Iterator[Dialog] | tuple[Dialog, ...] = ()) -> None:
        self._dialogs: dict[str, Dialog] = {}
        self._going: dict[str, None] = {}  # those that have not ended: weeks of others are kept
        # None: two orders share the id (venues count per market), so only an oid tells them apart.
        self._by_reqid: dict[tuple[str, str], str | None] = {}
        self._legs: dict[str, list[str]] = {}  # of an entry, in the order in which they came
        self._unknown_messages = 0
        self.changes = 0  # how often a dialog was replaced by a different one
        for dialog in dialogs:
            self._keep(dialog)

    def __contains__(self, oid: object) -> bool:
        return oid in self._dialogs

    def __iter__(self) -> Iterator[Dialog]:
        return iter(self._dialogs.values())

    def __len__(self) -> int:
        return len(self._dialogs)

    def __getitem__(self, oid: str) -> Dialog:
        return self._dialogs[oid]

    def active(self) -> dict[str, Status]:
        """Return what each dialog that goes on is now, for a late client."""
        return {oid: status_of(self[oid], self[oid].told_ns) for oid in self._going}

    def past_fills(self) -> dict[str, tuple[BrokerdFill, ...]]:
        """Return the fills so far of each dialog that goes on, for a late client."""
        return {oid: self[oid].fills for oid in self._going}

    def arms(self) -> list[on.Arm]:
        """Return what the trigger book has to hold, for a start."""
        going = (self[oid] for oid in self._going)
        return [armed(each) for each in going if each.state == "dark_open" and each.is_armed]

    def legs(self, oid: str) -> list[Dialog]:
        """Return all legs that an entry has had, ended ones too."""
        return [self._dialogs[leg] for leg in self._legs.get(oid, ())]

    def request(
        self,
        message: Order | Cancel,
        broker: str,
        mode: Mode,
        time_ns: int,
        last: Decimal | None = None,
    ) -> Outputs:
        """
        Return what a client's request leads to: an entry, an amend of a known oid, or a cancel.

        `last` is the last trade's price, which fixes on which side of its trigger an order fires.

        Raises:
          OrderRejected: a cancel or amend of an oid that is not known, or of another market; a leg
            of an entry that cannot have it.
        """
        known = self._dialogs.get(message.oid)
        if known is None:
            if isinstance(message, Cancel) or message.revision is not None:
                raise OrderRejected(
                    f"oid: was {message.oid}, expected a known order", oid=message.oid
                )
            if message.parent:
                message = brackets.shape_leg(message, self._dialogs, self.legs(message.parent))
            dialog = Dialog(oid=message.oid, order=message, broker=broker, mode=mode)
            return self._step(dialog, on.Submit(time_ns=time_ns, last=last))
        if message.symbol != known.order.symbol:
            reason = f"symbol: was {message.symbol}, expected {known.order.symbol}"
            raise OrderRejected(reason, oid=message.oid)
        if isinstance(message, Cancel):
            return self._step(known, on.CancelAsked(time_ns=time_ns))
        if known.order.parent:
            message = brackets.shape_amend(message, known)
        return self._step(known, on.Amend(time_ns=time_ns, order=message, last=last))

    def apply(self, oid: str, event: on.Event) -> Outputs:
        """Return what `event` leads to; an oid that is not known is a note."""
        dialog = self._dialogs.get(oid)
        if dialog is None:
            return self._stray(oid, f"{type(event).__name__} for an order that is not known")
        return self._step(dialog, event)

    def relay(self, broker: str, mode: Mode, raw: object, time_ns: int) -> Outputs:
        """Return what a broker's message leads to; one without sense is a note, never an error."""
        try:
            message = parse_broker(raw)
        except BadPayload as err:
            return self._stray("", f"{broker}: {err} in {err.head!r}")
        return self.hear(message, broker, mode, time_ns)

    def hear(self, message: BrokerMsg, broker: str, mode: Mode, time_ns: int) -> Outputs:
        """Return what a broker's message leads to, as `relay` once it is read."""
        match message:
            case BrokerdPosition():
                return (on.Hold(position=message),)
            case Status():
                return self._adopt(message, broker, mode, time_ns)
        dialog = self._find(broker, message)
        if dialog is None:
            return self._stray(message.oid or "", f"{broker}: {message} is about no known order")
        return self._step(dialog, on.read_broker(message, time_ns))

    def forget(self, before_ns: int) -> int:
        """
        Drop the dialogs that ended before `before_ns`; return how many.

        An entry and its legs go together, since what a leg covers follows from the others.
        """

        def is_over(dialog: Dialog) -> bool:
            return dialog.is_terminal and dialog.ended_ns < before_ns

        needed = set()
        for dialog in self:
            if not is_over(dialog):
                entry = dialog.order.parent or dialog.oid
                needed |= {entry, *self._legs.get(entry, ())}
        gone = [each.oid for each in self if each.oid not in needed]
        for oid in gone:
            del self._dialogs[oid]
            self._legs.pop(oid, None)
        self._by_reqid = {}
        for dialog in self:
            self._index(dialog)
        return len(gone)

    def statistics(self) -> dict[str, int]:
        """Return named counters."""
        return {
            "dialogs": len(self),
            "active": len(self._going),
            "unknown_outcome": sum(self[oid].state == "unknown" for oid in self._going),
            "unknown_messages": self._unknown_messages,
        }

    def _find(self, broker: str, message: BrokerMsg) -> Dialog | None:
        """Return the dialog that a broker's message is about."""
        oid, reqid = getattr(message, "oid", None), getattr(message, "reqid", None)
        if not oid and reqid is not None:
            oid = self._by_reqid.get((broker, str(reqid)))
        dialog = self._dialogs.get(oid or "")
        return dialog if dialog is not None and dialog.broker == broker else None

    def _adopt(self, message: Status, broker: str, mode: Mode, time_ns: int) -> Outputs:
        """Return what an order that somebody else placed leads to."""
        reqid: Reqid = message.reqid
        order = message.req
        if message.resp != "open" or reqid is None or order is None or not message.src:
            return self._stray(message.oid, f"{broker}: {message} announces no open order")
        known = self._find(broker, message)
        if known is not None:
            return self._step(known, on.Opened(time_ns=time_ns, reqid=reqid))
        symbol = f"{order.symbol.removesuffix('.' + broker)}.{broker}"
        order = replace(order, oid=str(reqid), symbol=symbol)
        if order.oid in self or order.is_dark or not (order.price and order.size):
            return self._stray(order.oid, f"{broker}: {message} cannot be taken over")
        dialog = Dialog(oid=order.oid, order=order, broker=broker, mode=mode)
        return self._step(dialog, on.Adopted(time_ns=time_ns, reqid=reqid))

    def _step(self, dialog: Dialog, event: on.Event) -> Outputs:
        """Return what an event leads to, with what it leads to for the bracket of its order."""
        if isinstance(event, on.Triggered) and dialog.order.parent:
            if not dialog.order.size:
                return (on.Note(oid=dialog.oid, text="a leg fired that covers nothing"),)
            others = self.legs(dialog.order.parent)
            hold = any(brackets.is_at_venue(leg) for leg in others)
            event = replace(event, hold=hold)
        outputs = self._step_one(dialog, event)
        entry_oid = dialog.order.parent or dialog.oid
        if entry_oid in self._legs or self._dialogs[dialog.oid].order.has_legs:
            outputs += self._follow(entry_oid, dialog, event)
        return outputs

    def _step_one(self, dialog: Dialog, event: on.Event) -> Outputs:
        after, outputs = step(dialog, event)
        self._keep(after)
        return outputs

    def _follow(self, entry_oid: str, before: Dialog, event: on.Event) -> Outputs:
        """Make the moves of a bracket until it is as it has to be after `event`."""
        if entry_oid not in self._dialogs:
            return ()
        outputs: Outputs = ()
        entry = self._dialogs[entry_oid]
        if before.oid == entry_oid and before.state != "new":
            legs = self.legs(entry_oid)
            for move in brackets.repriced(before.asked, entry.asked, legs, event.time_ns):
                outputs += self._make(move, entry, event.time_ns)
        for _ in range(brackets.MOVES_MAX):
            entry, legs = self._dialogs[entry_oid], self.legs(entry_oid)
            next_one = brackets.next_move(entry, legs, event, event.time_ns)
            if next_one is None or (isinstance(next_one, Order) and next_one.oid in self):
                break
            outputs += self._make(next_one, entry, event.time_ns)
        if isinstance(event, on.Refused):
            # A take-profit that yielded to its stop waits again when that one was refused.
            outputs += tuple(arm for arm in self.arms() if arm.order.parent == entry_oid)
        return outputs

    def _make(self, move: brackets.Move, entry: Dialog, time_ns: int) -> Outputs:
        if isinstance(move, Order):
            leg = Dialog(oid=move.oid, order=move, broker=entry.broker, mode=entry.mode)
            return self._step_one(leg, on.Submit(time_ns=time_ns))
        oid, event = move
        return self._step_one(self._dialogs[oid], event)

    def _keep(self, dialog: Dialog) -> None:
        before = self._dialogs.get(dialog.oid)
        self.changes += before != dialog
        self._dialogs[dialog.oid] = dialog
        if dialog.is_terminal:
            self._going.pop(dialog.oid, None)
        else:
            self._going[dialog.oid] = None
        if before is None and dialog.order.parent:
            self._legs.setdefault(dialog.order.parent, []).append(dialog.oid)
        if before is None or before.reqid != dialog.reqid:
            self._index(dialog)

    def _index(self, dialog: Dialog) -> None:
        if dialog.reqid is not None:
            key = dialog.broker, str(dialog.reqid)
            is_taken = self._by_reqid.setdefault(key, dialog.oid) != dialog.oid
            if is_taken:
                self._by_reqid[key] = None

    def _stray(self, oid: str, text: str) -> Outputs:
        self._unknown_messages += 1
        return (on.Note(oid=oid, text=text[:400]),)
