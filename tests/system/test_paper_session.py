"""
A paper session as its trader lives it: the demo, an order from the page and one from a terminal,
everything killed at once, and the next start.
"""

from __future__ import annotations

import os
import signal
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio

from system.browser import MARKET, Page, open_page
from system.harness import (
    discard_output,
    open_process,
    piker_json,
    processes_of,
    scripts,
    until,
)

pytestmark = [pytest.mark.tree, pytest.mark.browser, pytest.mark.timeout(180)]

TOP = 60  # of the page: in the margin above the highest price, below the header


@asynccontextmanager
async def open_demo(state: Path) -> AsyncIterator[str]:
    """Run the demo on a state folder that may have been used before; yields the page's address."""
    piker, _ = scripts()
    command = [*piker, "-c", str(state), "demo"]
    async with open_process(command, state, log=state.with_suffix(".demo.log")) as process:
        async with trio.open_nursery() as nursery:
            url = await read_address(process)
            nursery.start_soon(discard_output, process)
            yield url
            nursery.cancel_scope.cancel()


async def read_address(process: trio.Process) -> str:
    """Return the first address that the process prints."""
    assert process.stdout is not None
    text = ""
    with trio.fail_after(40):
        while True:
            chunk = await process.stdout.receive_some(65536)
            assert chunk, f"the demo ended: {text}"
            text += chunk.decode()
            if "http://" in text and text.endswith("\n"):
                return next(word for word in text.split() if word.startswith("http://"))


async def buy_on_page(page: Page) -> None:
    """Hold `f` and `s`, point above every price shown, click: a buy that the market takes."""

    def work(tab: Any) -> None:
        tab.mouse.move(500, 300)
        tab.keyboard.down("f")
        tab.keyboard.down("s")
        tab.mouse.move(500, TOP)
        tab.wait_for_timeout(500)  # the size on the chip is the allocator's answer
        tab.mouse.click(500, TOP)
        tab.keyboard.up("s")
        tab.keyboard.up("f")

    await page.call(work)


async def positions(state: Path) -> dict[str, Decimal]:
    """Return what the paper account holds, as the terminal says it."""
    return {row["fqme"]: Decimal(row["size"]) for row in await piker_json(state, "positions")}


async def orders_of(state: Path, owner: str) -> list[dict[str, Any]]:
    """Return the orders of an owner that go on."""
    return [row for row in await piker_json(state, "orders") if row["client_ref"] == owner]


def ledger(state: Path) -> dict[str, Any]:
    """Return the paper ledger's tables."""
    paths = list(state.glob("venues/*/accounting/ledgers/trades_binance_paper.toml"))
    assert len(paths) == 1, paths
    return tomllib.loads(paths[0].read_text(), parse_float=Decimal)


async def kill_all(state: Path) -> None:
    """SIGKILL every process of the run at once, and wait until they are gone."""
    for pid in processes_of(state):
        os.kill(pid, signal.SIGKILL)
    await until(lambda: not processes_of(state), "every process is gone")


async def test_a_paper_session_is_all_there_after_everything_was_killed(tmp_path: Path) -> None:
    state = tmp_path / "demo"
    async with open_demo(state) as url, open_page(url, needs_debug=False, has_windows=True) as page:
        await page.call(lambda tab: tab.wait_for_selector("text=live", timeout=20_000))
        await piker_json(state, "order", "buy", MARKET, "--size", "0.01", "--market")
        held = (await positions(state))[MARKET]
        assert held == Decimal("0.01")
        await buy_on_page(page)
        with trio.fail_after(15):
            while (now := (await positions(state))[MARKET]) == held:
                await trio.sleep(0.2)
        resting = await piker_json(state, "order", "buy", MARKET, "--size", "0.01",
                                   "--limit", "10000")  # fmt: skip
        await piker_json(state, "order", "sell", MARKET, "--size", "0.01",
                         "--stop", "9000", "--dark")  # fmt: skip
        before = await piker_json(state, "orders")
        assert {row["resp"] for row in before} == {"open", "dark_open"}
        await page.screenshot(tmp_path / "before.png")
        summary = await piker_json(state, "ledger", "binance")
        await kill_all(state)
    booked = ledger(state)
    assert sum(table["size"] for table in booked.values()) == now
    async with open_demo(state) as url, open_page(url, needs_debug=False, has_windows=True) as page:
        await page.call(lambda tab: tab.wait_for_selector("text=live", timeout=20_000))
        after = await piker_json(state, "orders")
        known = {row["oid"]: row["resp"] for row in before}
        assert {row["oid"]: row["resp"] for row in after} == known
        assert resting[0]["oid"] in known
        assert (await positions(state))[MARKET] == now
        again = await piker_json(state, "ledger", "binance")
        for was, row in zip(summary, again, strict=True):
            assert (row["size"], row["fees"]) == (was["size"], was["fees"])
        assert ledger(state) == booked
        await page.screenshot(tmp_path / "after.png")
        await piker_json(state, "cancel", "--all")
        assert not await piker_json(state, "orders")
