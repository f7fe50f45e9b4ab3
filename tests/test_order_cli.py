"""Orders from the terminal, as a person types them, on a local venue and a real tree."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import free_port

pytestmark = [pytest.mark.tree, pytest.mark.timeout(120)]

FQME = "btcusdt.spot.binance"
ETH = "ethusdt.spot.binance"
MAIN = "from piker._entry import {0}; {0}()"


class Desk:
    """One run and the commands of the person in front of it."""

    def __init__(self, folder: Path, venue: str) -> None:
        self.state = folder / "state"
        self.state.mkdir()
        shm = folder / "shm"
        shm.mkdir()
        self.env = {**os.environ, "PIKER_CONFIG_DIR": str(self.state), "PIKER_SHM_DIR": str(shm)}
        self.env.pop("PIKER_REGISTRY", None)
        self.venue = venue
        self.lasts: dict[str, float] = {}
        self.has_placed = False
        self.pikerd = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start `pikerd` on the venue and return once it answers."""
        with (self.state.parent / "pikerd.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", MAIN.format("pikerd"), "--port", str(free_port()),
                 "--venue", f"binance={self.venue}#desk"],
                env=self.env, stdout=log, stderr=log,
            )  # fmt: skip
        run_file = self.state / "run" / "run.json"
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if json.loads(run_file.read_text())["pid"] == process.pid:
                    return process
            except (OSError, ValueError):
                pass
            time.sleep(0.02)
        pytest.fail((self.state.parent / "pikerd.log").read_text()[-2000:])

    def popen(self, *command: str) -> subprocess.Popen[str]:
        """Start a command."""
        self.has_placed |= command[0] in ("order", "alerts")
        return subprocess.Popen(
            [sys.executable, "-c", MAIN.format("piker"), *command],
            env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *command: str) -> tuple[int, str, str]:
        """Run a command; return its exit code, what it printed and its complaint."""
        with self.popen(*command) as process:
            out, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        return process.returncode, out, err

    def rows(self, *command: str) -> list[dict[str, Any]]:
        """Return the rows that a command prints as JSON; it must succeed."""
        code, out, err = self.run(*command, "--json")
        assert (code, err) == (0, ""), err
        rows: list[dict[str, Any]] = json.loads(out)
        return rows

    def row(self, *command: str) -> dict[str, Any]:
        """Return the one row of a command."""
        (row,) = self.rows(*command)
        return row

    def refusal(self, *command: str, code: int = 1) -> str:
        """Return the one line of a command that must fail."""
        got, _, err = self.run(*command)
        assert (got, err.count("\n")) == (code, 1), err
        return err.strip().removeprefix("piker: ")

    def price(self, share: float, fqme: str = FQME) -> str:
        """Return a price at `share` of the last one when first asked, on the increment."""
        if fqme not in self.lasts:
            self.lasts[fqme] = self.row("quote", fqme)["last"]
        return f"{self.lasts[fqme] * share:.2f}"

    def cancel_all(self) -> None:
        """Leave no order behind."""
        if self.has_placed:
            self.run("cancel", "--all", "--json")
        self.has_placed = False

    def close(self) -> None:
        """End the run."""
        self.pikerd.send_signal(signal.SIGINT)
        try:
            self.pikerd.wait(10)
        except subprocess.TimeoutExpired:
            self.pikerd.kill()
            self.pikerd.wait()


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A local venue in a process of its own; yields its URL."""
    state = tmp_path_factory.mktemp("venue")
    serve = ["venue", "serve", "binance", "--synthetic", "--seed", "7", "--json"]
    with subprocess.Popen(
        [sys.executable, "-c", MAIN.format("piker"), *serve, "--state", str(state)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def module_desk(tmp_path_factory: pytest.TempPathFactory, venue: str) -> Iterator[Desk]:
    """A run for all tests of this module."""
    running = Desk(tmp_path_factory.mktemp("desk"), venue)
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def desk(module_desk: Desk) -> Iterator[Desk]:
    """The module's run, without open orders afterwards."""
    yield module_desk
    module_desk.cancel_all()


