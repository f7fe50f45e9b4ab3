"""
A real browser for tests that run on trio: one Chromium, driven from one thread of its own.

The same engine comes with and without windows; without, it takes half the work.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from piker.ui.snapshot import browser_or_none
from system.harness import (
    VenueProcess,
    discard_output,
    open_pikerd,
    open_process,
    open_venue,
    read_line,
    scripts,
)

MARKET = "btcusdt.spot.binance"

T = TypeVar("T")


def chromium_or_none() -> str | None:
    """Return the path of an installed Chromium, one without windows first; or None."""
    return shutil.which("chromium-headless-shell") or browser_or_none()


class Page:
    """One open tab; every method runs in the browser's thread and has a time limit."""

    def __init__(self, thread: ThreadPoolExecutor, page: Any) -> None:
        self._thread = thread
        self._page = page

    async def call(self, work: Callable[[Any], T], seconds: float = 30) -> T:
        """Run `work(page)` with the driver's page object."""
        return await in_thread(self._thread, lambda: work(self._page), seconds)

    async def evaluate(self, script: str, argument: Any = None) -> Any:
        """Return what a JavaScript expression or function yields."""
        return await self.call(lambda page: page.evaluate(script, argument))

    async def facts(self) -> dict[str, Any]:
        """Return what the page says of itself."""
        return await self.evaluate("() => window.piker.debug.facts()")

    async def until(
        self, claim: Callable[[dict[str, Any]], Any], what: str, seconds: float = 20
    ) -> dict[str, Any]:
        """Return the first facts for which `claim` holds, asked every 50 ms."""
        facts: dict[str, Any] = {}
        with trio.move_on_after(seconds):
            while True:
                facts = await self.facts()
                if claim(facts):
                    return facts
                await trio.sleep(0.05)
        raise AssertionError(f"not within {seconds} s: {what}; the page says {facts}")

    async def screenshot(self, path: Path) -> None:
        """Save what a person would see."""
        path.parent.mkdir(parents=True, exist_ok=True)
        await self.call(lambda page: page.screenshot(path=str(path)))


async def in_thread(thread: ThreadPoolExecutor, work: Callable[[], T], seconds: float = 30) -> T:
    """Run `work` in the one thread that may touch the browser."""
    with trio.fail_after(seconds):
        return await trio.to_thread.run_sync(
            lambda: thread.submit(work).result(), abandon_on_cancel=True
        )


@asynccontextmanager
async def open_page(
    url: str,
    *,
    width: int = 1280,
    height: int = 720,
    scheme: str = "dark",
    needs_debug: bool = True,
    has_windows: bool = False,
) -> AsyncIterator[Page]:
    """
    Open `url` in a headless Chromium; yields once the page has its debug interface.

    `has_windows`: in the browser that a person has, whole.
    """
    from playwright.sync_api import sync_playwright

    thread = ThreadPoolExecutor(max_workers=1)
    state: dict[str, Any] = {}
    browser = browser_or_none() if has_windows else chromium_or_none()

    def start() -> Any:
        state["driver"] = sync_playwright().start()
        state["browser"] = state["driver"].chromium.launch(
            executable_path=browser, args=["--no-sandbox"]
        )
        size = {"width": width, "height": height}
        page = state["browser"].new_page(viewport=size, color_scheme=scheme)
        page.goto(url)
        return page

    def stop() -> None:
        if "browser" in state:
            state["browser"].close()
        if "driver" in state:
            state["driver"].stop()

    try:
        page = Page(thread, await in_thread(thread, start, 60))
        with trio.fail_after(20):
            while needs_debug and not await page.evaluate(
                "() => !!(window.piker && window.piker.debug)"
            ):
                await trio.sleep(0.05)
        yield page
    finally:
        with trio.CancelScope(shield=True):
            await in_thread(thread, stop, 30)
        thread.shutdown(wait=False)


@asynccontextmanager
async def open_chart(tmp_path: Path) -> AsyncIterator[tuple[VenueProcess, Path, Page]]:
    """A chart of a synthetic market at real speed, open in a real browser."""
    piker, _ = scripts()
    state = tmp_path / "state"
    chart = [*piker, "chart", MARKET, "--no-browser", "--debug-page"]
    async with (
        open_venue(tmp_path / "venue", "--synthetic", "--seed", "3") as venue,
        open_pikerd(state, venue),
        open_process(chart, state, log=tmp_path / "chart.log") as process,
    ):
        url = next(w for w in (await read_line(process)).split() if w.startswith("http"))
        async with trio.open_nursery() as nursery, open_page(url) as page:
            nursery.start_soon(discard_output, process)
            await page.until(lambda facts: facts["feed"] == "live", "the feed is live", 30)
            yield venue, state, page
            nursery.cancel_scope.cancel()
