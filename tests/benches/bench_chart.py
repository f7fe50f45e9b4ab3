"""The chart: from exec to the first candle with history on disk, and what a tick costs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from record import Result, best_s

from piker.ui.frames import pack_block
from piker.ui.lod import Series
from piker.ui.snapshot import browser_or_none

ROUNDS = 5
FQME = "btcusdt.spot.binance"
FIRST_CANDLE = """(async () => {
  const seen = () => window.piker?.debug?.facts().bars_in_view > 0;
  while (!seen()) await new Promise((done) => setTimeout(done, 5));
  await window.piker.debug.painted();
})()"""


def measure() -> Iterator[Result]:
    """Yield the kernels' times, then the start of a whole chart."""
    yield from kernels()
    chromium = browser_or_none()
    if chromium:
        seconds = start_times(chromium)
        target = 2.5
        value = median(seconds)
        yield Result(
            "piker chart: exec to first candle", value, "s", target=target, ok=value <= target
        )


def kernels() -> Iterator[Result]:
    """Yield what a million bars cost to aggregate, and one tick and one block after that."""
    n = 1_000_000
    rows = np.ones((6, n))
    rows[0] = 1_600_000_020 + 60 * np.arange(n)
    series = Series(60)
    begun = time.perf_counter()
    series.merge(rows)
    yield Result("all rungs of 1M bars", (time.perf_counter() - begun) * 1e3, "ms")
    last = rows[:, -1:].copy()

    def tick() -> None:
        last[4] += 1
        series.merge(last)

    yield Result("a tick through nine rungs", best_s(tick, 2000) * 1e6, "us")
    block = rows[:, :1024]
    numbers = {"chan": 1, "seq": 1, "gen": 1, "rung": 60, "key": 1, "ver": 1, "rev": 1, "flags": 1}
    yield Result("pack a block", best_s(lambda: pack_block(block, **numbers), 500) * 1e6, "us")


def start_times(chromium: str) -> list[float]:
    """Return the seconds of `ROUNDS` starts: the browser is open, history is on disk."""
    from playwright.sync_api import sync_playwright

    piker = str(Path(sys.executable).parent / "piker")
    command = [piker, "venue", "serve", "binance", "--synthetic", "--seed", "3", "--json"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE) as venue,
        sync_playwright() as driver,
    ):
        assert venue.stdout is not None
        url = json.loads(venue.stdout.readline())["url"]
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        env = os.environ | {"PIKER_CONFIG_DIR": folder}
        try:
            return [start_once([piker], url, env, page) for _ in range(ROUNDS + 1)][1:]
        finally:
            browser.close()
            venue.send_signal(signal.SIGINT)


def start_once(piker: list[str], venue: str, env: dict[str, str], page: Any) -> float:
    """Start a chart with a tree of its own, wait for its first candle, and end both."""
    begun = time.perf_counter()
    command = [*piker, "chart", "--no-browser", "--debug-page", "--venue", venue, FQME]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as chart:
        assert chart.stdout is not None
        found = re.search(r"http://\S+", chart.stdout.readline())
        assert found
        page.goto(found[0])
        page.evaluate(FIRST_CANDLE)
        took = time.perf_counter() - begun
        chart.send_signal(signal.SIGINT)
    run_file = Path(env["PIKER_CONFIG_DIR"]) / "run" / "run.json"
    deadline = time.monotonic() + 10
    while run_file.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return took
