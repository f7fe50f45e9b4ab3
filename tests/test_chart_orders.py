"""
Trading from the page: a real browser, the private tree of `piker chart`, the paper engine.

Each order is clicked as a trader would; what the page shows is compared with what a terminal says.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from fixtures_chart import FQME, Run, Tab, open_browser, open_run, open_tab

pytestmark = [pytest.mark.browser, pytest.mark.tree, pytest.mark.timeout(180)]

AT_ONCE_MS = 100
HEADER_CSS = 40


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with open_run(tmp_path_factory.mktemp("orders"), '[ui.notify]\nfill = "sound"\n') as opened:
        yield opened


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as launched:
        yield launched


@pytest.fixture(scope="module")
def address(run: Run) -> Iterator[str]:
    with run.chart("--debug-page", FQME) as url:
        yield url
        run.piker("cancel", "--all", "--json")  # held orders would keep the private tree alive


@pytest.fixture(scope="module")
def tab(browser: Any, address: str) -> Iterator[Tab]:
    with open_tab(browser, address) as opened:
        opened.until("loaded")
        opened.until("feed", "live")
        make_room(opened)
        yield opened


def make_room(tab: Tab) -> None:
    """Bring prices far above and below the last one into view: nothing there fills by accident."""
    tab.page.mouse.move(1250, 300)
    for _ in range(5):
        tab.page.mouse.wheel(0, 120)
    tab.wait(lambda facts: not facts["view"]["autoY"], "room above and below")


def level(tab: Tab, share: float) -> float:
    """Return the price at a share of the plot's height above the last price (below: negative)."""
    facts = tab.facts()
    return facts["price"] + share * (facts["view"]["hi"] - facts["view"]["lo"])


def y_of(tab: Tab, price: float) -> float:
    """Return the window's row of a price."""
    t = tab.facts()["last"]["t"]
    return tab.page.evaluate("([t, p]) => piker.debug.xy(t, p).y", [t, price]) + HEADER_CSS


def place(tab: Tab, keys: str, price: float) -> str:
    """Click an order with keys held down; returns its oid once the page has its line."""
    facts = tab.facts()
    before = {one["oid"] for one in facts["orders"] + facts["fills"]}
    tab.page.mouse.move(400, y_of(tab, price))
    for key in keys:
        tab.page.keyboard.down(key)
    tab.wait(
        lambda facts: (
            facts["desk"]["state"] == "ready" and (keys == "a" or facts["stage"]["sized"])
        ),
        "the order is staged",
    )
    tab.page.mouse.down()
    tab.page.mouse.up()

    def new(facts: dict[str, Any]) -> set[str]:
        return {one["oid"] for one in facts["orders"] + facts["fills"]} - before

    facts = tab.wait(new, "a line")
    for key in reversed(keys):
        tab.page.keyboard.up(key)
    return new(facts).pop()


def state_of(facts: dict[str, Any], oid: str) -> str:
    """Return the state of an order on the page; '' when it has none."""
    return next((row["state"] for row in facts["orders"] if row["oid"] == oid), "")


