"""
What a chart session is made of: which processes run, and how soon the first candle is there.
"""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
import trio

from system.browser import open_page
from system.harness import (
    discard_output,
    is_soak,
    leftovers,
    open_pikerd,
    open_process,
    open_venue,
    piker_json,
    processes_of,
    read_line,
    run_file,
    scripts,
    until,
)

pytestmark = [pytest.mark.tree, pytest.mark.browser]

MARKET = "btcusdt.spot.binance"


async def test_a_chart_session_runs_no_brokerd(tmp_path: Path) -> None:
    piker, _ = scripts()
    state = tmp_path / "state"
    async with (
        open_venue(tmp_path / "venue", "--synthetic", "--seed", "4") as venue,
        open_pikerd(state, venue),
        open_process(
            [*piker, "chart", MARKET, "--no-browser", "--debug-page"],
            state,
            log=tmp_path / "chart.log",
        ) as chart,
    ):
        url = next(w for w in (await read_line(chart)).split() if w.startswith("http"))
        async with open_page(url) as page:
            await page.until(lambda facts: facts["bars_in_view"] > 100, "candles are painted")
            rows = await piker_json(state, "services")
            names = {row["name"] for row in rows if not row["name"].startswith("piker_query")}
            assert names == {"pikerd", "samplerd", "datad.binance", "chart"}
            assert not any("brokerd" in command for command in processes_of(state).values())
            assert all(row["state"] == "ready" for row in rows)


async def first_candle_s(state: Path, venue_url: str, log: Path) -> float:
    """
    Return seconds from exec of `piker chart` (no pikerd runs) to the first painted candle.

    The browser is open before: only the page is new.
    """
    piker, _ = scripts()
    command = [*piker, "chart", MARKET, "--no-browser", "--debug-page", "--venue", venue_url]
    async with open_page("about:blank", needs_debug=False) as page:
        began = trio.current_time()
        async with open_process(command, state, log=log) as chart, trio.open_nursery() as nursery:
            url = next(w for w in (await read_line(chart)).split() if w.startswith("http"))
            nursery.start_soon(discard_output, chart)
            await page.call(lambda tab: tab.goto(url, wait_until="commit"))
            await page.evaluate(
                """async () => {
                    const late = new Promise((_, fail) =>
                        setTimeout(() => fail(new Error("no candle within 25 s")), 25000));
                    const painted = async () => {
                        while (!(window.piker && window.piker.debug)) {
                            await new Promise((done) => setTimeout(done, 5));
                        }
                        await window.piker.debug.ready;
                    };
                    await Promise.race([painted(), late]);
                }"""
            )
            took = trio.current_time() - began
            nursery.cancel_scope.cancel()
    return took


async def test_the_first_candle_is_soon_there(tmp_path: Path) -> None:
    state = tmp_path / "state"
    times = []
    async with open_venue(tmp_path / "venue", "--synthetic", "--seed", "4") as venue:
        async with open_pikerd(state, venue):  # puts history on disk
            await piker_json(state, "bars", MARKET, "-n", "100")
            await until(lambda: list(state.rglob("*.parquet")), "history is on disk", 30)
        for _ in range(6 if is_soak() else 2):
            times.append(await first_candle_s(state, venue.url, tmp_path / "chart.log"))
            run = run_file(state)
            if run is not None:
                await until(
                    lambda run=run: not leftovers(state, run["run_id"]),
                    "the private pikerd ends after its last client",
                    6,
                )
    print(f"first candle: median {statistics.median(times[1:]):.2f} s of {times}")
    assert all(took < 30 for took in times)
