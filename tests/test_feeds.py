"""
Live feeds through a real tree against a local venue in a process of its own.

The venue's own REST answers are the truth that bars are compared with.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from decimal import Decimal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import trio
from backends.recordings import recordings
from fixtures_feeds import (
    arm,
    clear_faults,
    fetch_klines,
    known_rows,
    newest_trade,
    open_market_tree,
    plain_rows,
    wait_for,
)
from helpers import ensure_service

from piker.data.feed import install_datad_search, maybe_open_feed, open_feed
from piker.errors import ServiceUnavailable, SymbolNotFound
from piker.model.bars import PARTIAL
from piker.model.ticks import BAR, FEED_DOWN, FEED_LIVE, GAP, STATE, TRADE
from piker.service import check_for_service

pytestmark = pytest.mark.tree

BTC = "btcusdt.spot.binance"
ETH = "ethusdt.spot.binance"
SYNTHETIC = ("--synthetic", "--seed", "7")


async def test_multi_fqsn_feed(tmp_path: Path) -> None:
    async with open_market_tree(tmp_path, *SYNTHETIC) as (venue, _):
        async with open_feed([BTC, ETH], tick_throttle=40) as feed:
            assert set(feed.flumes) == {BTC, ETH}
            seen = {fqme: 0 for fqme in feed.flumes}
            stream = feed.streams["binance"]
            for _ in seen:
                with trio.fail_after(0.5):
                    [(fqme, quote)] = (await stream.receive()).items()
                seen[fqme] += 1
                assert quote["last"] == feed.flumes[fqme].first_quote["last"]
            with trio.fail_after(20):
                while sum(seen.values()) < 60 or min(seen.values()) < 2:
                    for fqme, quote in (await stream.receive()).items():
                        seen[fqme] += 1
                        assert math.isfinite(quote["last"])
                        assert quote["bid"] < quote["ask"]
            for flume in feed.flumes.values():
                assert flume.rt_shm.last_row() is not None
                assert flume.hist_shm.last_row() is not None
                assert len(flume.l2.read().bids) == 20
            await ensure_service("datad.binance")
            await ensure_service("samplerd")
            assert await check_for_service("brokerd.binance") is None
            for period_s in (1, 60):
                await _compare_last_bars(venue.url, feed.flumes[BTC], period_s)


async def _compare_last_bars(url: str, flume, period_s: int) -> None:
    rows = await wait_for(partial(known_rows, flume, period_s, 100), f"100 bars of {period_s} s")
    first_s, last_s = int(rows["time"][0]), int(rows["time"][-1])
    assert np.all(np.diff(rows["time"]) == period_s)
    klines = await fetch_klines(url, "BTCUSDT", period_s, first_s, last_s + period_s)
    assert plain_rows(rows) == klines


async def test_pausing_a_feed_stops_its_quotes_and_resuming_goes_on(tmp_path: Path) -> None:
    async with open_market_tree(tmp_path, *SYNTHETIC) as _, open_feed([BTC]) as feed:
        stream = feed.streams["binance"]
        for _ in range(5):
            await stream.receive()
        await feed.pause()
        with trio.move_on_after(0.5):
            await stream.receive()  # at most what was under way
        with trio.move_on_after(1.0) as silence:
            await stream.receive()
        assert silence.cancelled_caught
        await feed.resume()
        with trio.fail_after(5):
            await stream.receive()


async def test_unknown_market_names_the_closest_ones(tmp_path: Path) -> None:
    async with open_market_tree(tmp_path, *SYNTHETIC):
        with pytest.raises(SymbolNotFound) as caught:
            async with open_feed(["btcusd.spot.binance"]):
                pass
        assert any("btcusdt" in match.lower() for match in caught.value.matches)


async def test_search_answers_belong_to_their_request(tmp_path: Path) -> None:
    async with open_market_tree(tmp_path, *SYNTHETIC), install_datad_search("binance") as search:
        with trio.move_on_after(0):
            await search("sol")
        found: dict[str, str] = {}

        async def ask(text: str) -> None:
            found[text] = (await search(text))[0]["fqme"]

        async with trio.open_nursery() as nursery:
            for text in ("btc", "eth"):
                nursery.start_soon(ask, text)
        assert found == {"btc": BTC, "eth": ETH}


async def test_a_venue_out_of_reach_is_an_error_with_its_cause(tmp_path: Path) -> None:
    async with open_market_tree(tmp_path, *SYNTHETIC) as (venue, _):
        venue.process.send_signal(signal.SIGSTOP)
        try:
            with trio.fail_after(25), pytest.raises(ServiceUnavailable, match="no first quote"):
                async with open_feed([BTC]):
                    pass
        finally:
            venue.process.send_signal(signal.SIGCONT)


async def test_feed_of_one_actor_is_shared_and_ends_with_its_last_user(tmp_path: Path) -> None:
    async with open_market_tree(tmp_path, *SYNTHETIC):
        async with maybe_open_feed([BTC]) as one, maybe_open_feed([BTC], tick_throttle=5) as two:
            assert one.flumes[BTC] is two.flumes[BTC]
            assert one.streams["binance"] is not two.streams["binance"]
            for feed in (one, two):
                with trio.fail_after(5):
                    assert BTC in await feed.streams["binance"].receive()
        async with maybe_open_feed([BTC]) as again:
            assert again.flumes[BTC] is not one.flumes[BTC]


# ---- replay of a recording ----------------------------------------------------------------


async def test_recording_replayed_at_50x_gives_every_trade_and_the_twelve_minutes(
    tmp_path: Path,
) -> None:
    data = recordings()
    verified = json.loads((data / "VERIFIED.json").read_text())
    expected = verified["binance spot btcusdt 2024-08-08/09"]
    tapes = [f"--tape={data / name}" for name in expected["files"]]
    options = (*tapes, "--speed", "60", "--start-in", "10")
    async with (
        open_market_tree(tmp_path, *options, seconds=120) as (_, _),
        open_feed([BTC], start_stream=False) as feed,
    ):
        flume = feed.flumes[BTC]
        tids: list[int] = []
        closes: list[int] = []
        async with flume.open_ticks(0.05) as ticks:
            with trio.fail_after(60):
                while len(tids) < expected["trades"]:
                    records = await anext(ticks)
                    assert not np.any(records["type"] == GAP)
                    tids += records["tid"][records["type"] == TRADE].tolist()
                    minutes = (records["type"] == BAR) & (records["flags"] == 60)
                    closes += (records["time_venue_ns"][minutes] // 10**9).tolist()
        assert tids == list(range(tids[0], tids[0] + expected["trades"]))
        bars = expected["ohlcv_1m_from_trades"]
        times = [bar[0] // 1000 for bar in bars]
        rows = await wait_for(
            lambda: (
                None
                if np.any(
                    (rows := flume.hist_shm.slice_time(times[0], times[-1] + 60))["flags"] & PARTIAL
                )
                or len(rows) < 12
                else rows
            ),
            "twelve known minutes",
        )
        tick = flume.mkt.size_tick
        for row, bar in zip(rows, bars, strict=True):
            assert int(row["time"]) * 1000 == bar[0]
            assert [float(row[name]) for name in ("open", "high", "low", "close")] == bar[1:5]
            assert Decimal(str(row["volume"])).quantize(tick) == Decimal(str(bar[5])).quantize(tick)
            assert int(row["count"]) == bar[6]
        assert closes == sorted(set(closes))


# ---- faults -------------------------------------------------------------------------------


async def test_killed_datad_comes_back_under_its_consumer_without_a_missing_bar(
    tmp_path: Path,
) -> None:
    async with (
        open_market_tree(tmp_path, *SYNTHETIC) as (venue, services),
        open_feed([BTC]) as feed,
    ):
        flume = feed.flumes[BTC]
        first_generation = flume.generation
        async with flume.open_ticks() as ticks, flume.open_events() as events:
            for _ in range(5):
                await anext(ticks)
            before_s = flume.rt_shm.last(1)["time"][0]
            os.kill(services.service_tasks["datad.binance"].pid, signal.SIGKILL)
            told = []
            with trio.fail_after(8):
                async for event in events:
                    told.append(event["event"])
                    if event["event"] == "reattached":
                        break
                while True:
                    batch = await anext(ticks)
                    if np.any((batch["type"] == GAP) & (batch["tid"] == -1)):
                        break
            with trio.fail_after(60):  # the market may pause for half a minute
                while not np.any((await anext(ticks))["type"] == TRADE):
                    pass
            assert "state" in told
        assert flume.generation != first_generation
        assert feed.reopened == 1
        with trio.fail_after(5):
            while not (await feed.streams["binance"].receive())[BTC].get("ticks"):
                pass
        await _compare_last_bars(venue.url, flume, 1)
        assert known_rows(flume, 1, 100)["time"][0] < before_s
        segments = [path.name for path in Path("/dev/shm").glob(f"piker.*datad.binance.{BTC}*")]
        assert sum(".rt." in name for name in segments if _is_ours(name, flume)) == 1


def _is_ours(name: str, flume) -> bool:
    return name.split(".")[1] == Path(flume.message["ring"]["path"]).name.split(".")[1]


async def test_lost_connection_is_said_and_its_trades_are_recovered(tmp_path: Path) -> None:
    async with (
        open_market_tree(tmp_path, *SYNTHETIC) as (venue, _),
        open_feed([BTC], start_stream=False) as feed,
    ):
        flume = feed.flumes[BTC]
        tids: list[int] = []
        states: list[int] = []
        is_filled = trio.Event()
        async with flume.open_ticks() as ticks, flume.open_events() as events:

            async def read_events() -> None:
                async for event in events:
                    if event["event"] == "gap" and event["filled"]:
                        is_filled.set()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_events)
                while len(tids) < 5:
                    _take(await anext(ticks), tids, states)
                # Refused until a trade is missed: the market may pause for half a minute.
                await arm(venue.url, kind="status", path="/stream", status=503, count=-1)
                await arm(venue.url, kind="close", where="socket", count=1)
                while FEED_DOWN not in states:
                    _take(await anext(ticks), tids, states)
                with trio.fail_after(60):
                    while await newest_trade(venue.url, "BTCUSDT") == max(tids):
                        await trio.sleep(0.1)
                await clear_faults(venue.url)
                with trio.fail_after(20):
                    while not is_filled.is_set():
                        _take(await anext(ticks), tids, states)
                nursery.cancel_scope.cancel()
        assert FEED_DOWN in states
        assert states[-1] == FEED_LIVE
        assert sorted(tids) == list(range(min(tids), max(tids) + 1))
        assert len(set(tids)) == len(tids)
        await _compare_last_bars(venue.url, flume, 1)


def _take(records: np.ndarray, tids: list[int], states: list[int]) -> None:
    tids += records["tid"][records["type"] == TRADE].tolist()
    states += records["flags"][records["type"] == STATE].tolist()


async def test_refused_history_is_said_and_filled_in_once_the_venue_answers(
    tmp_path: Path,
) -> None:
    async with open_market_tree(tmp_path, *SYNTHETIC) as (venue, _):
        await arm(venue.url, kind="status", path="/api/v3/klines", status=503, count=-1)
        with trio.fail_after(45):
            async with open_feed([BTC], start_stream=False) as feed:
                flume = feed.flumes[BTC]
                assert flume.load[1]["cause"]
                await clear_faults(venue.url)
                await wait_for(lambda: flume.load[1]["done"], "history", seconds=30)
                await _compare_last_bars(venue.url, flume, 1)


async def test_killed_samplerd_costs_no_bar(tmp_path: Path) -> None:
    async with (
        open_market_tree(tmp_path, *SYNTHETIC) as (venue, services),
        open_feed([ETH], start_stream=False) as feed,
    ):
        flume = feed.flumes[ETH]
        await ensure_service("samplerd")
        await wait_for(lambda: flume.rt_shm.last_row() is not None, "a first row")
        begun_s = int(flume.rt_shm.last(1)["time"][0])
        os.kill(services.service_tasks["samplerd"].pid, signal.SIGKILL)
        await wait_for(
            lambda: int(flume.rt_shm.last(1)["time"][0]) > begun_s + 5, "rows after the kill"
        )
        rows = await wait_for(partial(known_rows, flume, 1, 60), "60 known rows")
        klines = await fetch_klines(
            venue.url, "ETHUSDT", 1, int(rows["time"][0]), int(rows["time"][-1]) + 1
        )
        assert plain_rows(rows) == klines


CONSUMER = """
import json, sys
import trio
from piker.data.feed import open_feed
from piker.model.ticks import GAP
from piker.service import open_piker_runtime

