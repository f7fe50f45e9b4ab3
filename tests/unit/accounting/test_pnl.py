"""Profit as a share, and numbers short enough for a pane."""

from __future__ import annotations

from decimal import Decimal

import pytest
from ledgers import fills

from piker.accounting import fold, humanize, pnl, position_pnl, puterize

D = Decimal


def test_profit_is_a_share_of_the_first_price() -> None:
    assert pnl(D(100), D(110)) == D("0.1")
    assert (pnl(D(0), D(110)), pnl(D(100), D(0))) == (0, 0)


@pytest.mark.parametrize(("size", "share"), [("2", "0.1"), ("-2", "-0.1")])
def test_share_is_signed_for_the_holder(size: str, share: str) -> None:
    [position] = fold(fills((size, "100"))).values()
    assert position_pnl(position, D(110)) == D(share)


def test_flat_position_has_made_no_share() -> None:
    [position] = fold(fills(("1", "100"), ("-1", "110"))).values()
    assert position_pnl(position, D(120)) == 0


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("0", "0.0"), ("99.26", "99.3"), ("300", "300.0"), ("500", "0.5k"), ("1500", "1.5k"),
        ("-1500", "-1.5k"), ("2500000", "2.5M"), ("-3e9", "-3.0B"), ("0.00001", "0.0"),
    ],
)  # fmt: skip
def test_large_numbers_are_short_on_both_sides_of_zero(number: str, text: str) -> None:
    """DEFECT 7.8: a short position's size is no longer than a long one's."""
    assert humanize(D(number)) == text


@pytest.mark.parametrize("text", ["1.5k", "-2M", "3B", "12.25"])
def test_short_number_reads_back(text: str) -> None:
    scale = {"k": 1_000, "M": 1_000_000, "B": 1_000_000_000}.get(text[-1], 1)
    assert puterize(text) == D(text.rstrip("kMB")) * scale


@pytest.mark.parametrize("text", ["", "k", "1.5q", "one", "NaN", "infk"])
def test_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"number: was "):
        puterize(text)
