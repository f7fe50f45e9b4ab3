"""Lots and gains against beancount, and against an oracle that looks through every lot."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from beancount.core.data import Booking
from beancount.core.data import Transaction as Directive
from beancount.core.inventory import Inventory
from beancount.parser import booking, parser
from ledgers import fill, fills, random_ledger, random_runs

from piker.accounting import Lot, Transaction, fold, fold_lots
from piker.accounting._lots import Method

D = Decimal
Gains = list[tuple[str, str, Fraction, Fraction]]  # opening tid, closing tid, size, gain
Left = list[tuple[str, Fraction]]  # tid, size


def ours(records: Iterable[Transaction], method: Method) -> tuple[Gains, Left]:
    """Return what `fold_lots` says, in plain fractions."""
    lots = fold_lots(records, method)
    gains = [(g.open_tid, g.close_tid, Fraction(g.size), Fraction(g.gain)) for g in lots.gains]
    return gains, [(lot.tid, Fraction(lot.size)) for lot in lots.open]


def oracle(records: Iterable[Transaction], method: Method) -> tuple[Gains, Left]:
    """Close the lot that the method's definition names, found by looking at all of them."""
    pick = {
        "fifo": lambda lots: min(lots, key=lambda lot: lot[0]),
        "lifo": lambda lots: max(lots, key=lambda lot: lot[0]),
        "hifo": lambda lots: max(lots, key=lambda lot: (lot[3], -lot[0])),
    }[method]
    lots: list[list] = []  # [number, tid, size, price]
    gains: Gains = []
    for number, record in enumerate(records):
        if record.etype == "transfer":
            continue
        left, price = Fraction(record.size), Fraction(record.price)
        while left and lots and lots[0][2] * left < 0:
            lot = pick(lots)
            part = max(lot[2], -left) if lot[2] < 0 else min(lot[2], -left)
            gains.append((lot[1], record.tid, part, part * (price - lot[3])))
            lot[2] -= part
            left += part
            lots = [lot for lot in lots if lot[2]]
        if left:
            lots.append([number, record.tid, left, price])
    return gains, [(lot[1], lot[2]) for lot in lots]


def export(records: Iterable[Transaction]) -> str:
    """Return fills as beancount's text, a day apart; a flip is two postings of one day."""
    lines, held = [], Decimal(0)
    for number, record in enumerate(records):
        if record.etype == "transfer":
            continue
        closing = Decimal(0)
        if held * record.size < 0:
            closing = -held if abs(record.size) > abs(held) else record.size
        for size, cost in ((closing, "{}"), (record.size - closing, f"{{{record.price} USD}}")):
            if size:
                lines += [
                    f'{day(number)} * "{record.tid}"',
                    f"  Assets:Market  {size} COIN {cost}",
                    f"  Assets:Cash  {-size * record.price} USD",
                    "  Income:Gains",
                ]
        held += record.size
    return "\n".join(lines)


def beancount(records: list[Transaction], method: Booking) -> tuple[Gains, Left]:
    """Return gains and open lots as beancount books the same fills."""
    entries, errors, options = parser.parse_string(export(records))
    assert not errors, errors
    methods = dict.fromkeys(("Assets:Market", "Assets:Cash", "Income:Gains"), method)
    booked, errors = booking.booking_full.book(entries, options, methods)
    assert not errors, errors[:3]
    tids = {day(number): record.tid for number, record in enumerate(records)}
    prices = {record.tid: record.price for record in records}
    inventory, gains = Inventory(), []
    for entry in booked:
        assert isinstance(entry, Directive)
        for posting in entry.postings:
            if posting.account != "Assets:Market":
                continue
            inventory.add_position(posting)
            if posting.cost.date != entry.date:
                size = -Fraction(posting.units.number)
                gain = size * Fraction(prices[entry.narration] - posting.cost.number)
                gains.append((tids[posting.cost.date], entry.narration, size, gain))
    left = sorted(inventory, key=lambda position: position.cost.date)
    return gains, [(tids[lot.cost.date], Fraction(lot.units.number)) for lot in left]


def day(number: int) -> date:
    """Return the day on which the `number`th fill is booked."""
    return date(1900, 1, 1) + timedelta(days=number)


@pytest.mark.parametrize(("method", "theirs"), [("fifo", Booking.FIFO), ("lifo", Booking.LIFO)])
def test_lots_and_gains_equal_beancounts(
    method: Method, theirs: Booking, beancount_max: int
) -> None:
    records = list(random_ledger(6, beancount_max))
    gains, left = ours(records, method)
    assert len(gains) > beancount_max // 4
    assert (gains, left) == beancount(records, theirs)


@pytest.mark.parametrize("method", ["fifo", "lifo", "hifo"])
def test_lots_and_gains_equal_the_oracles(method: Method, transactions_max: int) -> None:
    for records in random_runs(7, transactions_max):
        assert ours(records, method) == oracle(records, method)


def test_average_lot_is_the_position(transactions_max: int) -> None:
    for records in random_runs(8, transactions_max):
        lots = fold_lots(records, "average")
        [position] = fold(records).values()
        assert lots.size == position.size
        assert len(lots.open) == bool(position.size)
        assert round(lots.gain, 12) == round(position.realised_pnl, 12)
        if lots.open:
            assert round(lots.open[0].price, 12) == round(position.average_entry_price, 12)


@pytest.mark.parametrize("method", ["fifo", "lifo", "hifo", "average"])
def test_every_method_has_made_the_same_once_flat(method: Method) -> None:
    rows = [("1", "10"), ("2", "14"), ("1", "12"), ("-3", "15"), ("-4", "11"), ("3", "9")]
    lots = fold_lots(fills(*rows), method)
    assert (lots.gain, lots.open) == (12, [])


def test_methods_close_different_lots() -> None:
    records = fills(("1", "10"), ("1", "14"), ("1", "12"), ("-1", "15"))
    closed = {m: fold_lots(records, m).gains[0].open_tid for m in ("fifo", "lifo", "hifo")}
    assert closed == {"fifo": "1", "lifo": "3", "hifo": "2"}
    assert fold_lots(records, "average").gains[0].gain == 3


def test_older_of_two_lots_alike_goes_first() -> None:
    records = fills(("1", "10"), ("1.0", "10.0"), ("-1", "15"))
    assert fold_lots(records, "hifo").gains[0].open_tid == "1"


def test_short_lots_gain_when_the_price_falls() -> None:
    lots = fold_lots(fills(("-2", "10"), ("1", "7")))
    assert (lots.gain, lots.open[0].size) == (3, -1)


def test_flip_closes_every_lot_and_opens_one() -> None:
    records = fills(("1", "10"), ("1", "11"), ("-5", "12"))
    lots = fold_lots(records)
    assert [gain.gain for gain in lots.gains] == [2, 1]
    assert lots.open == [Lot(D(-3), D(12), records[2].dt, "3")]


def test_transfer_opens_and_closes_no_lot() -> None:
    records = [*fills(("1", "10")), fill(2, "-1", "NaN", etype="transfer")]
    assert [lot.tid for lot in fold_lots(records).open] == ["1"]


def test_unknown_method_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="method was 'newest', expected one of fifo, lifo"):
        fold_lots([], "newest")  # type: ignore[arg-type]
