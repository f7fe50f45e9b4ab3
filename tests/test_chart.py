"""
The chart as a trader has it: a venue, the private tree, `piker chart`, and a real browser.

Candles, prices and search results are read off the page and compared with the venue's own.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from helpers import free_port

from piker.ui.snapshot import browser_or_none

pytestmark = [pytest.mark.browser, pytest.mark.tree, pytest.mark.timeout(180)]

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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("chart")
    (folder / "conf.toml").write_text(CONF.format(port=free_port()))
    command = [script("piker"), "venue", "serve", "binance", "--synthetic", "--seed", "5", "--json"]
    venue = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert venue.stdout is not None
    with venue.stdout:
        try:
            yield Run(folder, json.loads(venue.stdout.readline())["url"])
        finally:
            venue.send_signal(signal.SIGINT)
            venue.wait(10)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = browser_or_none()
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


@pytest.fixture(scope="module")
def address(run: Run) -> Iterator[str]:
    """A chart with `--debug-page`, open for all tests; its address is good for one tab."""
    with run.chart("--debug-page", FQME) as url:
        yield url


@pytest.fixture(scope="module")
def tab(browser: Any, address: str) -> Iterator[Tab]:
    with open_tab(browser, address) as opened:
        opened.until("loaded")
        yield opened


def klines(run: Run, interval: str, count: int) -> dict[int, list[float]]:
    """Return the venue's newest closed bars by open time, seconds."""
    rows = run.ask(f"/api/v3/klines?symbol=BTCUSDT&interval={interval}&limit={count + 1}")[:-1]
    return {row[0] // 1000: [float(x) for x in row[1:6]] for row in rows}


def assert_same(ours: dict[int, list[float]], theirs: dict[int, list[float]]) -> None:
    assert set(ours) == set(theirs)
    for t, bar in theirs.items():
        assert ours[t] == pytest.approx(bar, rel=1e-12), t


@pytest.mark.parametrize(("interval", "rung"), [("1m", 60), ("5m", 300)])
def test_the_last_hundred_candles_are_the_venues_own(run, tab, interval, rung):
    tab.page.keyboard.type(interval)
    tab.page.keyboard.press("Enter")
    theirs = klines(run, interval, 100)
    ours = tab.bars(min(theirs), max(theirs) + rung, rung)
    assert len(theirs) == 100
    assert_same(ours, theirs)


def test_the_last_price_is_the_venues_own(run, tab):
    # both move: a price the page shows must be among what the venue says right before and after
    for _ in range(20):
        before = float(run.ask("/api/v3/ticker/price?symbol=BTCUSDT")["price"])
        shown = tab.page.evaluate("window.piker.debug.facts().price")
        after = float(run.ask("/api/v3/ticker/price?symbol=BTCUSDT")["price"])
        if before == after == shown:
            return
    pytest.fail(f"the page shows {shown}, the venue says {after}")


def test_search_finds_what_the_venue_lists(run, tab):
    tab.page.keyboard.press("/")
    tab.page.keyboard.type("eth")
    tab.page.wait_for_selector("text=ethusdt.spot.binance")
    listed = {row["symbol"].lower() for row in run.ask("/api/v3/exchangeInfo")["symbols"]}
    shown = set(re.findall(r"(\w+)\.spot\.binance", tab.page.inner_text("body")))
    assert "ethusdt" in shown
    assert shown <= listed
    assert {name for name in listed if "eth" in name} <= shown
    tab.page.keyboard.press("Escape")


def test_the_page_marks_a_local_venue_and_a_live_feed(tab):
    tab.until("feed", "live")
    facts = tab.until("up", ["pikerd", "samplerd", "datad.binance"])
    assert facts["mark"] == "LOCAL"
    states = {dot["name"]: dot["state"] for dot in facts["daemons"]}
    assert states == {
        "pikerd": "up", "samplerd": "up", "datad.binance": "up", "emsd": "none", "brokerd": "none",
    }  # fmt: skip


def test_a_chart_session_runs_no_brokerd_and_no_emsd(run, tab):
    names = {row["name"] for row in json.loads(run.piker("services", "--json").stdout)}
    assert {"pikerd", "samplerd", "datad.binance", "chart"} <= names
    assert not [name for name in names if name.startswith(("brokerd", "emsd"))]


def test_an_address_is_good_for_one_window(browser, address, tab):
    with open_tab(browser, address) as second:
        second.page.wait_for_selector("text=This address was used, is too old")
    tab.page.reload()  # the tab's own secret goes on
    tab.until("loaded")


def test_a_killed_datad_is_told_and_its_gap_filled(run, tab):
    tab.page.keyboard.type("1s")
    tab.page.keyboard.press("Enter")
    tab.until("feed", "live")
    os.kill(run.pid("datad.binance"), signal.SIGKILL)
    tab.until("not_live")
    tab.shot("stale-dark-1280x720")
    tab.until("feed", "live")
    theirs = klines(run, "1s", 60)
    stop = max(theirs) - 3  # the newest seconds may still be on their way
    theirs = {t: bar for t, bar in theirs.items() if t < stop}
    wait = "([t0, t1]) => window.piker.debug.bars(t0, t1, 1)"
    for _ in range(100):
        found = tab.page.evaluate(wait, [min(theirs), stop])
        ours = {int(b["t"]): [b[k] for k in "ohlcv"] for b in found}
        if all(ours.get(t) == pytest.approx(bar, rel=1e-9) for t, bar in theirs.items()):
            break
        tab.page.wait_for_timeout(50)
    assert_same(ours, theirs)
    tab.page.keyboard.type("1m")
    tab.page.keyboard.press("Enter")


def test_a_killed_private_pikerd_is_started_again(run, tab):
    os.kill(run.pid("pikerd"), signal.SIGKILL)
    tab.until("not_live")
    tab.until("feed", "live")
    tab.until("up", ["pikerd", "samplerd", "datad.binance"])


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize(("width", "height"), [(1280, 720), (2560, 1440)])
def test_screenshots_are_taken_for_a_look(run, browser, scheme, width, height):
    with run.chart("--debug-page", FQME) as url:
        with open_tab(browser, url, width, height, scheme) as opened:
            opened.until("loaded")
            opened.until("feed", "live")
            opened.shot(f"live-{scheme}-{width}x{height}")


def test_without_the_flag_the_page_cannot_be_read_by_scripts(run, browser):
    with run.chart(FQME) as url, open_tab(browser, url) as opened:
        opened.page.wait_for_selector("text=BTCUSDT")
        assert opened.page.evaluate("window.piker === undefined")


def test_two_markets_are_shown_together(run, browser):
    with run.chart("--debug-page", FQME, "ethusdt.spot.binance") as url:
        with open_tab(browser, url) as opened:
            opened.until("loaded")
            opened.page.wait_for_selector("text=ETHUSDT")
            opened.shot("overlay-dark-1280x720")


def test_a_snapshot_is_a_picture_of_the_page(run, browser):
    target = run.folder / "chart.png"
    done = run.piker("chart", "--venue", run.venue, "--snapshot", str(target), FQME)
    assert done.returncode == 0, done.stderr
    assert target.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert target.stat().st_size > 20_000


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    """Return the single line that a refused command says."""
    assert done.returncode == code, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("piker:")]
    assert len(said) == 1
    assert "Traceback" not in done.stderr
    return said[0]


def test_an_unknown_market_gets_the_closest_names(run):
    done = run.piker("chart", "--no-browser", "--venue", run.venue, "btcusdtt.spot.binance")
    said = one_line(done, 1)
    assert 'No market "btcusdtt.spot.binance"' in said
    assert "http://" not in done.stdout
    assert FQME in said


def test_what_is_no_address_is_misuse(run):
    assert "btcusdt" in one_line(run.piker("chart", "btcusdt"), 2)


def test_another_venue_than_the_runs_is_refused(run, address):
    done = run.piker("chart", "--no-browser", "--venue", "http://127.0.0.1:1", FQME)
    assert "venue of binance" in one_line(done, 1)


def test_a_port_in_use_is_said_in_one_line(run, address):
    port = re.search(r":(\d+)/", address)
    assert port
    done = run.piker("chart", "--no-browser", "--port", port[1], FQME)
    assert port[1] in one_line(done, 1)
