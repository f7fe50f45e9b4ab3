"""Profit as a share, and numbers short enough for a pane: `1.5k`."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from piker.accounting._ledger import ZERO
from piker.accounting._position import CONTEXT, Position

SUFFIXES = {"k": 3, "M": 6, "B": 9}


def pnl(init: Decimal, new: Decimal) -> Decimal:
    """Return the change from `init` to `new` as a share of `init`; 0 when either is 0."""
    if not init or not new:
        return ZERO
    return CONTEXT.divide(CONTEXT.subtract(new, init), init)


def position_pnl(position: Position, price: Decimal) -> Decimal:
    """Return the share made at `price` against the price per unit, signed for the holder."""
    if not position.size:
        return ZERO
    change = pnl(position.ppu, price)
    return change if position.size > 0 else -change


def humanize(number: Decimal | float, digits: int = 1) -> str:
    """
    Return a number with a k, M or B when its rounded log10 is 3 or more: 500 is `0.5k`.

    The sign changes nothing else: -1500 is `-1.5k`, as 1500 is `1.5k`.
    """
    value = Decimal(str(number))
    magnitude = int(value.copy_abs().log10().to_integral_value(ROUND_HALF_EVEN)) if value else 0
    suffix = next((name for name in "BMk" if magnitude >= SUFFIXES[name]), "")
    scaled = value.scaleb(-SUFFIXES[suffix]) if suffix else value
    return f"{round(scaled, digits):f}{suffix}"


def puterize(text: str) -> Decimal:
    """
    Return the number that `humanize` wrote.

    Raises:
      ValueError: `text` is no number with or without a k, M or B.
    """
    stem, exponent = (text[:-1], SUFFIXES[text[-1]]) if text[-1:] in SUFFIXES else (text, 0)
    try:
        value = Decimal(stem)
    except ArithmeticError:
        value = Decimal("NaN")
    if not value.is_finite():
        raise ValueError(f"number: was {text!r}, expected digits and at most one of k, M, B")
    return value.scaleb(exponent)
