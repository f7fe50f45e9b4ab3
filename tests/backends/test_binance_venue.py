"""Binance's backend against the local venue: synthetic, replayed, and at fault."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from contract import BackendContract
from recordings import recordings

from piker import clock
from piker.brokers import binance
from piker.data import _web_bs
from piker.model.feed import Book, Event, FeedState, Trade
from piker.model.ticks import FEED_DOWN, FEED_LIVE, FEED_STALE
from piker.venues._faults import Fault
from piker.venues.binance import Venue, open_venue

Messages = trio.MemoryReceiveChannel[dict[str, list[Event]]]


@asynccontextmanager
async def use_venue(
    venue: Venue, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Venue]:
    """Make `venue` this process' binance, its clock ours, until the block ends."""
    (folder / "brokers.toml").write_text(f'[binance]\nvenue_url = "{venue.url}"\n')
    monkeypatch.setenv("PIKER_CONFIG_DIR", str(folder))
    clock.use_source(lambda: venue.clock_spec)
    try:
        yield venue
    finally:
        clock.use_source(lambda: None)


@asynccontextmanager
async def open_stream() -> AsyncIterator[Messages]:
    send, recv = trio.open_memory_channel[dict[str, list[Event]]](616)
    async with trio.open_nursery() as nursery:
        await nursery.start(binance.stream_quotes, send, ["btcusdt.spot.binance"], trio.Event())
        yield recv
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_synthetic(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, speed: float
) -> AsyncIterator[tuple[Venue, Messages]]:
    """A made-up market, always the same one, and the backend's stream of it."""
    async with (
        open_venue(seed=6116, base_ns=1_790_000_000 * clock.NS, speed=speed) as venue,
        use_venue(venue, folder, monkeypatch),
        open_stream() as recv,
    ):
        yield venue, recv


class TestContractOnTheLocalVenue(BackendContract):
    broker = "binance"
    fqme = "btcusdt.spot.binance"
    other_names = ("btcusdt.binance", "BTCUSDT")
    unknown = ("doggycoin.spot.binance",)

    @asynccontextmanager
    async def open_venue(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[Venue]:
        async with open_venue(seed=6116) as venue, use_venue(venue, folder, monkeypatch):
            yield venue


async def test_two_recordings_replayed_come_through_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recordings() / "hftbacktest/binance-spot"
    tapes = [folder / f"btcusdt_{day}.gz" for day in ("20240808", "20240809")]
    tids: list[int] = []
    async with (
        open_venue(tapes=tapes, speed=0) as venue,  # as fast as we read
        use_venue(venue, tmp_path, monkeypatch),
        open_stream() as recv,
    ):
        with trio.fail_after(60):
            async for message in recv:
                events = message["btcusdt.spot"]
                tids += [event.tid for event in events if isinstance(event, Trade)]
                assert sum(isinstance(event, Book) for event in events) <= 1
                if len(tids) >= 19_904:
                    break
        (stats,) = binance.statistics().values()
    assert tids == list(range(tids[0], tids[0] + 19_904))
    assert (stats.stream.rejected, stats.stream.trade_gaps, stats.stream.book_gaps) == (0, 0, 0)
    assert stats.link.reconnects == stats.link.stale == 0


async def test_trades_of_history_and_stream_join_by_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_synthetic(tmp_path, monkeypatch, speed=20) as (_, recv):
        live: dict[int, Trade] = {}
        with trio.fail_after(10):
            async for message in recv:
                live |= {e.tid: e for e in message["btcusdt.spot"] if isinstance(e, Trade)}
                if len(live) > 50:
                    break
            mkt, _ = await binance.get_mkt_info("btcusdt")
            async with binance.open_history_client(mkt) as (_, config):
                old = await config["get_trades"](min(live) - 1500, max(live), None)
    assert len(old) == 1501 + max(live) - min(live)
    for trade in old[1500:]:
        same = live[trade.tid]
        assert (trade.price, trade.size, trade.time_venue_ns, trade.taker_sell) == (
            same.price,
            same.size,
            same.time_venue_ns,
            same.taker_sell,
        )


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        (Fault(kind="reset", where="socket", count=1), "dropped the connection"),
        (Fault(kind="half_frame", where="socket", count=1), "dropped the connection"),
        (Fault(kind="close", where="socket", count=1, code=1011), "code 1011"),
    ],
)
async def test_a_broken_stream_is_said_and_lives_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, word: str
) -> None:
    monkeypatch.setattr(_web_bs, "BACKOFF_FIRST_S", 0.01)
    async with open_synthetic(tmp_path, monkeypatch, speed=20) as (venue, recv):
        with trio.fail_after(10):
            await wait_for(recv, FEED_LIVE)
            venue.faults.add(fault)
            assert word in (await wait_for(recv, FEED_DOWN)).cause
            await wait_for(recv, FEED_LIVE)


async def test_a_message_of_rubbish_is_counted_and_the_stream_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_synthetic(tmp_path, monkeypatch, speed=20) as (venue, recv):
        with trio.fail_after(10):
            await wait_for(recv, FEED_LIVE)
            venue.faults.add(Fault(kind="rubbish", where="socket", count=1))
            while not binance.statistics()["btcusdt.spot"].link.rejected:
                await recv.receive()
        assert binance.statistics()["btcusdt.spot"].link.reconnects == 0


async def test_a_refused_stream_is_said_with_its_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        open_venue(seed=6116) as venue,
        use_venue(venue, tmp_path, monkeypatch),
    ):
        venue.faults.add(
            Fault(kind="status", where="rest", path="/stream", count=1, status=429, retry_after_s=1)
        )
        with trio.fail_after(10):
            async with open_stream() as recv:
                down = await wait_for(recv, FEED_DOWN)
                assert "too many requests (HTTP 429), waiting" in down.cause
                await wait_for(recv, FEED_LIVE)


async def test_a_muted_stream_is_stale_and_then_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_web_bs, "SILENCE_LEAST_S", 0.2)
    monkeypatch.setattr(_web_bs, "PROBE_EVERY_S", 0.05)
    async with open_synthetic(tmp_path, monkeypatch, speed=100) as (venue, recv):
        with trio.fail_after(10):
            await wait_for(recv, FEED_LIVE)
            for message in range(50):  # let it learn how busy the market is
                assert await recv.receive(), message
            venue.faults.add(Fault(kind="mute", path="btcusdt@"))
            assert "sent nothing for" in (await wait_for(recv, FEED_STALE)).cause
            await wait_for(recv, FEED_DOWN)


async def wait_for(recv: Messages, state: int) -> FeedState:
    """Read until the feed is in `state`."""
    async for message in recv:
        for event in message["btcusdt.spot"]:
            if isinstance(event, FeedState) and event.state == state:
                return event
    raise AssertionError("unreachable")
