"""
The terms of paper trading: what an account starts with, how fast and how dear an order is.

A fill model is a named pair of latency and slippage; conf.toml picks one and may override each.
Fees are shares of the notional, in the quote asset: those of the venue unless conf.toml says
otherwise.
"""

from __future__ import annotations

from decimal import ROUND_UP, Decimal
from typing import Final

import msgspec

from piker.settings import Paper

FEE_STEP: Final = Decimal("1E-8")  # fees are rounded up to it, as venues do
DEFAULT_FEES: Final = ("0.001", "0.001")  # of a backend that names none: Binance spot's first tier


class FillModel(msgspec.Struct, frozen=True):
    """How long a request is on its way, and how many ticks worse a taker's price is."""

    latency_ms: int
    slippage_ticks: int


FILL_MODELS: Final = {
    "default": FillModel(50, 0),  # a home line to a cloud region on another continent takes more
    "instant": FillModel(0, 0),
    "slow": FillModel(250, 2),
}


class PaperTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for every paper order of a broker."""

    start_balance: Decimal = Decimal(100_000)  # of each quote asset
    leverage: Decimal = Decimal(1)
    latency_ns: int = 0
    slippage_ticks: int = 0
    maker_fee: Decimal = Decimal(0)
    taker_fee: Decimal = Decimal(0)

    def fee(self, notional: Decimal, *, is_maker: bool) -> Decimal:
        """Return the fee of an execution in the quote asset."""
        fee = notional * (self.maker_fee if is_maker else self.taker_fee)
        exponent = fee.as_tuple().exponent
        is_long = isinstance(exponent, int) and exponent < -8
        return fee.quantize(FEE_STEP, ROUND_UP) if is_long else fee


def paper_terms(paper: Paper, venue_fees: tuple[str, str] = DEFAULT_FEES) -> PaperTerms:
    """Return the terms of conf.toml's `[paper]` at a venue with (maker, taker) fees."""
    model = FILL_MODELS[paper.fill_model]
    latency_ms = model.latency_ms if paper.latency_ms is None else paper.latency_ms
    slippage = model.slippage_ticks if paper.slippage_ticks is None else paper.slippage_ticks
    maker, taker = (Decimal(fee) for fee in venue_fees)
    return PaperTerms(
        start_balance=paper.start_balance,
        leverage=paper.leverage,
        latency_ns=latency_ms * 1_000_000,
        slippage_ticks=slippage,
        maker_fee=maker if paper.maker_fee is None else paper.maker_fee,
        taker_fee=taker if paper.taker_fee is None else paper.taker_fee,
    )