def terminal(run: Run, *args: str) -> Any:
    """Return what a command prints with `--json`."""
    done = run.piker(*args, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rows_of(run: Run) -> dict[str, Any]:
    """Return the open orders of the terminal by oid."""
    return {row["oid"]: row for row in terminal(run, "orders")}


def names(run: Run) -> set[str]:
    """Return the daemons that run."""
    return {row["name"] for row in json.loads(run.piker("services", "--json").stdout)}


def cancel_all(tab: Tab) -> None:
    """Press `c` twice with the pointer off the lines."""
    if tab.facts()["orders"]:
        tab.page.mouse.move(400, 650)
        tab.page.keyboard.press("c")
        tab.page.keyboard.press("c")
        tab.wait(lambda facts: not facts["orders"], "all orders are cancelled")


def drag(tab: Tab, y0: float, y1: float, x: float = 600) -> None:
    """Press on a row and move to another one; the button stays down."""
    tab.page.mouse.move(x, y0)
    tab.page.mouse.down()
    tab.page.mouse.move(x, (y0 + y1) / 2)
    tab.page.mouse.move(x, y1)
    tab.facts()


def line_of(tab: Tab, oid: str) -> dict[str, Any]:
    """Return the line of an order."""
    return next(
        line for line in tab.facts()["lines"] if line["oid"] == oid and line["kind"] == "order"
    )


def test_nothing_of_the_order_path_runs_before_an_order_key(run, tab):
    assert tab.facts()["desk"]["state"] == "off"
    assert not [name for name in names(run) if name.startswith(("emsd", "paperboi", "brokerd"))]
    assert tab.page.inner_text("#header .mark.paper") == "PAPER"


def test_a_limit_order_rests_is_amended_by_a_drag_and_cancelled(run, tab):
    oid = place(tab, "fs", level(tab, -0.2))
    tab.wait(lambda facts: state_of(facts, oid) == "open", "the order rests", 30)
    line = line_of(tab, oid)
    assert float(rows_of(run)[oid]["price"]) == line["level"]
    drag(tab, line["y"] + HEADER_CSS, y_of(tab, level(tab, -0.3)))
    assert tab.facts()["hint"].startswith("release sends the change")
    tab.shot("order-drag-dark-1280x720")
    tab.page.mouse.up()
    tab.wait(
        lambda facts: any(
            row["oid"] == oid and row["state"] == "open" and row["revision"] == 2
            for row in facts["orders"]
        ),
        "the amend is in force",
    )
    moved = float(rows_of(run)[oid]["price"])
    assert moved == line_of(tab, oid)["level"] < line["level"]
    tab.page.mouse.move(600, y_of(tab, moved))
    tab.page.keyboard.press("c")
    tab.wait(lambda facts: not facts["orders"], "the order is cancelled")
    assert not rows_of(run)


def test_a_buy_through_the_market_fills_and_is_a_position(run, tab):
    place(tab, "fs", level(tab, 0.05))
    facts = tab.wait(lambda facts: facts["fills"] and not facts["orders"], "the fill", 30)
    facts = tab.wait(
        lambda facts: any(float(one["size"]) > 0 for one in facts["positions"]), "a position"
    )
    (held,) = terminal(run, "positions")
    (position,) = facts["positions"]
    assert float(position["size"]) == float(held["size"])
    shown, exact = Decimal(position["avg"]), Decimal(held["average_price"])
    assert shown == exact.quantize(shown)  # the page gets it with the digits that it shows
    assert sum(float(fill["size"]) for fill in facts["fills"]) == pytest.approx(float(held["size"]))
    assert [mark["side"] for mark in facts["marks"]] == ["buy"]
    assert facts["sounds"] == len(facts["fills"])
    line = next(line for line in facts["lines"] if line["kind"] == "position")
    assert line["words"] == ["long"]


def test_darks_alerts_and_a_bracket_are_held_by_emsd(run, tab):
    dark = place(tab, "d", level(tab, -0.25))
    alert = place(tab, "a", level(tab, 0.3))
    entry = place(tab, "fs", level(tab, -0.15))
    tab.wait(lambda facts: state_of(facts, entry) == "open", "the entry rests")
    for what, share in (("take_profit", 0.2), ("stop_loss", -0.35)):
        tab.page.mouse.move(500, line_of(tab, entry)["y"] + HEADER_CSS)
        box = tab.page.locator(f"[data-handle={what}]").first.bounding_box()
        drag(tab, box["y"] + 8, y_of(tab, level(tab, share)), box["x"] + 8)
        tab.page.mouse.up()
        tab.wait(
            lambda facts, what=what: any(
                row["order_type"] == {"take_profit": what, "stop_loss": "stop"}[what]
                and row["parent"] == entry
                for row in facts["orders"]
            ),
            f"a leg for {what}",
        )
    tab.page.keyboard.down("f")
    tab.shot("order-mode-dark-1280x720")
    tab.page.keyboard.up("f")
    rows = rows_of(run)
    assert len(rows) == 5
    assert {rows[dark]["state"], rows[alert]["state"]} == {"dark_open"}
    facts = tab.facts()
    assert {state_of(facts, dark), state_of(facts, alert)} == {"dark_open"}
    levels = {line["oid"]: line["level"] for line in facts["lines"] if line["kind"] == "order"}
    assert levels == {oid: float(row["price"]) for oid, row in rows.items()}


def test_the_paper_session_has_its_daemons_and_no_brokerd(run, tab):
    running = names(run)
    assert {"emsd", "paperboi.binance", "datad.binance"} <= running
    assert not [name for name in running if name.startswith("brokerd")]
    facts = tab.until("up", ["pikerd", "samplerd", "datad.binance", "emsd", "paperboi.binance"])
    assert {"name": "brokerd", "state": "none"} in [
        {"name": dot["name"], "state": dot["state"]} for dot in facts["daemons"]
    ]


def test_a_killed_emsd_is_told_and_every_line_comes_back(run, tab):
    before = {row["oid"] for row in tab.facts()["orders"]}
    os.kill(run.pid("emsd"), signal.SIGKILL)
    tab.wait(
        lambda facts: any("not connected" in line["words"] for line in facts["lines"]),
        "lines say that they are not connected",
    )
    tab.shot("emsd-lost-dark-1280x720")
    facts = tab.wait(
        lambda facts: (
            facts["desk"]["state"] == "ready"
            and not any("not connected" in line["words"] for line in facts["lines"])
        ),
        "emsd is back",
        30,
    )
    assert {row["oid"] for row in facts["orders"]} == before
    assert set(rows_of(run)) == before


def test_a_second_page_sees_and_amends_the_same_order_at_once(run, browser, tab):
    cancel_all(tab)
    tab.page.keyboard.press("Alt+n")
    facts = tab.wait(
        lambda facts: any("Address for another" in text for text in facts["messages"]), "an address"
    )
    url = next(text for text in facts["messages"] if "Address for another" in text).split()[-1]
    with open_tab(browser, url, scheme="light") as other:
        other.until("loaded")
        make_room(other)
        oid = place(tab, "fs", level(tab, -0.2))
        for each in (tab, other):
            each.wait(lambda facts: state_of(facts, oid) == "open", "both see it")
        line = line_of(other, oid)
        drag(other, line["y"] + HEADER_CSS, line["y"] + HEADER_CSS + 30)
        other.page.mouse.up()
        for each in (tab, other):
            each.wait(
                lambda facts: [row["revision"] for row in facts["orders"]] == [2],
                "both see the change",
            )
        other.page.keyboard.down("d")
        other.shot("order-mode-light-1280x720")
        other.page.keyboard.up("d")


def test_closing_the_position_takes_two_keys_and_one_order(run, tab):
    cancel_all(tab)
    tab.page.click(".order-line.position .close")
    assert tab.facts()["waits"].startswith("enter within")
    tab.page.keyboard.press("Enter")
    tab.wait(lambda facts: all(float(one["size"]) == 0 for one in facts["positions"]), "flat")
    assert not [row for row in terminal(run, "positions") if float(row["size"])]
    assert not [line for line in tab.facts()["lines"] if line["kind"] == "position"]


def test_stop_all_stops_the_page_and_the_terminal(run, tab):
    place(tab, "a", level(tab, 0.3))
    if not tab.facts()["side"]:
        tab.page.keyboard.press("Control+ ")
    tab.page.click("#side .stop")
    tab.page.keyboard.press("Enter")
    tab.wait(lambda facts: facts["desk"]["killed"] and not facts["orders"], "stopped")
    tab.shot("stopped-dark-1280x720")
    assert "piker arm" in tab.page.inner_text(".stopped")
    price = str(round(level(tab, -0.2), 2))
    refused = run.piker("order", "buy", FQME, "--size", "0.001", "--limit", price)
    assert refused.returncode == 1
    assert "stopped" in refused.stderr
    tab.page.click("#side .stop")
    tab.page.keyboard.press("Enter")
    tab.wait(lambda facts: not facts["desk"]["killed"] and not facts["gate"], "armed again")


def test_a_refusal_of_the_risk_gate_is_shown_in_full(run, tab):
    tab.page.mouse.move(400, y_of(tab, level(tab, -0.2)))
    tab.page.keyboard.down("s")
    tab.page.keyboard.press("2")
    tab.page.keyboard.up("s")
    tab.wait(lambda facts: facts["alloc"]["slots"] == 2, "two slots")
    for key in "fs":
        tab.page.keyboard.down(key)
    tab.wait(lambda facts: facts["stage"] and facts["stage"]["sized"], "staged")
    tab.page.mouse.down()
    tab.page.mouse.up()
    for key in "sf":
        tab.page.keyboard.up(key)
    facts = tab.wait(
        lambda facts: any("max_notional" in text for text in facts["messages"]), "the reason"
    )
    assert any("limit 2500" in text for text in facts["messages"])
    tab.wait(lambda facts: not facts["orders"], "the line is gone")
