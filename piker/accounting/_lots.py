"""
Lots: which of the earlier fills a closing fill closes, and what that made.

Four methods: `fifo` closes the oldest lot first, `lifo` the newest, `hifo` the one of the highest
price (the older of two alike), on both sides of the market; `average` holds one lot at the mean
price. A fill through zero closes every lot and opens one with what is left of it. Transfers open
and close nothing. Fees stay apart, as in `_position`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal, localcontext
from heapq import heappop, heappush
from typing import Literal, Protocol

import msgspec

from piker.accounting._ledger import ZERO, Transaction
from piker.accounting._position import CONTEXT

Method = Literal["fifo", "lifo", "hifo", "average"]


class Lot(msgspec.Struct, frozen=True):
    """What is left of one opening fill; `size` is signed. An average lot is named by its first."""

    size: Decimal
    price: Decimal
    dt: datetime
    tid: str


class Gain(msgspec.Struct, frozen=True):
    """
    One lot, or a part of it, closed by one fill; `gain` is in the quote currency, before fees.

    `size` is the part's, signed as the lot was: `gain` is `size * (close_price - open_price)`, and
    of an average lot exactly what was left of the money put in.
    """

    size: Decimal
    open_price: Decimal
    close_price: Decimal
    gain: Decimal
    open_dt: datetime
    close_dt: datetime
    open_tid: str
    close_tid: str


class Lots(msgspec.Struct, frozen=True):
    """The lots that are open, oldest first, and every gain in the order it was made."""

    open: list[Lot]
    gains: list[Gain]

    @property
    def size(self) -> Decimal:
        """The signed size of all open lots, which is the position's."""
        with localcontext(CONTEXT):
            return sum((lot.size for lot in self.open), ZERO)

    @property
    def gain(self) -> Decimal:
        """The sum of all gains."""
        with localcontext(CONTEXT):
            return sum((gain.gain for gain in self.gains), ZERO)


def fold_lots(records: Iterable[Transaction], method: Method = "fifo") -> Lots:
    """
    Return the lots and gains of one market's transactions, which are unique and in order.

    Raises:
      ValueError: `method` is none of the four.
    """
    if method not in _SHELVES:
        raise ValueError(f"lots: method was {method!r}, expected one of {', '.join(_SHELVES)}")
    shelf = _SHELVES[method]()
    gains: list[Gain] = []
    with localcontext(CONTEXT):
        for record in records:
            if record.etype == "clear":
                left = _close(shelf, record, gains)
                if left:
                    shelf.put(Lot(left, record.price, record.dt, record.tid))
    return Lots(shelf.lots(), gains)


def _close(shelf: _Shelf, record: Transaction, gains: list[Gain]) -> Decimal:
    """Close lots of the other side with a fill; return how much of it is left."""
    left = record.size
    while left and (lot := shelf.next()) is not None and (lot.size > 0) is not (left > 0):
        rest = lot.size + left
        survives = bool(rest) and (rest > 0) is (lot.size > 0)
        part = -left if survives else lot.size
        shelf.take(rest if survives else ZERO)
        gains.append(
            Gain(
                size=part,
                open_price=lot.price,
                close_price=record.price,
                gain=part * (record.price - lot.price),
                open_dt=lot.dt,
                close_dt=record.dt,
                open_tid=lot.tid,
                close_tid=record.tid,
            )
        )
        left = ZERO if survives else rest
    return left


class _Shelf(Protocol):
    """Where open lots wait, in the order in which one method closes them."""

    def put(self, lot: Lot) -> None: ...
    def next(self) -> Lot | None: ...
    def take(self, rest: Decimal) -> None: ...  # leave `rest` of the next lot; 0 removes it
    def lots(self) -> list[Lot]: ...


class _Queue:
    """First in, first out."""

    end = 0

    def __init__(self) -> None:
        self._lots: deque[Lot] = deque()

    def put(self, lot: Lot) -> None:
        self._lots.append(lot)

    def next(self) -> Lot | None:
        return self._lots[self.end] if self._lots else None

    def take(self, rest: Decimal) -> None:
        lot = self._lots[self.end]
        if rest:
            self._lots[self.end] = msgspec.structs.replace(lot, size=rest)
        else:
            del self._lots[self.end]

    def lots(self) -> list[Lot]:
        return list(self._lots)


class _Stack(_Queue):
    """Last in, first out."""

    end = -1


class _Heap:
    """Highest price first, the older one of two alike."""

    def __init__(self) -> None:
        self._heap: list[tuple[Decimal, int]] = []
        self._lots: dict[int, Lot] = {}
        self._count = 0

    def put(self, lot: Lot) -> None:
        heappush(self._heap, (-lot.price, self._count))
        self._lots[self._count] = lot
        self._count += 1

    def next(self) -> Lot | None:
        return self._lots[self._heap[0][1]] if self._heap else None

    def take(self, rest: Decimal) -> None:
        number = self._heap[0][1]
        if rest:
            self._lots[number] = msgspec.structs.replace(self._lots[number], size=rest)
        else:
            heappop(self._heap)
            del self._lots[number]

    def lots(self) -> list[Lot]:
        return list(self._lots.values())


class _Mean:
    """One lot at the mean price; its money is kept, so that a price is divided out only once."""

    def __init__(self) -> None:
        self._lot: Lot | None = None
        self._basis = ZERO

    def put(self, lot: Lot) -> None:
        self._basis += lot.size * lot.price
        if self._lot is None:
            self._lot = lot
        else:
            size = self._lot.size + lot.size
            price = self._basis / size
            self._lot = msgspec.structs.replace(self._lot, size=size, price=price)

    def next(self) -> Lot | None:
        return self._lot

    def take(self, rest: Decimal) -> None:
        assert self._lot is not None, "only a lot that `next` returned is taken"
        self._basis = self._basis * rest / self._lot.size
        self._lot = msgspec.structs.replace(self._lot, size=rest) if rest else None

    def lots(self) -> list[Lot]:
        return [self._lot] if self._lot else []


_SHELVES: dict[str, type[_Queue] | type[_Heap] | type[_Mean]] = {
    "fifo": _Queue,
    "lifo": _Stack,
    "hifo": _Heap,
    "average": _Mean,
}
