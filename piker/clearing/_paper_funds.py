"""
What a paper account can still afford.

Pure. Per quote asset: equity is cash plus what the positions are worth now; the exposure of a
market is the larger of what it would be with all its open buys, or all its open sells, filled. A
new order passes when it does not raise that, or when all exposures stay within equity x leverage.
A position of a market that has not been seen yet is worth nothing here: that is on the safe side.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

from piker.clearing._fill_models import PaperTerms
from piker.clearing._own_side import BUY, SELL

ZERO: Final = Decimal(0)


class Holding(msgspec.Struct, kw_only=True):
    """One market: the position, its newest price, and what open orders may still spend."""

    fqme: str
    quote: str
    size: Decimal = ZERO
    mark: Decimal = ZERO
    buys: Decimal = ZERO  # notional of what is open
    sells: Decimal = ZERO

    @property
    def value(self) -> Decimal:
        """What the position is worth, below 0 when short."""
        return self.size * self.mark

    def exposure(self, side: int = 0, notional: Decimal = ZERO) -> Decimal:
        """Return how large it may become, with one more order when it is given."""
        value = self.value
        bought, sold = value + self.buys, value - self.sells
        if side == BUY:
            bought += notional
        elif side == SELL:
            sold -= notional
        return max(abs(bought), abs(sold))


class PaperFunds:
    """The cash and the holdings of one paper account."""

    def __init__(self, terms: PaperTerms) -> None:
        self._terms = terms
        self._cash: dict[str, Decimal] = {}
        self._holdings: dict[str, Holding] = {}

    def set(self, balances: dict[str, Decimal], positions: dict[str, Decimal]) -> None:
        """Take balances and positions in place of all that was known."""
        self._cash = dict(balances)
        for holding in self._holdings.values():
            holding.size = positions.get(holding.fqme, ZERO)

    def holding(self, fqme: str, quote: str, size: Decimal) -> Holding:
        """Return the holding of a market, a new one with `size` when there is none."""
        return self._holdings.setdefault(fqme, Holding(fqme=fqme, quote=quote, size=size))

    def cash(self, quote: str) -> Decimal:
        """Return the cash of a quote asset."""
        return self._cash.get(quote, self._terms.start_balance)

    def book(
        self, holding: Holding, side: int, size: Decimal, price: Decimal, fee: Decimal
    ) -> None:
        """Take an execution."""
        holding.size += side * size
        holding.mark = holding.mark or price
        self._cash[holding.quote] = self.cash(holding.quote) - side * size * price - fee

    def why_not(self, holding: Holding, side: int, notional: Decimal) -> str:
        """Return why an order of `notional` cannot be afforded, '' when it can."""
        before, after = holding.exposure(), holding.exposure(side, notional)
        if after <= before:
            return ""
        others, equity = ZERO, self.cash(holding.quote)
        for each in self._holdings.values():
            if each.quote == holding.quote:
                equity += each.value
                if each is not holding:
                    others += each.exposure()
        free = equity * self._terms.leverage - others
        if after <= free:
            return ""
        quote = holding.quote.upper()
        return (
            f"balance: was {_short(max(free - before, ZERO))} {quote} free, expected "
            f"{_short(after - before)} (equity {_short(equity)} x leverage {self._terms.leverage})"
        )


def _short(amount: Decimal) -> str:
    return format(amount.quantize(Decimal("0.01")), "f")