FQME = sys.argv[1]

async def main():
    async with open_piker_runtime("slow_consumer"), open_feed([FQME], tick_throttle=20) as feed:
        flume = feed.flumes[FQME]
        async with flume.open_ticks() as ticks, trio.open_nursery() as nursery:
            nursery.start_soon(read_ring, ticks)
            async for quotes in feed.streams["binance"]:
                quote = quotes[FQME]
                if quote.get("resumed"):
                    say(resumed=True, lost=quote["lost"], last=quote["last"])
                elif quote.get("ticks"):
                    say(alive=True)

async def read_ring(ticks):
    last = None
    async for records in ticks:
        gaps = records[records["type"] == GAP]
        rest = records[records["type"] != GAP]
        if len(gaps):
            say(gaps=len(gaps), lost=int(gaps["tid"][0]), missing=int(rest["seq"][0]) - last - 1)
        last = int(rest["seq"][-1]) if len(rest) else last

def say(**facts):
    print(json.dumps(facts), flush=True)

if __name__ == "__main__":
    trio.run(main)
"""


async def test_stopped_consumer_learns_exactly_what_it_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "slow_consumer.py"
    script.write_text(CONSUMER)
    conf = "[data]\nring_1s = 7200\nring_1m = 1440\nring_ticks = 1024\nbackfill_1s_days = 0.01\n"
    conf += "backfill_1m_days = 0.1\n"
    fast = (*SYNTHETIC, "--speed", "60")
    async with open_market_tree(tmp_path, *fast, conf=conf) as (_, services):
        from piker.service.rpc import registry_addr

        host, port = registry_addr()
        env = os.environ | {"PIKER_REGISTRY": f"{host}:{port}"}
        process = await trio.lowlevel.open_process(
            [sys.executable, str(script), BTC], stdout=subprocess.PIPE, env=env
        )
        try:
            assert process.stdout is not None
            lines = _Lines(process.stdout)
            with trio.fail_after(20):
                while not (await lines.read()).get("alive"):
                    pass
            process.send_signal(signal.SIGSTOP)
            memory = _memory_kb(services.service_tasks["datad.binance"].pid)
            await trio.sleep(4)  # at 60x about four minutes of the market: several rings full
            assert _memory_kb(services.service_tasks["datad.binance"].pid) < memory + 8192
            process.send_signal(signal.SIGCONT)
            gaps, resumed = [], []
            with trio.fail_after(10):
                while not (gaps and resumed):
                    line = await lines.read()
                    if "gaps" in line:
                        gaps.append(line)
                    if "resumed" in line:
                        resumed.append(line)
            assert gaps[0]["gaps"] == 1
            assert gaps[0]["lost"] == gaps[0]["missing"] > 0
            assert resumed[0]["lost"] > 0
        finally:
            process.kill()
            await process.wait()
            await process.stdout.aclose()


class _Lines:
    def __init__(self, stream: trio.abc.ReceiveStream) -> None:
        self._stream = stream
        self._text = b""

    async def read(self) -> dict:
        while b"\n" not in self._text:
            chunk = await self._stream.receive_some(65536)
            assert chunk, "the consumer has ended"
            self._text += chunk
        line, _, self._text = self._text.partition(b"\n")
        return json.loads(line)


def _memory_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise AssertionError("no VmRSS")


# ---- a rolling ring -----------------------------------------------------------------------

SMALL_RINGS = """
[data]
ring_1s = 7200
ring_1m = 600
backfill_1s_days = 0.05
backfill_1m_days = 0.2
"""


async def _roll(tmp_path: Path, speed: int, hours: float) -> None:
    """Run for some hours of the market; compare every bar, as it leaves the rings, in pieces."""
    options = (*SYNTHETIC, "--speed", str(speed))
    real_s = hours * 3600 / speed
    async with (
        open_market_tree(tmp_path, *options, conf=SMALL_RINGS, seconds=real_s + 60) as (venue, _),
        open_feed([BTC], start_stream=False) as feed,
    ):
        flume = feed.flumes[BTC]
        begun_s = await wait_for(lambda: _newest_s(flume, 60), "a first minute")
        checked = {1: begun_s + 60, 60: begun_s + 60}
        while min(checked.values()) < begun_s + hours * 3600:
            await trio.sleep(min(1800 / speed, 5.0))
            for period_s in checked:
                checked[period_s] = await _compare_piece(
                    venue.url, flume, period_s, checked[period_s]
                )
            assert _newest_s(flume, 1) - checked[1] < 7200, "the comparison is slower than the roll"
        assert flume.rt_shm.size == 7200
        assert len(flume.rt_shm) <= 7200


def _newest_s(flume, period_s: int) -> int | None:
    row = flume.shm(period_s).last_row()
    return None if row is None else int(row["time"])


async def _compare_piece(url: str, flume, period_s: int, start_s: int) -> int:
    """Compare the known rows from `start_s` on; return where the next comparison begins."""
    settled_ns = flume.l1.read().time_venue_ns
    rows = flume.shm(period_s).slice_time(start_s, 1 << 40)
    unknown = rows["time"][(rows["flags"] & PARTIAL) != 0]
    # What is newer than the newest trade is flat until its trades come, and these may be late.
    settled_s = settled_ns // 10**9 - period_s - 5
    stop_s = min([settled_s, *unknown.tolist()]) // period_s * period_s
    rows = rows[rows["time"] < stop_s]
    if not len(rows):
        return start_s
    assert int(rows["time"][0]) == start_s
    assert np.all(np.diff(rows["time"]) == period_s)
    klines = await fetch_klines(url, "BTCUSDT", period_s, start_s, stop_s)
    assert plain_rows(rows) == klines
    return stop_s


async def test_two_hours_at_400x_roll_the_rings_and_every_bar_equals_the_venues(
    tmp_path: Path,
) -> None:
    await _roll(tmp_path, speed=400, hours=2)


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_a_day_at_200x_rolls_the_rings_and_every_bar_equals_the_venues(
    tmp_path: Path,
) -> None:
    await _roll(tmp_path, speed=200, hours=24)