def test_an_order_at_the_market_is_filled_and_becomes_a_position(desk: Desk) -> None:
    row = desk.row("order", "buy", ETH, "--notional", "400", "--market")
    assert (row["state"], row["mode"], row["account"]) == ("closed", "paper", "paper")
    assert row["local"] == "desk"
    assert row["filled"] == row["size"]
    assert float(row["fees"]["usdt"]) > 0
    held = {one["fqme"]: one for one in desk.rows("positions")}
    assert held[ETH]["size"] == row["filled"]
    assert held[ETH]["average_price"] == row["average_price"]
    assert held[ETH]["unrealised"] is not None
    names = {one["name"] for one in desk.rows("services")}
    assert {"datad.binance", "emsd", "paperboi.binance"} <= names
    assert not [name for name in names if name.startswith("brokerd")]


def test_an_order_that_waits_is_listed_amended_and_cancelled(desk: Desk) -> None:
    limit, lower = desk.price(0.9), desk.price(0.89)
    row = desk.row("order", "buy", FQME, "--size", "0.002", "--limit", limit)
    assert row["state"] == "open"
    short = row["oid"][:8]
    listed = {one["oid"]: one for one in desk.rows("orders", FQME)}
    assert float(listed[row["oid"]]["price"]) == float(limit)
    amended = desk.row("amend", short, "--limit", lower, "--size", "0.003")
    assert amended["revision"] > row["revision"]
    assert (float(amended["price"]), amended["size"]) == (float(lower), "0.003")
    stale = desk.refusal("amend", short, "--limit", limit, "--revision", str(row["revision"]))
    assert "revision" in stale
    assert desk.row("cancel", short)["state"] == "canceled"
    assert row["oid"] not in {one["oid"] for one in desk.rows("orders")}
    assert "no open order begins with" in desk.refusal("cancel", short)


def test_a_table_marks_paper_and_local(desk: Desk) -> None:
    code, out, _ = desk.run("order", "buy", FQME, "--size", "0.002", "--limit", desk.price(0.9))
    assert code == 0
    assert "LOCAL venue desk" in out
    assert "PAPER LOCAL" in out


def test_a_rehearsal_sends_nothing(desk: Desk) -> None:
    row = desk.row("order", "buy", FQME, "--notional", "300", "--market", "--dry-run")
    assert row["state"] == "not sent"
    assert row["worth"].endswith("usdt")
    assert desk.rows("orders") == []


def test_what_piker_holds_is_said_and_listed_with_its_side(desk: Desk) -> None:
    low, high = desk.price(0.9), desk.price(1.1)
    code, out, _ = desk.run("order", "buy", FQME, "--size", "0.002", "--limit", low, "--dark")
    assert code == 0
    assert "only while piker runs" in out
    alert = desk.row("alerts", FQME, high)
    trail = desk.row("order", "sell", FQME, "--size", "0.002", "--trail", "5%")
    assert alert["state"] == trail["state"] == "dark_open"
    listed = {one["type"]: one for one in desk.rows("orders")}
    assert listed["dark limit"]["fires"] == "<="
    assert listed["alert"]["fires"] == ">="
    assert listed["dark trail 5%"]["fires"] == "<="
    assert [one["oid"] for one in desk.rows("alerts")] == [alert["oid"]]
    ended = desk.rows("cancel", "--all", "--market", FQME)
    assert {one["state"] for one in ended} == {"canceled"}


def test_the_exits_of_a_bracket_follow_their_entry(desk: Desk) -> None:
    low, high = desk.price(0.8), desk.price(1.2)
    bracket = ("--take-profit", high, "--stop-loss", low)
    entry, *exits = desk.rows("order", "buy", FQME, "--size", "0.002", "--market", *bracket)
    assert {one["type"] for one in exits} == {"dark stop", "dark take profit"}
    legs = [one for one in desk.rows("orders") if one.get("parent") == entry["oid"]]
    assert sorted(one["size"] for one in legs) == ["0.002", "0.002"]
    assert {one["state"] for one in legs} == {"dark_open"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--size", "0.1", "--limit", "50000"), "max_notional: was 5000"),
        (("--size", "0.01", "--limit", "50000.001"), "limit: was 50000.001, expected a multiple"),
        (("--size", "0.000001", "--limit", "50000"), "size: was 0.000001, expected a multiple"),
        (("--size", "0.001", "--market", "--live"), "binance is data-only: use paper mode"),
    ],
)
def test_a_refusal_is_one_line_that_names_what_and_which(
    desk: Desk, options: tuple[str, ...], words: str
) -> None:
    assert words in desk.refusal("order", "buy", FQME, *options)


