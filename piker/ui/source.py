"""
One market's data for all pages: attaches its feed once and keeps its `Picture` current.

Reading order: `Source.run`, then the tasks it starts. Newest bars are read from shared memory when
the tick ring moves (a periodic reader: it sleeps a frame, then takes all there is), history when
the feed says that a range changed, older bars from storage. After a restart of the writer, which
the feed handle survives by itself, everything is read again under the new generation.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import msgspec
import numpy as np
import trio

from piker import clock
from piker.data.feed import Flume, open_feed
from piker.errors import PikerError, SymbolNotFound, leaves
from piker.log import get_logger
from piker.model.bars import FILLED, PARTIAL
from piker.model.ticks import FEED_DOWN, QUOTE, TAKER_SELL, TRADE
from piker.ui.lod import O, T, bars_to_columns
from piker.ui.messages import Daemon, Gap
from piker.ui.picture import Facts, Picture
from piker.ui.status import Latency, Pace, Progress, feed_status

log = get_logger(__name__)

FRAME_S: Final = 1 / 60  # how long the ring reader sleeps between two looks
STATUS_S: Final = 1.0
REPAIR_S: Final = 0.05  # ranges that change this close together are read once
_OVERLAP: Final = 8  # rows read again behind the newest: late trades correct the ones just closed
_TRIM_S: Final = 600.0
_RETRY_MIN_S, _RETRY_MAX_S = 0.2, 5.0


def facts_of(flume: Flume) -> Facts:
    """Return what the page must know of a market."""
    mkt = flume.mkt
    venue = f"{mkt.broker} · {mkt.venue}" if mkt.venue else str(mkt.broker)
    return Facts(
        fqme=flume.fqme,
        name=mkt.pair().upper(),
        venue=venue,
        unit=str(mkt.dst).upper(),
        price_tick=str(mkt.price_tick),
        size_tick=str(mkt.size_tick),
        venue_name=flume.venue,
        has_vlm=flume.has_vlm(),
        mkt=mkt,
    )


def known_columns(rows: np.ndarray) -> np.ndarray:
    """Return bars as columns without the stand-ins of rows that nobody has seen yet."""
    unknown = (rows["flags"] & (FILLED | PARTIAL)) == (FILLED | PARTIAL)
    return bars_to_columns(rows[~unknown] if unknown.any() else rows)


class Source:
    """The tasks that keep one market's picture; `picture` is there once the feed was attached."""

    def __init__(
        self,
        fqme: str,
        dots: Callable[[], tuple[Daemon, ...]],
        on_trouble: Callable[[str], None],
        gate: Callable[[str], str | None] = lambda feed: None,
    ) -> None:
        self.fqme = fqme
        self._dots = dots
        self._on_trouble = on_trouble
        self._gate = gate
        self.picture: Picture | None = None
        self._latency = Latency()
        self._pace = Pace()
        self._progress = Progress()
        self._seen: dict[int, int] = {}  # period -> index of the newest row read
        self._received_s = 0.0  # when the newest tick reached the daemon, the run's clock
        self._lost: dict[str, Any] = {}  # the feed's last words when it could not be attached

    async def run(self, on_ready: Callable[[Picture], Awaitable[None]]) -> None:
        """
        Keep the picture until cancelled; `on_ready` is called once, with newest bars in it.

        Raises:
          SymbolNotFound: no such market.
        """
        delay_s = _RETRY_MIN_S
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_status)
            while True:
                refusal = None
                try:
                    async with open_feed([self.fqme], start_stream=False) as feed:
                        delay_s = _RETRY_MIN_S
                        await self._follow(next(iter(feed.flumes.values())), on_ready)
                except* PikerError as group:
                    refusal = self._take_loss(next(leaves(group)), delay_s)
                if refusal:
                    raise refusal
                await trio.sleep(clock.jitter(delay_s))
                delay_s = min(delay_s * 1.6, _RETRY_MAX_S)

    def _take_loss(self, err: BaseException, delay_s: float) -> SymbolNotFound | None:
        """Remember why there is no feed; return the error when trying again cannot help."""
        if isinstance(err, SymbolNotFound):
            return err
        log.warning("feed lost market=%s cause=%s", self.fqme, err)
        self._lost = {"state": FEED_DOWN, "cause": str(err), "retry_in_s": delay_s}
        if self.picture is None:
            self._on_trouble(str(err))
        return None

    async def _follow(self, flume: Flume, on_ready: Callable[[Picture], Awaitable[None]]) -> None:
        self._flume = flume
        async with flume.open_events() as events, flume.open_ticks(period_s=FRAME_S) as ticks:
            self._lost = {}
            if self.picture is None:
                self.picture = Picture(facts_of(flume), _short(flume.generation))
                for period in self.picture.series:
                    self._take_all(self.picture, period)
                self._take_l1(self.picture)
                await on_ready(self.picture)
            else:
                self._renew(self.picture)
            async with trio.open_nursery() as nursery:
                repair = _Repair()
                repair.add(60, 0.0, self._ring_start(60))  # older bars: storage has them
                nursery.start_soon(self._watch_events, self.picture, events, repair)
                nursery.start_soon(self._repair, self.picture, repair)
                nursery.start_soon(self._trim, self.picture)
                await self._watch_ticks(self.picture, ticks)
                nursery.cancel_scope.cancel()

    # ---- newest

    async def _watch_ticks(self, picture: Picture, ticks: Any) -> None:
        async for batch in ticks:
            now = clock.now_s()
            trades = batch[batch["type"] == TRADE]
            # what the daemon itself adds (bar closes, feed states) is no sign of life
            quotes = batch[batch["type"] == QUOTE]
            received = int(max(part["time_recv_ns"].max(initial=0) for part in (trades, quotes)))
            if received:
                self._received_s = received / clock.NS
                self._latency.add(trio.current_time(), (now - self._received_s) / clock.speed())
                self._pace.add(trio.current_time())
            if len(trades):
                sold = (trades["flags"] & TAKER_SELL) != 0
                times = trades["time_venue_ns"] / clock.NS
                flags = TRADE + 256 * sold
                picture.add_ticks(np.array((times, trades["price"], trades["size"], flags)))
            for period in picture.series:
                self._take_newest(picture, period)
            self._take_l1(picture)

    def _take_l1(self, picture: Picture) -> None:
        l1 = self._flume.l1.read()
        day = picture.series[60].levels[86400]
        opened = float(day.columns[O, -1]) if len(day) else np.nan
        values = (
            l1.last, l1.last_size, l1.time_venue_ns / clock.NS, l1.bid, l1.bid_size,
            l1.ask, l1.ask_size, opened,
        )  # fmt: skip
        if not np.array_equal(picture.l1, values, equal_nan=True):
            picture.l1[:] = values
            self._received_s = max(self._received_s, l1.time_recv_ns / clock.NS)
            picture.touch(np.inf)

    def _take_newest(self, picture: Picture, period: int) -> None:
        array = self._flume.shm(period)
        last, first = array.last_index, array.first_index
        if last <= first:
            return
        start = max(first, self._seen.get(period, first) - _OVERLAP)
        picture.merge(period, known_columns(array.rows(start, last)))
        self._seen[period] = last - 1

    def _take_all(self, picture: Picture, period: int) -> None:
        array = self._flume.shm(period)
        rows = array.array
        picture.merge(period, known_columns(rows))
        self._seen[period] = int(rows["index"][-1]) if len(rows) else array.first_index

    def _ring_start(self, period: int) -> float:
        rows = self._flume.shm(period).rows(first := self._flume.shm(period).first_index, first + 1)
        return float(rows["time"][0]) if len(rows) else clock.now_s()

    def _renew(self, picture: Picture) -> None:
        """Read the arrays of a new writer; bars older than its ring are those we hold."""
        fresh: dict[int, np.ndarray] = {}
        for period, series in picture.series.items():
            rows = self._flume.shm(period).array
            new, held = known_columns(rows), series.levels[period].columns
            before = held[:, held[T] < new[T, 0]] if new.shape[1] else held
            fresh[period] = np.concatenate((before, new), axis=1)
            self._seen[period] = int(rows["index"][-1]) if len(rows) else 0
        picture.renew(_short(self._flume.generation), fresh)
        self._take_l1(picture)

    # ---- history and what the feed says

    async def _watch_events(self, picture: Picture, events: Any, repair: _Repair) -> None:
        async for message in events:
            match message["event"]:
                case "dirty":
                    repair.add(int(message["period_s"]), message["t0"], message["t1"])
                case "load":
                    load = self._progress.load(message, trio.current_time())
                    picture.loads[load.period] = load
                    picture.publish(load)
                case "gap":
                    t0, t1, n = float(message["t0"]), float(message["t1"]), int(message["n"])
                    picture.add_gap(Gap(t0, t1, message["kind"], n, bool(message["filled"])))
                case "reattached":
                    self._renew(picture)
                    self._publish_status()
                case "state":
                    self._publish_status()

    async def _repair(self, picture: Picture, repair: _Repair) -> None:
        """Read the ranges that changed, from the rings or from storage."""
        while True:
            for period, (t0, t1) in (await repair.wait()).items():
                if t1 <= t0:
                    continue
                rows = await self._flume.load_bars(period, int(t0), int(t1))
                picture.merge(period, known_columns(rows))
            await trio.sleep(REPAIR_S)

    async def _trim(self, picture: Picture) -> None:
        """Forget 1 s bars that have left their ring; storage keeps the minutes of that time."""
        while True:
            await trio.sleep(_TRIM_S)
            picture.series[1].drop_before(self._ring_start(1))

    # ---- status

    async def _tell_status(self) -> None:
        while True:
            self._publish_status()
            await trio.sleep(STATUS_S)

    def _publish_status(self) -> None:
        picture = self.picture
        if picture is None:
            return
        event: Mapping[str, Any] = self._lost or self._flume.feed_state
        now, speed, gap_s = clock.now_s(), clock.speed(), self._pace.gap_s
        status = feed_status(event, self._received_s, now, picture.slots, speed, gap_s)
        picture.status = msgspec.structs.replace(
            status,
            latency_ms=self._latency.median_ms(trio.current_time()),
            gate=self._gate(status.feed),
            local=picture.facts.venue_name,
            daemons=self._dots(),
            feed_info=self._feed_info(picture),
        )
        picture.publish(picture.status)

    def _feed_info(self, picture: Picture) -> dict[str, str]:
        gap = picture.gaps[-1] if picture.gaps else None
        return {
            "feed": f"datad.{self._flume.mkt.broker}",
            "venue": picture.facts.venue_name or "official",
            "1 m bars": f"{len(picture.series[60])}",
            "1 s bars": f"{len(picture.series[1])}",
            "last gap": f"{gap.kind}, {gap.n}" if gap else "none",
        }


class _Repair:
    """Ranges per period that have to be read again; what is added meanwhile is joined."""

    def __init__(self) -> None:
        self._ranges: dict[int, tuple[float, float]] = {}
        self._changed = trio.Event()

    def add(self, period: int, t0: float, t1: float) -> None:
        """Join [t0, t1) to what is due."""
        low, high = self._ranges.get(period, (t0, t1))
        self._ranges[period] = (min(low, t0), max(high, t1))
        self._changed.set()

    async def wait(self) -> dict[int, tuple[float, float]]:
        """Return what is due, once something is."""
        await self._changed.wait()
        self._changed = trio.Event()
        due, self._ranges = self._ranges, {}
        return due


def _short(generation: int) -> int:
    """Return the 32 bits of a generation that travel to the page."""
    return (generation ^ (generation >> 32)) & 0xFFFFFFFF
