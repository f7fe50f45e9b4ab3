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
from collections.abc import Iterator
from typing import Any

import pytest
from fixtures_chart import FQME, Run, Tab, open_browser, open_run, open_tab

pytestmark = [pytest.mark.browser, pytest.mark.tree, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with open_run(tmp_path_factory.mktemp("chart")) as opened:
        yield opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as launched:
        yield launched


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
