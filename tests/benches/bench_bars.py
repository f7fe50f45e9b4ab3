"""What a trade costs on its way into two bar series, beside one update of a Python dict."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from decimal import Decimal

from record import Result, best_s, compare

from piker.data._sharedmem import open_shm_array
from piker.tsp._bars import BarBuilder

TRADES = 20_000
PERIODS_S = (1, 60)


def columns() -> list[list[float]]:
    """Return a day's busiest minute: 20,000 trades a few milliseconds apart."""
    times = [1_723_161_240_000_000_000 + i * 3_000_000 for i in range(TRADES)]
    prices = [61_000 + (i * 7919 % 101) / 100 for i in range(TRADES)]
    return [list(range(TRADES)), times, prices, [0.00123] * TRADES]


def build(batch: int, folder: str) -> None:
    """Put all trades into a 1 s and a 1 m array, `batch` at a time."""
    data = columns()
    for period_s in PERIODS_S:
        array = open_shm_array(
            f"bench.{period_s}s", 4096, shm_dir=folder, run_id="bench", actor="bench"
        )
        builder = BarBuilder(period_s, Decimal("0.00001"))
        for start in range(0, TRADES, batch):
            piece = [column[start : start + batch] for column in data]
            array.apply(builder.add_trades(*piece))
        array.unlink()
        array.close()


def count_in_dict() -> None:
    """Do the least that keeps a high and a sum by second: the floor for a loop in Python."""
    bars: dict[int, list[float]] = {}
    for _, time_ns, price, size in zip(*columns(), strict=True):
        bar = bars.setdefault(int(time_ns) // 1_000_000_000, [price, 0.0])
        if price > bar[0]:
            bar[0] = price
        bar[1] += size


def measure() -> Iterator[Result]:
    """Yield the cost per trade and period in batches of one, eight and a thousand."""
    floor = best_s(count_in_dict) / TRADES * 1e6
    with tempfile.TemporaryDirectory() as folder:
        for batch, target in ((1, 0.05), (8, 0.25), (1000, 0.3)):
            cost = best_s(lambda n=batch: build(n, folder), 3) / TRADES / len(PERIODS_S) * 1e6
            name = f"trade into a bar, batches of {batch}"
            yield compare(name, cost, "us", "a dict of highs and sums", floor, target=target)
