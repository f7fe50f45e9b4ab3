"""The hot path from a frame to a bar and a reader, each step beside what people use instead."""

from __future__ import annotations

import gc
import json
import tempfile
import timeit
from collections.abc import Iterator
from decimal import Decimal
from multiprocessing import get_context
from typing import Any

import numpy as np
from record import Result, best_s, compare

from piker.brokers.binance import _wire as wire
from piker.data._ring import TickRing
from piker.model.ticks import TICK_DTYPE, TRADE
from piker.tsp._bars import BarBuilder

FRAMES = 20_000
NS = 1_000_000_000
BASE_MS = 1_723_161_240_000


def trade_frames() -> list[bytes]:
    """Return Binance trade payloads as they arrive, 20 a second."""
    rng = np.random.default_rng(1)
    prices = 60_000 + np.cumsum(rng.normal(0, 0.5, FRAMES))
    return [
        b'{"e":"trade","E":%d,"s":"BTCUSDT","t":%d,"p":"%.2f","q":"0.00123","T":%d,"m":true,"M":true}'
        % (BASE_MS + 50 * i, i, price, BASE_MS + 50 * i)
        for i, price in enumerate(prices)
    ]


def plain(raw: bytes) -> tuple[Any, ...]:
    """Parse a trade as a script would: the standard library, numbers by hand, nothing checked."""
    frame = json.loads(raw)
    return frame["t"], float(frame["p"]), float(frame["q"]), frame["m"], frame["T"] * 1_000_000


def measure_parse(frames: list[bytes]) -> Result:
    """Return the checked parser's time for one trade beside json's."""
    ours = best_s(lambda: [wire.parse_trade(raw, "BTCUSDT", 0) for raw in frames])
    peer = best_s(lambda: [plain(raw) for raw in frames])
    per = 1e6 / len(frames)
    return compare(
        "parse a trade, checked", ours * per, "us", "json, unchecked", peer * per, target=1.0
    )


def measure_bars(frames: list[bytes]) -> Result:
    """Return the builder's time for a trade beside a dict's, which forgives no late trade."""
    trades = [wire.parse_trade(raw, "BTCUSDT", 0) for raw in frames]

    def build() -> None:
        builder = BarBuilder(1, Decimal("0.00001"))
        for trade in trades:
            builder.add_trade(trade.tid, trade.time_venue_ns, trade.price, trade.size)

    def fold() -> None:
        bars: dict[int, list[float]] = {}
        for trade in trades:
            price, epoch = trade.price, trade.time_venue_ns // NS
            if bar := bars.get(epoch):
                bar[1] = max(bar[1], price)
                bar[2] = min(bar[2], price)
                bar[3] = price
                bar[4] += trade.size
            else:
                bars[epoch] = [price, price, price, price, trade.size]

    per = 1e6 / len(trades)
    return compare(
        "one trade into a bar, live",
        best_s(build) * per,
        "us",
        "a dict, by arrival",
        best_s(fold) * per,
        target=0.2,
    )


def time_ring(ring: TickRing) -> float:
    """Return the shortest mean time of one record put and read, in seconds."""
    record = np.zeros(1, TICK_DTYPE)
    record["type"] = TRADE
    reader = ring.reader()

    def hop() -> None:
        ring.put_many(record)
        reader.read()

    return min(timeit.repeat(hop, number=5000, repeat=5)) / 5000


def measure_hop() -> Result:
    """Return the time of one record through the ring beside a multiprocessing pipe."""
    with tempfile.TemporaryDirectory() as folder:
        ring = TickRing.create(folder, "bench", "bench", "bench", 4096)
        ours = time_ring(ring)
        gc.collect()
        ring.unlink()
        ring.close()
    near, far = get_context("spawn").Pipe()
    payload = np.zeros(1, TICK_DTYPE)[0].item()

    def send() -> None:
        near.send(payload)
        far.recv()

    peer = min(timeit.repeat(send, number=5000, repeat=5)) / 5000
    near.close()
    far.close()
    return compare(
        "one record to a reader", ours * 1e6, "us", "multiprocessing pipe", peer * 1e6, target=1.0
    )


def measure() -> Iterator[Result]:
    """Yield parse, bars and the hop to a reader."""
    frames = trade_frames()
    yield measure_parse(frames)
    yield measure_bars(frames)
    yield measure_hop()
