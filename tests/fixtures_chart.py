"""
The chart as a trader has it, for tests: a venue, `piker chart` with its private tree, a browser.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from helpers import free_port
from system.browser import chromium_or_none

FQME = "btcusdt.spot.binance"
SCREENSHOTS = Path(__file__).parent.parent / "build" / "screenshots"
CONF = """
[network]
port = {port}
[data]
ring_1s = 7200
ring_1m = 1440
ring_ticks = 16384
backfill_1s_days = 0.05
backfill_1m_days = 2
"""
UNTIL = """async ([claim, argument]) => {
  const holds = {
    feed: (facts) => facts.feed === argument,
    up: (facts) => argument.every((name) => facts.daemons.some((dot) =>
      dot.name === name && dot.state === 'up')),
    not_live: (facts) => facts.feed !== 'live' && facts.feed !== 'late',
    loaded: (facts) => facts.bars_in_view > 100 && !facts.blocks.missing && facts.price !== null,
    held: (facts) => window.piker.debug.bars(argument[0], argument[1], argument[2]).length
      >= (argument[1] - argument[0]) / argument[2],
  }[claim];
  while (!window.piker?.debug || !holds(window.piker.debug.facts())) {
    await new Promise((done) => setTimeout(done, 30));
  }
  return window.piker.debug.facts();
}"""


def script(name: str) -> str:
    """Return the path of a console script of the environment that runs the tests."""
    return str(Path(sys.executable).parent / name)


class Run:
    """A venue and a chart as processes; `url` is the chart's first printed address."""

    def __init__(self, folder: Path, venue: str) -> None:
        self.folder = folder
        self.venue = venue
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("PIKER_")}
        self.env |= {"PIKER_CONFIG_DIR": str(folder), "PYTHONUNBUFFERED": "1"}

    def piker(self, *args: str, seconds: float = 40) -> subprocess.CompletedProcess[str]:
        """Run a command of this run to its end."""
        command = [script("piker"), *args]
        return subprocess.run(
            command, env=self.env, capture_output=True, text=True, timeout=seconds, check=False
        )

    @contextmanager
    def chart(self, *args: str) -> Iterator[str]:
        """Run `piker chart` and yield the address that it prints."""
        command = [script("piker"), "chart", "--no-browser", "--venue", self.venue, *args]
        with (self.folder / "chart.log").open("w") as errors:
            process = subprocess.Popen(
                command, env=self.env, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        assert process.stdout is not None
        with process.stdout:
            try:
                line = process.stdout.readline()
                found = re.search(r"http://\S+", line)
                assert found, (line, (self.folder / "chart.log").read_text())
                yield found[0]
            finally:
                process.send_signal(signal.SIGINT)
                assert process.wait(10) == 0

    def ask(self, path: str) -> Any:
        """Return the venue's own answer."""
        with urlopen(f"{self.venue}{path}", timeout=10) as answer:
            return json.load(answer)

    def pid(self, name: str) -> int:
        """Return the process id of a daemon."""
        rows = json.loads(self.piker("services", "--json").stdout)
        return next(row["pid"] for row in rows if row["name"] == name)


@contextmanager
def open_run(folder: Path, extra: str = "") -> Iterator[Run]:
    """A synthetic venue at real speed, and settings of a run on it; `extra` goes to conf.toml."""
    (folder / "conf.toml").write_text(CONF.format(port=free_port()) + extra)
    command = [script("piker"), "venue", "serve", "binance", "--synthetic", "--seed", "5", "--json"]
    venue = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert venue.stdout is not None
    with venue.stdout:
        try:
            yield Run(folder, json.loads(venue.stdout.readline())["url"])
        finally:
            venue.send_signal(signal.SIGINT)
            venue.wait(10)


@contextmanager
def open_browser() -> Iterator[Any]:
    """A running Chromium; the test is skipped where there is none."""
    chromium = chromium_or_none()
    if chromium is None:
        pytest.skip("no Chromium is installed: run `make browser` as root")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


class Tab:
    """One page of the chart; errors of its console fail the test at the end."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)

    def until(self, claim: str, argument: Any = None) -> dict[str, Any]:
        """Return the page's facts once the named claim holds."""
        return self.page.evaluate(UNTIL, [claim, argument])

    def facts(self) -> dict[str, Any]:
        """Return what the page says of itself, after the next paint."""
        return self.page.evaluate("piker.debug.painted().then(() => piker.debug.facts())")

    def wait(
        self, claim: Callable[[dict[str, Any]], Any], what: str, seconds: float = 20
    ) -> dict[str, Any]:
        """Return the first facts for which `claim` holds, asked every 20 ms."""
        end = time.monotonic() + seconds
        while not claim(facts := self.page.evaluate("piker.debug.facts()")):
            said = facts["messages"][-5:], facts["lines"], facts["desk"]
            assert time.monotonic() < end, f"not within {seconds} s: {what}; {said}"
            self.page.wait_for_timeout(20)
        return facts

    def bars(self, start: int, stop: int, rung: int) -> dict[int, list[float]]:
        """Return the page's own bars by open time."""
        self.until("held", [start, stop, rung])
        found = self.page.evaluate("(a) => window.piker.debug.bars(...a)", [start, stop, rung])
        return {int(b["t"]): [b[k] for k in "ohlcv"] for b in found}

    def shot(self, name: str) -> None:
        """Save what a person would see."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.evaluate("window.piker.debug.painted()")
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


@contextmanager
def open_tab(browser: Any, url: str, width: int = 1280, height: int = 720, scheme: str = "dark"):
    """Open a fresh window on the chart."""
    size = {"width": width, "height": height}
    context = browser.new_context(viewport=size, color_scheme=scheme)
    context.set_default_timeout(30_000)
    tab = Tab(context.new_page())
    tab.page.goto(url)
    yield tab
    context.close()
    assert tab.errors == []
