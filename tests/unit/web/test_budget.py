"""The request budget: shares, windows, refusals, and that every process sees the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from piker import clock
from piker.errors import ConfigError, DataThrottle
from piker.web.budget import SHARES, Budget, open_budget, parse_retry_after


@pytest.fixture
def budget(tmp_path: Path) -> Iterator[Budget]:
    with open_budget("venue", 100, folder=tmp_path) as budget:
        yield budget


@pytest.fixture(autouse=True)
def still_clock() -> Iterator[None]:
    """Hold the run's clock ten seconds into a minute."""
    spec = clock.ClockSpec(1_790_000_050 * clock.NS, 1 << 62, 1.0)
    clock.use_source(lambda: spec)
    yield
    clock.use_source(lambda: None)


async def test_a_class_fills_its_share_only(budget: Budget) -> None:
    await budget.take("search", 50)
    with pytest.raises(DataThrottle, match="class search is used up"):
        await budget.take("search", 10, timeout_s=0)
    await budget.take("history", 20)
    with pytest.raises(DataThrottle):
        await budget.take("history", 5, timeout_s=0)
    await budget.take("cancel", 30)
    with pytest.raises(DataThrottle) as caught:
        await budget.take("cancel", 1, timeout_s=0)
    assert caught.value.retry_after_s == 60 - 1_790_000_050 % 60


async def test_a_new_minute_of_the_run_is_a_new_window(budget: Budget) -> None:
    await budget.take("cancel", 100)
    later = clock.ClockSpec(1_790_000_050 * clock.NS + 60 * clock.NS, 1 << 62, 1.0)
    clock.use_source(lambda: later)
    await budget.take("search", 55)


async def test_a_fast_run_waits_less(budget: Budget) -> None:
    fast = clock.ClockSpec(1_790_000_000 * clock.NS, clock.monotonic_ns(), 10_000.0)
    clock.use_source(lambda: fast)
    with trio.fail_after(5):
        for _ in range(5):
            await budget.take("cancel", 90)
    assert budget.statistics().taken == 450


async def test_a_request_over_its_share_goes_out_alone(budget: Budget) -> None:
    await budget.take("search", 80)
    with pytest.raises(DataThrottle):
        await budget.take("search", 80, timeout_s=0)


async def test_the_venues_own_count_corrects_ours_upwards(budget: Budget) -> None:
    await budget.correct(99)
    await budget.correct(5)
    await budget.correct(-1)
    assert budget.statistics().used == 99
    with pytest.raises(DataThrottle):
        await budget.take("cancel", 2, timeout_s=0)


async def test_a_refusal_closes_its_class_and_those_below(budget: Budget) -> None:
    await budget.close_class("reconcile", 38)
    for kind in ("reconcile", "history", "search"):
        with pytest.raises(DataThrottle) as caught:
            await budget.take(kind, 1, timeout_s=0)
        assert 37 < caught.value.retry_after_s <= 38
    await budget.take("order", 1)
    await budget.close_class("order", 5, everything=True)
    with pytest.raises(DataThrottle):
        await budget.take("cancel", 1, timeout_s=0)


async def test_a_short_wait_is_waited(budget: Budget) -> None:
    await budget.close_class("search", 0.05)
    with trio.fail_after(2):
        await budget.take("search", 1)
    assert budget.statistics().waits == 1


async def test_every_process_shares_the_page(budget: Budget, tmp_path: Path) -> None:
    spec = clock.spec()
    script = f"""
import trio
from pathlib import Path
from piker import clock
from piker.web.budget import open_budget
spec = clock.parse_spec({str(spec)!r})
clock.use_source(lambda: spec)
async def main():
    with open_budget("venue", 100, folder=Path({str(tmp_path)!r})) as budget:
        for _ in range(40):
            await budget.take("cancel", 1)
        await budget.close_class("search", 50)
trio.run(main)
"""
    run = [sys.executable, "-W", "ignore", "-c", script]
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(lambda: trio.to_thread.run_sync(lambda: subprocess.check_call(run)))
    await budget.take("cancel", 1)
    assert budget.statistics().used == 81
    with pytest.raises(DataThrottle):
        await budget.take("search", 1, timeout_s=0)


async def test_budgets_of_other_venues_and_keys_are_apart(budget: Budget, tmp_path: Path) -> None:
    await budget.take("cancel", 100)
    with open_budget("other", 100, folder=tmp_path) as other:
        await other.take("cancel", 100)
    with open_budget("venue", 100, key="abc", folder=tmp_path) as other:
        await other.take("cancel", 100)


@pytest.mark.parametrize("content", [b"\xff" * 4096, b"", b"\x01" * 10])
async def test_a_garbled_page_is_a_fresh_one(tmp_path: Path, content: bytes) -> None:
    with open_budget("venue", 100, folder=tmp_path):
        pass
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    with open_budget("venue", 100, folder=tmp_path) as budget:
        await budget.take("cancel", 100)


def test_a_folder_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ConfigError, match="make the folder writable"):
        with open_budget("venue", 100, folder=tmp_path / "run"):
            pass


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("38", 38),
        (" 1.5 ", 1.5),
        ("0", 0.1),
        (None, 7),
        ("", 7),
        ("-5", 7),
        ("nan", 7),
        ("1e9", 7),
        ("9" * 50, 7),
        ("999999999", 259_200),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 7),
        ("\u0663", 7),
    ],
)
def test_retry_after_is_never_absurd(text: str | None, seconds: float) -> None:
    assert parse_retry_after(text, 7) == seconds


def test_classes_stand_in_the_order_of_importance() -> None:
    assert list(SHARES) == ["cancel", "order", "reconcile", "history", "search"]
    assert list(SHARES.values()) == sorted(SHARES.values(), reverse=True)
