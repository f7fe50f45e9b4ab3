"""
From a client's `send` to the paper engine's word, through the journal, while the market ticks.

The tree is a real one on a backend that ticks 10,000 times a second. Beside it stand the hops and
syncs of the same way without an order (`bare_path`), and the bare `fdatasync` of the file system
that the journal lies on (PIKER_BENCH_DIR, else the system's folder for temporary files), taken
between the orders: what no order can be faster than.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import trio
from bare_path import bare_waits
from bench_journal import RECORD
from record import Result, compare

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
# the tree's processes import the backend by its name
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])

from helpers import TEST_CONF, open_test_pikerd  # noqa: E402

from piker.clearing import Status, open_ems  # noqa: E402

FQME = "btcusdt.spot.ticks"
BACKENDS = {"ticks": "tick_backend"}
SAMPLES = 400
TOGETHER, ROUNDS = 500, 3
PRICE, SIZE = Decimal(59_000), Decimal("0.001")
ADDED_P50_S, ADDED_P99_S = 0.0015, 0.006
ORDERS_PER_S = 1000
RAW_BYTES = 300_000
CONF = """
[clearing]
orders_per_s = 0
max_notional = 0
[paper]
fill_model = "instant"
start_balance = 1e9
"""


def measure() -> Iterator[Result]:
    """Yield one client's wait at the median and p99, and how many orders a second are durable."""
    folder = os.environ.get("PIKER_BENCH_DIR")
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as place:
        with quiet(), raw_file(Path(place) / "raw") as sync_s:
            waits, raw, bare, per_s = trio.run(submit_on_a_tree, Path(place), sync_s)
    for name, share, added_s in (("p50", 0.5, ADDED_P50_S), ("p99", 0.99, ADDED_P99_S)):
        ours, floor = (float(np.quantile(times, share)) for times in (waits, raw))
        yield compare(
            f"order.submit_to_paper, {name}", ours * 1e6, "us",
            f"fdatasync alone, {name}", floor * 1e6, target=floor / (floor + added_s),
        )  # fmt: skip
    ours, least = (float(np.quantile(times, 0.5)) for times in (waits, bare))
    yield compare(
        "order.submit_to_paper, its work", ours * 1e6, "us",
        "its hops and syncs alone, p50", least * 1e6, target=0.5,
    )  # fmt: skip
    yield compare(
        "order.submit_to_paper, together", per_s, "orders/s", "the order path's need",
        ORDERS_PER_S, target=1.0, smaller_is_better=False,
    )  # fmt: skip


async def submit_on_a_tree(
    folder: Path, sync_s: Callable[[], float]
) -> tuple[list[float], list[float], list[float], float]:
    """Return the waits of orders one by one, of syncs, of the bare way, and orders a second."""
    async with (
        open_test_pikerd(conf=TEST_CONF + CONF, conf_dir=folder, backends=BACKENDS, seconds=240),
        open_ems(FQME) as (client, trades, _, _, _),
    ):
        words = Words(trades)
        await one_by_one(client, words, sync_s, SAMPLES // 4)  # warms up
        waits, raw = await one_by_one(client, words, sync_s, SAMPLES)
        bare = await bare_waits(client.order("buy", PRICE, SIZE).to_dict(), SAMPLES)
        return waits, raw, bare, max([await together(client, words) for _ in range(ROUNDS)])


class Words:
    """What is told about orders, in the order of arrival."""

    def __init__(self, trades: AsyncIterator[Any]) -> None:
        self._trades = trades

    async def wait(self, resp: str, oids: set[str]) -> None:
        """Return when every order has been said to be `resp`."""
        waiting = set(oids)
        async for told in self._trades:
            if isinstance(told, Status) and told.oid in waiting:
                assert told.resp in (resp, "open", "pending"), told
                if told.resp == resp:
                    waiting.discard(told.oid)
            if not waiting:
                return


async def one_by_one(
    client: Any, words: Words, sync_s: Callable[[], float], count: int
) -> tuple[list[float], list[float]]:
    """Return how long each of `count` orders takes to the engine's word, and a sync beside it."""
    waits, raw = [], []
    for _ in range(count):
        raw.append(sync_s())
        order = client.order("buy", PRICE, SIZE)
        begun = time.perf_counter()
        await client.send(order)
        await words.wait("open", {order.oid})
        waits.append(time.perf_counter() - begun)
        await client.cancel(order.oid)
        await words.wait("canceled", {order.oid})
    return waits, raw


async def together(client: Any, words: Words) -> float:
    """Return the orders a second of a client that waits for none of them."""
    orders = [client.order("buy", PRICE, SIZE) for _ in range(TOGETHER)]
    oids = {order.oid for order in orders}
    begun = time.perf_counter()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(words.wait, "open", oids)
        for order in orders:
            await client.send(order)
    took = time.perf_counter() - begun
    async with trio.open_nursery() as nursery:
        nursery.start_soon(words.wait, "canceled", oids)
        for oid in oids:
            await client.cancel(oid)
    return TOGETHER / took


@contextmanager
def raw_file(path: Path) -> Iterator[Callable[[], float]]:
    """Yield what returns how long a write takes to be durable in a preallocated file."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    places = itertools.cycle(range(0, RAW_BYTES, len(RECORD)))
    os.pwrite(fd, bytes(RAW_BYTES), 0)
    os.fsync(fd)

    def sync_s() -> float:
        begun = time.perf_counter()
        os.pwrite(fd, RECORD, next(places))
        os.fdatasync(fd)
        return time.perf_counter() - begun

    try:
        yield sync_s
    finally:
        os.close(fd)


@contextmanager
def quiet() -> Iterator[None]:
    """Send what the tree's processes log to the console nowhere; their files have it."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
