"""Two pages and a terminal on one market: each sees and may amend one order, soon."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import trio

from piker.clearing import OrderClient, Status, TradesStream, open_ems
from piker.service import open_piker_runtime
from system.browser import MARKET, Page, open_page
from system.harness import (
    discard_output,
    is_soak,
    open_pikerd,
    open_process,
    open_venue,
    read_line,
    scripts,
)

pytestmark = [pytest.mark.tree, pytest.mark.browser]

# neither the venue's modelled latency nor the limit on orders a second is what is measured
CONF = '[paper]\nfill_model = "instant"\n[clearing]\norders_per_s = 0\n'
SEEN_MAX_S = 0.1
ROUNDS = 20 if is_soak() else 5

# resolves with the moment at which the page has the order at a price
SEES = """([oid, price]) => new Promise((resolve) => {
  const look = () => {
    const row = window.piker.debug.facts().orders.find((one) => one.oid === oid);
    if (row && row.state === 'open' && Number(row.price) === price) resolve(Date.now() / 1000);
    else setTimeout(look, 2);
  };
  look();
})"""
AMENDS = """(oid) => {
  const line = document.querySelector(`[data-line="${oid}"]`);
  line.focus();
  return document.activeElement === line;
}"""


@asynccontextmanager
async def open_chart_page(state: Path, log: Path) -> AsyncIterator[Page]:
    """A chart process of its own, and its page in a browser."""
    piker, _ = scripts()
    command = [*piker, "chart", MARKET, "--no-browser", "--debug-page"]
    async with open_process(command, state, log=log) as process:
        url = next(word for word in (await read_line(process)).split() if word.startswith("http"))
        async with trio.open_nursery() as nursery, open_page(url) as page:
            nursery.start_soon(discard_output, process)
            await page.until(lambda facts: facts["feed"] == "live", "the feed is live", 30)
            yield page
            nursery.cancel_scope.cancel()


class Terminal:
    """An order client, and its newest words."""

    def __init__(self, client: OrderClient, trades: TradesStream) -> None:
        self.client = client
        self.trades = trades

    async def until(self, oid: str, **wanted: Any) -> Status:
        """Return the first status of the order with these values."""
        with trio.fail_after(30):
            async for told in self.trades:
                if not isinstance(told, Status) or told.oid != oid:
                    continue
                if all(getattr(told, name) == value for name, value in wanted.items()):
                    return told
                assert not told.is_terminal, told
                assert not told.refused, told
        raise AssertionError("the stream ended")


async def seen_s(pages: list[Page], oid: str, price: Decimal, since: list[float]) -> float:
    """Return how long after `since[0]` the slower of the pages has the order at this price."""
    moments: list[float] = []

    async def watch(page: Page) -> None:
        moments.append(await page.evaluate(SEES, [oid, float(price)]))

    async with trio.open_nursery() as nursery:
        for page in pages:
            nursery.start_soon(watch, page)
    return max(moments) - since[0]


async def test_two_pages_and_a_terminal_see_and_amend_one_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / "conf.toml").write_text(CONF)
    monkeypatch.setenv("PIKER_CONFIG_DIR", str(state))
    async with (
        open_venue(tmp_path / "venue", "--synthetic", "--seed", "3") as venue,
        open_pikerd(state, venue),
        open_chart_page(state, tmp_path / "one.log") as one,
        open_chart_page(state, tmp_path / "two.log") as two,
        open_piker_runtime("terminal"),
        open_ems(MARKET) as (client, trades, _, _, _),
    ):
        pages, terminal = [one, two], Terminal(client, trades)
        for page in pages:  # they attach by themselves once emsd runs
            await page.until(lambda facts: (facts["desk"] or {}).get("state") == "ready", "orders")
        # well below the market, and on the axis of both pages: a line that is off it has no focus
        price = client.mkt.quantize(max([await low_price(page) for page in pages]), "price")
        order = client.order("buy", price, "0.002")
        await client.send(order)
        await terminal.until(order.oid, state="open")
        sees = await seen_s(pages, order.oid, price, [time.time()])
        amends = [await amend_s(terminal, pages, order.oid) for _ in range(ROUNDS)]
        from_page = [
            await amend_from_page_s(terminal, page, pages, order.oid)
            for page in pages
            for _ in range(ROUNDS // 2 + 1)
        ]
        print(f"seen {sees:.3f} s; amends {sorted(amends)}; from pages {sorted(from_page)}")
        assert sees < SEEN_MAX_S
        # a loaded machine is no failed test: the short form asks whether it can be so soon
        typical = median if is_soak() else min
        assert typical(amends) < SEEN_MAX_S
        assert typical(from_page) < SEEN_MAX_S
        await check_stale(terminal, pages, order.oid)


async def low_price(page: Page) -> float:
    """Drag the price axis until it shows more than twice as much; return a price near its end."""

    def drag(tab: Any) -> None:
        tab.mouse.move(1240, 150)
        tab.mouse.down()
        tab.mouse.move(1240, 400, steps=3)
        tab.mouse.up()

    def room(facts: dict[str, Any]) -> bool:
        view = facts["view"]
        depth = (facts["bid"] - view["lo"]) / (view["hi"] - view["lo"])
        return not view["autoY"] and depth > 0.25

    await page.call(drag)
    view = (await page.until(room, "room below the bid"))["view"]
    return float(view["lo"] + 0.06 * (view["hi"] - view["lo"]))


async def amend_s(terminal: Terminal, pages: list[Page], oid: str) -> float:
    """Amend from the terminal; return how soon both pages have it."""
    price = terminal.client.statuses[oid].req.price - Decimal("0.01")
    begun: list[float] = []

    async def amend() -> None:
        await trio.sleep(0.05)  # the pages watch by now
        begun.append(time.time())
        await terminal.client.update(oid, price=price)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(amend)
        took = await seen_s(pages, oid, price, begun)
    await terminal.until(oid, state="open")
    return took


async def amend_from_page_s(terminal: Terminal, page: Page, pages: list[Page], oid: str) -> float:
    """Amend by a tick from a page's keyboard; return how soon the terminal has it."""
    price = terminal.client.statuses[oid].req.price + Decimal("0.01")
    assert await page.evaluate(AMENDS, oid)
    await page.call(lambda tab: tab.keyboard.press("ArrowUp"))
    await page.until(lambda facts: has_level(facts, price), "the dotted line stands")
    begun = time.time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(page.call, lambda tab: tab.keyboard.press("Enter"))
        while True:
            status = await terminal.until(oid, state="open")
            if status.req is not None and status.req.price == price:
                break
    took = time.time() - begun
    await seen_s(pages, oid, price, [begun])
    return took


def has_level(facts: dict[str, Any], price: Decimal) -> bool:
    """Whether a line stands at this price on the page."""
    return any(line["level"] == float(price) for line in facts["lines"])


async def check_stale(terminal: Terminal, pages: list[Page], oid: str) -> None:
    """An amend of what the order was before the last amend is refused and changes nothing."""
    client = terminal.client
    before = client.statuses[oid]
    assert before.req is not None
    await client.update(oid, price=before.req.price - 1, revision=before.revision - 1)
    refused = await terminal.until(oid, refused="amend")
    assert "revision" in refused.reason
    assert (refused.revision, refused.resp) == (before.revision, "open")
    assert refused.req is not None
    assert refused.req.price == before.req.price
    await seen_s(pages, oid, before.req.price, [time.time()])