def test_misuse_is_told_from_failure(desk: Desk) -> None:
    line = desk.refusal("order", "buy", FQME, "--size", "-1", "--market", code=2)
    assert "--size: was -1, expected above 0" in line
    assert "no market is named" in desk.refusal("order", "buy", "btcusd.spot.binance", "--size", "1", "--market")  # noqa: E501  # fmt: skip
    assert "expected either OIDs or --all" in desk.refusal("cancel", code=2)
    assert "nothing to change" in desk.refusal("amend", "abcd", code=2)


def test_an_order_that_is_waited_for_in_vain_stays(desk: Desk) -> None:
    wait = ("--wait", "fill", "--timeout", "0.5")
    line = desk.refusal("order", "buy", FQME, "--size", "0.002", "--limit", desk.price(0.9), *wait)
    assert "is open after 0.5 s; `piker cancel" in line
    assert len(desk.rows("orders")) == 1


def test_an_interrupt_says_what_stays(desk: Desk) -> None:
    limit = desk.price(0.9)
    with desk.popen(
        "order", "buy", FQME, "--size", "0.002", "--limit", limit, "--wait", "fill",
        "--timeout", "60",
    ) as waiting:  # fmt: skip
        deadline = time.monotonic() + 15
        while not desk.rows("orders") and time.monotonic() < deadline:
            pass
        waiting.send_signal(signal.SIGINT)
        _, err = waiting.communicate(timeout=10)
    assert waiting.returncode == 130
    assert "is open; it stays as it is" in err
    assert len(desk.rows("orders")) == 1


def test_the_switch_cancels_all_and_refuses_until_armed(desk: Desk) -> None:
    order = ("order", "buy", FQME, "--size", "0.002", "--limit", desk.price(0.9))
    assert desk.row(*order)["state"] == "open"
    stopped = desk.rows("kill", "--reason", "a test")
    assert {one["state"] for one in stopped} == {"stopped"}
    assert desk.rows("orders") == []
    line = desk.refusal(*order)
    assert "a test" in line
    assert {one["state"] for one in desk.rows("arm")} == {"armed"}
    assert desk.row(*order)["state"] == "open"


def test_a_paper_account_starts_over(desk: Desk) -> None:
    desk.row("order", "buy", ETH, "--notional", "100", "--market")
    assert "--yes: was missing" in desk.refusal("paper", "reset", "binance", code=2)
    row = desk.row("paper", "reset", "binance", "--balance", "25000", "--yes")
    assert row["broker"] == "binance"
    assert desk.rows("positions") == []


def test_orders_and_positions_outlive_a_kill_of_everything(
    tmp_path_factory: pytest.TempPathFactory, venue: str
) -> None:
    running = Desk(tmp_path_factory.mktemp("killed"), venue)
    try:
        bought = running.row("order", "buy", FQME, "--notional", "300", "--market")
        running.row("order", "sell", FQME, "--size", "0.001", "--limit", running.price(1.1))
        running.row("alerts", FQME, running.price(1.2))
        before = {one["oid"]: one["price"] for one in running.rows("orders")}
        for one in running.rows("services"):
            os.kill(one["pid"], signal.SIGKILL)
        running.pikerd.wait()
        running.pikerd = running.start()
        assert {one["oid"]: one["price"] for one in running.rows("orders")} == before
        (held,) = running.rows("positions")
        assert (held["size"], held["average_price"]) == (bought["filled"], bought["average_price"])
        assert len(running.rows("cancel", "--all")) == len(before)
    finally:
        running.close()
