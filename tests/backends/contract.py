"""
What every backend must do: subclass `BackendContract`, name its markets, open its venue.

Each test runs against a venue on this machine, opened by `open_venue`; the numbers are those of
`contracts` 4.8 in the order of a backend's life: find, start, stream, history, search.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import trio

from piker.brokers import get_brokermod, open_cached_client
from piker.data.validate import FeedInit, get_eps, missing_eps, validate_backend
from piker.errors import DataUnavailable, NoData, SymbolNotFound
from piker.model.bars import BAR_DTYPE
from piker.model.feed import Book, FeedState, Quote, Trade
from piker.model.market import Asset, unpack_fqme


class BackendContract(ABC):
    """The contract; a subclass is collected as a test class when its name begins with Test."""

    broker: str
    fqme: str
    other_names: tuple[str, ...]  # forms that mean the same market
    unknown: tuple[str, ...]

    @abstractmethod
    def open_venue(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AbstractAsyncContextManager[object]:
        """Open a venue that streams trades, quotes and books of `fqme`, and point piker at it."""

    @pytest.fixture
    async def venue(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        async with self.open_venue(tmp_path, monkeypatch) as venue:
            yield venue

    @property
    def mod(self) -> ModuleType:
        return get_brokermod(self.broker)

    def test_every_data_endpoint_is_there(self) -> None:
        assert missing_eps(self.mod, "middleware") == []
        assert missing_eps(self.mod, "datad") == []
        assert self.mod.name == self.broker
        assert self.mod._datad_mods[0] == "api"
        assert set(get_eps(self.mod, "datad")) >= {"stream_quotes", "get_mkt_info"}

    async def test_client_needs_no_account(self, venue: object) -> None:
        async with self.mod.get_client() as client, open_cached_client(self.broker) as again:
            assert again is client
            assert await client.get_assets()
            pairs = await client.get_mkt_pairs()
        for pair in pairs.values():
            assert pair.ns_path
            assert pair.bs_mktid
            assert pair.bs_fqme
            assert pair.price_tick > 0
            assert pair.size_tick > 0

    async def test_every_form_of_a_name_is_the_same_resolved_market(self, venue: object) -> None:
        mkt, pair = await self.mod.get_mkt_info(self.fqme)
        assert mkt.fqme == self.fqme
        assert mkt.bs_fqme == pair.bs_fqme
        assert unpack_fqme(mkt.fqme)[0] == self.broker
        assert isinstance(mkt.dst, Asset)
        assert isinstance(mkt.src, Asset)
        assert mkt.price_tick > 0
        for name in self.other_names:
            found, _ = await self.mod.get_mkt_info(name)
            assert found == mkt

    async def test_an_unknown_market_names_the_closest(self, venue: object) -> None:
        for name in self.unknown:
            with pytest.raises(SymbolNotFound) as caught:
                await self.mod.get_mkt_info(name)
            assert all(match.endswith(f".{self.broker}") for match in caught.value.matches)
        with pytest.raises(SymbolNotFound) as caught:
            await self.mod.get_mkt_info(self.fqme.replace("usd", "us"))
        assert self.fqme in caught.value.matches

    async def test_stream_says_its_market_its_state_and_then_events(self, venue: object) -> None:
        send, recv = trio.open_memory_channel[dict[str, list[object]]](616)
        is_live = trio.Event()
        kinds: set[type] = set()
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                inits, first = await nursery.start(
                    self.mod.stream_quotes, send, [self.fqme], is_live
                )
                init = validate_backend(self.mod, [self.fqme], inits)
                assert isinstance(init, FeedInit)
                assert isinstance(first["last"], float)
                assert first["symbol"] == init.mkt_info.bs_mktid
                states = []
                while not kinds >= {Trade, Quote, Book, FeedState} or len(states) < 2:
                    message = await recv.receive()
                    assert list(message) == [init.mkt_info.bs_fqme]
                    for event in message[init.mkt_info.bs_fqme]:
                        kinds.add(type(event))
                        if isinstance(event, FeedState):
                            states.append(event.state)
                        else:
                            self.check_event(event)
                assert is_live.is_set()
                assert states[:2] == [0, 1]
                nursery.cancel_scope.cancel()

    def check_event(self, event: object) -> None:
        """Assert that an event's numbers are numbers and its times are times."""
        match event:
            case Trade():
                assert isinstance(event.price, float)
                assert event.price > 0
                assert event.size > 0
                assert event.time_venue_ns > 1_000_000_000_000_000_000
            case Quote():
                assert isinstance(event.bid, float)
                assert event.bid < event.ask
            case Book():
                assert event.bids[0][0] < event.asks[0][0]
        assert event.time_recv_ns > 1_000_000_000_000_000_000  # type: ignore[attr-defined]

    async def test_history_comes_in_frames_that_join(self, venue: object) -> None:
        mkt, _ = await self.mod.get_mkt_info(self.fqme)
        async with self.mod.open_history_client(mkt) as (get_hist, config):
            assert config["erlangs"] > 0
            assert config["rate"] > 0
            for period_s in (60, 1):
                assert config["frame_types"][period_s] > timedelta(0)
                bars, start_dt, end_dt = await get_hist(period_s)
                self.check_bars(bars, period_s)
                assert start_dt.timestamp() == bars["time"][0]
                assert end_dt.timestamp() == bars["time"][-1]
                assert bars["time"][-1] + period_s <= datetime.now(UTC).timestamp() + 1
                older, _, older_end = await get_hist(period_s, end_dt=start_dt)
                assert older_end.timestamp() == start_dt.timestamp() - period_s
                self.check_bars(older, period_s)
            from_dt, to_dt = end_dt - timedelta(seconds=20), end_dt - timedelta(seconds=10)
            some, _, _ = await get_hist(1, end_dt=to_dt, start_dt=from_dt)
            assert list(some["time"]) == [from_dt.timestamp() + i for i in range(10)]
            with pytest.raises((NoData, DataUnavailable)):
                await get_hist(60, end_dt=datetime(1999, 1, 1, tzinfo=UTC))
            with pytest.raises(DataUnavailable):
                await get_hist(7)

    def check_bars(self, bars: np.ndarray, period_s: int) -> None:
        """Assert that bars are ascending, on the grid and possible."""
        assert bars.dtype == BAR_DTYPE
        assert (np.diff(bars["time"]) > 0).all()
        assert not (bars["time"] % period_s).any()
        assert (bars["low"] <= bars["open"]).all()
        assert (bars["close"] <= bars["high"]).all()
        assert (bars["volume"] >= 0).all()
