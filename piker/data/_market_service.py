"""
One market as `datad` serves it: its shared memory, its writer, its history loaders.

Makes the parts and describes them to clients; what runs is started by `_feed_bus`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from piker import clock, config
from piker.data._blocks import L1Block, L2Block
from piker.data._doorbell import DoorbellServer
from piker.data._market_feed import MarketFeed
from piker.data._outbox import Message
from piker.data._ring import TickRing
from piker.data._sharedmem import open_shm_array
from piker.data.validate import FeedInit
from piker.model.bars import PERIODS_S
from piker.model.market import MktPair
from piker.service.rpc import actor_name, run_id
from piker.tsp._bars import BarBuilder
from piker.tsp.history import GetHist, HistoryLoader
from piker.tsp.series import BarSeries

if TYPE_CHECKING:
    from piker.storage.bars import BarStore

ALWAYS_OPEN = frozenset({"crypto", "crypto_currency", "perpetual_future", "crypto_future"})
KINDS = {1: "rt", 60: "hist"}


class MarketService:
    """One market that is served: its writer, its history, and what its clients are handed."""

    def __init__(self, feed: MarketFeed, first_quote: dict[str, Any], init: FeedInit) -> None:
        self.feed = feed
        self.first_quote = first_quote
        self.init = init
        self.loaders: dict[int, HistoryLoader] = {}
        self.newest: dict[int, Message] = {}  # the newest progress by period
        self.bell_address = ""

    def describe(self) -> dict[str, Any]:
        """Return the flume message: all that a client needs to attach, as plain values."""
        feed, venue = self.feed, config.venue_for(self.feed.mkt.broker)
        series = feed.series
        return {
            "mkt": feed.mkt.to_dict(),
            "first_quote": self.first_quote,
            "ring": feed.ring.token,
            "l1": feed.l1.token,
            "l2": feed.l2.token,
            "_rt_shm_token": series[1].array.token,
            "_hist_shm_token": series[60].array.token,
            "izero_rt": series[1].array.last_index - 1,
            "izero_hist": series[60].array.last_index - 1,
            "bell": self.bell_address,
            "generation": feed.ring.generation,
            "has_vlm": bool(self.init.shm_write_opts.get("has_vlm", True)),
            "venue": venue.name if venue.is_local else "",
            "state": feed.describe_state(),
            "load": list(self.newest.values()),
            "revs": [[period_s, one.rev] for period_s, one in series.items()],
        }

    @property
    def segments(self) -> list[Any]:
        """All shared memory of this market: ring, blocks, arrays."""
        feed = self.feed
        return [feed.ring, feed.l1, feed.l2, *(one.array for one in feed.series.values())]

    def statistics(self) -> dict[str, Any]:
        """Return the counters of writer and loaders."""
        loads = {
            f"history_{name}_{period_s}s": value
            for period_s, loader in self.loaders.items()
            for name, value in loader.statistics().items()
        }
        return self.feed.statistics() | loads


def open_market_service(
    init: FeedInit,
    first_quote: dict[str, Any],
    bells: DoorbellServer,
    publish: Callable[[Message], None],
) -> MarketService:
    """
    Make the shared memory and the writer of one market; `publish` takes its control events.

    Raises:
      ShmFull, ConfigError: there is no room, or no folder.
    """
    mkt = init.mkt_info
    with ExitStack() as undo:  # a full tmpfs must not keep half a market
        series = _make_series(mkt, publish, undo)
        where = (config.shm_dir(), run_id(), actor_name(), mkt.fqme)
        sizes = config.settings().data
        ring = TickRing.create(*where, sizes.ring_ticks)
        undo.callback(ring.unlink)
        l1 = L1Block.create(*where)
        undo.callback(l1.unlink)
        l2 = L2Block.create(*where, sizes.l2_levels)
        undo.pop_all()
    bell = bells.bell(mkt.fqme).ring
    feed = MarketFeed(mkt, ring, series, l1, l2, bell, publish, clock.now_ns)
    feed.take_first_quote(first_quote)
    service = MarketService(feed, first_quote, init)
    service.bell_address = bells.address
    return service


def _make_series(
    mkt: MktPair, publish: Callable[[Message], None], undo: ExitStack
) -> dict[int, BarSeries]:
    sizes = config.settings().data
    rows = {1: sizes.ring_1s, 60: sizes.ring_1m}
    series = {}
    for period_s in PERIODS_S:
        array = open_shm_array(
            f"{mkt.fqme}.{KINDS[period_s]}",
            rows[period_s],
            shm_dir=config.shm_dir(),
            run_id=run_id(),
            actor=actor_name(),
        )
        undo.callback(array.unlink)
        is_continuous = mkt.type_key in ALWAYS_OPEN
        builder = BarBuilder(period_s, mkt.size_tick, is_continuous=is_continuous)
        series[period_s] = BarSeries(mkt.fqme, period_s, array, builder, publish, clock.now_s)
    return series


def make_loaders(
    service: MarketService,
    get_hist: GetHist,
    hist_config: dict[str, Any],
    store: BarStore,
    publish: Callable[[Message], None],
) -> None:
    """Give the market one history loader per period."""
    sizes = config.settings().data
    days = {1: sizes.backfill_1s_days, 60: sizes.backfill_1m_days}
    for period_s, series in service.feed.series.items():
        service.loaders[period_s] = HistoryLoader(
            series,
            get_hist,
            hist_config,
            store,
            days[period_s],
            publish,
            f"{service.feed.mkt.broker} REST",
        )
