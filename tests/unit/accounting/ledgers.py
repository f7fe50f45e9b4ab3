"""Ledgers for the tests: built by hand in one line, or made up from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from piker.accounting import Transaction

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
RUN_MAX = 100_000  # transactions of one list: a longer run is several of these
FEE_ASSETS = ("", "", "bnb", "btc")  # half of the fees are in the quote currency


def fill(number: int, size: str, price: str, cost: str = "0", **fields: object) -> Transaction:
    """Return the `number`th fill of one market, a second after the one before."""
    made: dict[str, object] = {
        "broker": "binance",
        "account": "paper",
        "fqme": "btcusdt.spot.binance",
        "bs_mktid": "BTCUSDT",
        "tid": str(number),
        "size": Decimal(size),
        "price": Decimal(price),
        "cost": Decimal(cost),
        "dt": BEGIN + timedelta(seconds=number),
    }
    return Transaction(**(made | fields))  # type: ignore[arg-type]


def fills(*rows: tuple[str, ...]) -> list[Transaction]:
    """Return fills of `(size, price)` or `(size, price, cost)`, a second apart."""
    return [fill(number, *row) for number, row in enumerate(rows, 1)]


def random_ledger(seed: int, count: int) -> Iterator[Transaction]:
    """Yield a market's life: entries, partial exits, exact closes, flips, transfers, fees."""
    rng = random.Random(seed)
    held, price = 0, 6_000_000
    for number in range(count):
        price = max(1, price + rng.randint(-9_000, 9_000))
        kind = rng.random()
        size = rng.choice((-1, 1)) * rng.randint(1, 5_000)
        if held and kind < 0.06:
            size = -held  # exactly to zero
        elif held and kind < 0.12:
            size = -held - (size if (size > 0) is (held > 0) else -size)  # through it
        elif held and kind < 0.4:
            size = -held * rng.randint(1, 9) // 10 or -held
        fields: dict[str, object] = {"cost_asset": rng.choice(FEE_ASSETS)}
        amount = str(Decimal(size).scaleb(-4))
        cost = str(Decimal(rng.randint(-50, 900)).scaleb(-3))
        if kind > 0.97:
            yield fill(number, amount, "NaN", cost, etype="transfer", **fields)
            continue
        held += size
        yield fill(number, amount, str(Decimal(price).scaleb(-2)), cost, **fields)


def random_runs(seed: int, count: int) -> Iterator[list[Transaction]]:
    """Yield `count` random transactions in lists that each begin flat and fit in memory."""
    for number, begin in enumerate(range(0, count, RUN_MAX)):
        yield list(random_ledger(seed * 1_000 + number, min(RUN_MAX, count - begin)))
