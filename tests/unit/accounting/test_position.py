"""A position against worked examples, and against an oracle written from the definitions."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction

import pytest
from ledgers import fill, fills, random_ledger

from piker.accounting import Position, Transaction, fold, iter_by_dt, minimise, ppu

D = Decimal
PLACES = 12


def folded(*rows: tuple[str, ...]) -> Position:
    """Return the one position of some fills."""
    [position] = fold(fills(*rows)).values()
    return position


def rounded(value: Decimal | Fraction) -> Fraction:
    """Return a value at twelve decimals."""
    return round(Fraction(value), PLACES)


class Oracle:
    """
    The rules as they are written, in exact fractions.

    Average and price per unit by the recursion over `P` and `S`; break-even as the price at which
    closing the rest, at the fee per unit of its entries, makes nothing since the position opened.
    """

    def __init__(self) -> None:
        self.size = self.average = self.ppu = Fraction(0)
        self.profit = self.realised = self.exit_costs = Fraction(0)

    def add(self, record: Transaction) -> None:
        if record.etype == "transfer":
            return
        s, p = Fraction(record.size), Fraction(record.price)
        c = Fraction(0) if record.cost_asset else Fraction(record.cost)
        held, after = self.size, self.size + s
        flips = held != 0 and after * held < 0
        closed = -held if flips else s if abs(after) < abs(held) else Fraction(0)
        gain = (self.average - p) * closed
        self.realised += gain
        if flips or not held:
            self.average = self.ppu = self.profit = self.exit_costs = Fraction(0)
            held, s = Fraction(0), after
        sign = 1 if after > 0 else -1
        if abs(after) > abs(held):
            self.average = (p * abs(s) + self.average * abs(held)) / abs(after)
            self.ppu = (p * abs(s) + sign * 2 * c + self.ppu * abs(held)) / abs(after)
            self.exit_costs += c
            self.profit -= 2 * c
        else:
            released = self.exit_costs / abs(held) * abs(s)
            self.exit_costs -= released
            self.profit += gain - (c - released)
        self.size = after
        if not after:
            self.average = self.ppu = Fraction(0)

    @property
    def break_even(self) -> Fraction:
        return self.average - self.profit / self.size if self.size else Fraction(0)


def check(position: Position, oracle: Oracle) -> None:
    """Sizes exactly; prices and profit to twelve decimals."""
    assert Fraction(position.size) == oracle.size
    assert rounded(position.average_entry_price) == rounded(oracle.average)
    assert rounded(position.ppu) == rounded(oracle.ppu)
    assert rounded(position.break_even_price) == rounded(oracle.break_even)
    assert rounded(position.realised_pnl) == rounded(oracle.realised)


def batches(records: Iterable[Transaction], size: int) -> Iterable[list[Transaction]]:
    """Yield `records` in lists of `size`."""
    batch: list[Transaction] = []
    for record in records:
        batch.append(record)
        if len(batch) == size:
            yield batch
            batch = []
    yield batch


def test_position_equals_the_oracle_after_every_transaction() -> None:
    position, oracle = Position(broker="b", account="a", market="m", fqme="m.b"), Oracle()
    for record in random_ledger(1, 1_500):
        position = position.extend([record])
        oracle.add(record)
        check(position, oracle)


def test_position_equals_the_oracle_over_a_long_life(transactions_max: int) -> None:
    position, oracle = Position(broker="b", account="a", market="m", fqme="m.b"), Oracle()
    for batch in batches(random_ledger(2, transactions_max), 100):
        position = position.extend(batch)
        for record in batch:
            oracle.add(record)
        check(position, oracle)


def test_fold_of_many_markets_is_each_markets_own_fold() -> None:
    markets = ("A", "B", "C")
    records = [
        fill(n, str(r.size), str(r.price), str(r.cost), etype=r.etype, bs_mktid=markets[n % 3])
        for n, r in enumerate(random_ledger(4, 900))
    ]
    positions = fold(iter_by_dt(records))
    assert set(positions) == {("binance", "paper", market) for market in markets}
    for (_, _, market), position in positions.items():
        oracle = Oracle()
        for record in records:
            if record.market == market:
                oracle.add(record)
        check(position, oracle)


def test_average_moves_on_entries_only() -> None:
    assert folded(("1", "100"), ("3", "120")).average_entry_price == 115
    assert folded(("1", "100"), ("3", "120"), ("-2", "300")).average_entry_price == 115
    assert folded(("-1", "100"), ("-3", "120"), ("2", "90")).average_entry_price == 115


def test_ppu_counts_an_entrys_fee_twice_and_the_average_not_at_all() -> None:
    """DEFECT 7.5: the price per unit is a break-even estimate; the average is another number."""
    long, short = folded(("2", "100", "1")), folded(("-2", "100", "1"))
    assert (long.ppu, short.ppu) == (101, 99)
    assert (long.average_entry_price, short.average_entry_price) == (100, 100)
    assert ppu(fills(("2", "100", "1"))) == 101


def test_break_even_is_where_closing_leaves_nothing() -> None:
    assert folded(("2", "100", "1")).break_even_price == 101
    assert folded(("-2", "100", "1")).break_even_price == 99
    # Half sold 20 higher pays for 20 of the rest; 1.5 paid so far and half an exit's fee to come.
    assert folded(("2", "100", "1"), ("-1", "120", "0.5")).break_even_price == 82


def test_profit_of_a_partial_exit_and_of_the_rest() -> None:
    position = folded(("2", "100"), ("-1", "120"))
    assert (position.realised_pnl, position.unrealised_pnl(D(130))) == (20, 30)
    short = folded(("-10", "100"), ("4", "90"))
    assert (short.realised_pnl, short.unrealised_pnl(D(105))) == (40, -30)


def test_flip_closes_all_and_opens_the_rest_at_its_own_price() -> None:
    position = folded(("2", "100", "1"), ("-5", "110", "0.3"))
    assert (position.size, position.average_entry_price, position.realised_pnl) == (-3, 110, 20)
    assert (position.ppu, position.break_even_price) == (D("109.8"), D("109.8"))


@pytest.mark.parametrize("size", ["3", "-3"])
def test_flat_position_has_no_price(size: str) -> None:
    position = folded((size, "7", "0.1"), (str(-D(size)), "11", "0.1"))
    assert position.size == 0
    assert (position.average_entry_price, position.ppu, position.break_even_price) == (0, 0, 0)
    assert position.unrealised_pnl(D(50)) == 0


def test_new_position_owes_nothing_to_the_one_before() -> None:
    position = folded(("1", "100", "1"), ("-1", "50", "1"), ("1", "60", "1"))
    assert (position.break_even_price, position.realised_pnl, position.costs) == (62, -50, 3)


def test_transfer_moves_no_price_and_no_size() -> None:
    """DEFECT 7.4: a transfer among the events of a position is no crash."""
    records = [*fills(("2", "100")), fill(2, "-1", "NaN", etype="transfer")]
    [position] = fold(records).values()
    assert (position.size, position.ppu, position.transferred) == (2, 100, -1)


def test_fees_are_kept_by_their_asset() -> None:
    records = [
        fill(1, "1", "100", "0.1"),
        fill(2, "1", "100", "0.002", cost_asset="bnb"),
        fill(3, "1", "100", "-0.05"),
        fill(4, "1", "100", "0.003", cost_asset="bnb"),
    ]
    [position] = fold(records).values()
    assert position.fees == {"": D("0.05"), "bnb": D("0.005")}
    assert position.break_even_price == D("100.025")


def test_longest_address_names_the_market() -> None:
    records = [fill(1, "1", "100", fqme="btcusdt.binance"), fill(2, "1", "100")]
    [position] = fold(records).values()
    assert position.fqme == "btcusdt.spot.binance"


def test_what_matters_since_the_last_zero_gives_the_same_position() -> None:
    records: list[Transaction] = []
    for record in random_ledger(5, 1_200):
        records.append(record)
        kept = minimise(records) if len(records) % 10 == 0 else None
        if kept is not None:
            whole, short = (
                fold(records).popitem()[1],
                Position(broker="b", account="a", market="m", fqme="m.b").extend(kept),
            )
            assert sum((r.size for r in kept), D(0)) == short.size == whole.size
            assert rounded(short.ppu) == rounded(whole.ppu)
            assert rounded(short.average_entry_price) == rounded(whole.average_entry_price)


def test_net_zero_drops_everything_before_it() -> None:
    """DEFECT 7.3: not the last two entries only."""
    rows = [("1", "9"), ("1", "9"), ("1", "9"), ("-3", "9")]
    assert minimise(fills(*rows)) == []
    assert [r.tid for r in minimise(fills(*rows, ("2", "8")))] == ["5"]


def test_flip_is_kept_with_the_size_that_was_left_of_it() -> None:
    """DEFECT 7.3: not dropped in place of the history before it."""
    kept = minimise(fills(("1", "9"), ("-4", "8"), ("-1", "7")))
    assert [(r.tid, r.size) for r in kept] == [("2", -3), ("3", -1)]
