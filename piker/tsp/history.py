"""
One market's past, for one period: from storage and the venue into the array and the store.

Order of work, so that a chart has its newest bars first: stored rows and the venue's latest
frame together (`is_ready` is set when one of them is in), then pages newest first down to what
is stored, the stored rows, older pages, and at last what only the store has room for. Beside
that `repair_forever` asks the venue again for rows that are flagged PARTIAL, and
`save_forever` appends closed rows to the store.

Files are only touched in worker threads; arrays are changed in pieces, so that the loop that
also takes the live feed is never held for more than a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import trio

from piker import clock
from piker.errors import (
    BadPayload,
    BrokerError,
    ConnectionLost,
    DataThrottle,
    DataUnavailable,
    NoData,
    PikerError,
)
from piker.log import get_logger
from piker.model.bars import empty_bars
from piker.tsp._plan import Range, closed_rows, densify, plan_pages, sorted_unique
from piker.tsp.series import BarSeries

if TYPE_CHECKING:  # importing it takes a tenth of a second that only datad has to spend
    from piker.storage.bars import BarStore

log = get_logger(__name__)

GetHist = Callable[..., Awaitable[tuple[np.ndarray, datetime, datetime]]]
Publish = Callable[[dict[str, Any]], None]

PAGE_ROWS = 1000  # what one request of a venue usually holds
PAGES_AT_ONCE = 3  # requests in flight for one period
PUT_ROWS = 8192  # rows put into an array before the loop has its turn: below 2 ms
TRIES_MAX = 8  # of one page, with backoff, before it is left to the repair
LATEST_GRACE_S = (
    1.0  # stored rows wait so long for the venue's latest frame, which joins the live feed
)
REPAIR_AFTER_S = 2.0  # market time after its close in which late trades still correct a row
REPAIR_TRIES_MAX = 6  # for rows that the venue answers without
SAVE_EVERY_S = 20.0
SAVE_ROWS_MAX = 20_000


class HistoryLoader:
    """Fills one `BarSeries`; `run` is its task."""

    def __init__(
        self,
        series: BarSeries,
        get_hist: GetHist,
        config: dict[str, Any],
        store: BarStore,
        days: float,
        publish: Publish,
        source: str,
    ) -> None:
        """Backfill `days` from `get_hist`; tell `publish` the progress, naming `source`."""
        self.series = series
        self.store = store
        self.is_ready = trio.Event()
        self.is_done = False
        self.counters = {"pages": 0, "retries": 0, "repaired": 0, "saved": 0, "given_up": 0}
        self._get_hist = get_hist
        self._publish = publish
        self._source = source
        self._days = days
        self._at_once = max(1, min(int(config.get("erlangs") or 1), PAGES_AT_ONCE))
        self._latest: np.ndarray | None = None
        self._stored = empty_bars()
        self._unsaved: list[np.ndarray] = []
        self._is_full = trio.Event()
        self._misses: dict[Range, int] = {}
        self._cause = ""

    async def run(self) -> None:
        """Load, backfill, then keep repaired and saved until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.save_forever)
            await self._start()
            self.is_ready.set()
            nursery.start_soon(self.repair_forever)
            await self._backfill()
            self.is_done = True
            self._progress(self._source, is_done=True)

    async def _start(self) -> None:
        """Put what comes first of the latest frame and the stored rows, the frame preferred."""
        period_s = self.series.period_s
        now_s = int(clock.now_s())
        is_fetched = trio.Event()

        async def fetch_latest() -> None:
            rows = await self._fetch((now_s - PAGE_ROWS * period_s, now_s + period_s))
            self._latest = empty_bars() if rows is None else rows
            is_fetched.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch_latest)
            self._stored = await self._load_stored(now_s - self.series.size * period_s)
            with trio.move_on_after(LATEST_GRACE_S if len(self._stored) else float("inf")):
                await is_fetched.wait()
            if self._latest is None:
                await self._put(self._stored)
                self._stored = empty_bars()
                self._progress("storage")
                self.is_ready.set()
        assert self._latest is not None
        await self._put(self._latest)
        self._remember(self._latest)
        self._progress(self._source)

    async def _load_stored(self, start_s: int) -> np.ndarray:
        series = self.series

        def load() -> np.ndarray:
            if self.store.first_time(series.fqme, series.period_s) is None:
                return empty_bars()
            return self.store.load(series.fqme, series.period_s, start_s=start_s)

        try:
            rows = await trio.to_thread.run_sync(load)
        except (PikerError, OSError) as error:
            log.warning("stored bars are not readable fqme=%s cause=%s", series.fqme, error)
            return empty_bars()
        return densify(rows, series.period_s) if series.is_continuous else sorted_unique(rows)

    async def _put(self, rows: np.ndarray) -> None:
        """Put `rows` into the array, newest piece first."""
        for stop in range(len(rows), 0, -PUT_ROWS):
            self.series.put_history(rows[max(0, stop - PUT_ROWS) : stop])
            await trio.lowlevel.checkpoint()

    async def _backfill(self) -> None:
        """Fetch what is missing, newest first, and put the stored rows in their place."""
        series = self.series
        now_s = int(clock.now_s())
        oldest_s = now_s - int(min(self._days * 86400, (series.size - 1) * series.period_s))
        first_s = series.first_time if series.first_time is not None else now_s
        if len(self._stored):
            stored_stop_s = int(self._stored["time"][-1]) + series.period_s
            await self._fetch_down(stored_stop_s, first_s)
            await self._put(self._stored)
            first_s = min(first_s, int(self._stored["time"][0]))
            self._stored = empty_bars()
            self._progress("storage")
        if not await self._fetch_down(oldest_s, first_s):
            return
        deep_s = now_s - int(self._days * 86400)
        if deep_s < oldest_s:
            await self._fetch_into_store(deep_s, min(oldest_s, first_s))

    async def _fetch_down(self, start_s: int, stop_s: int) -> bool:
        """Fetch `[start_s, stop_s)` into array and store; False when the venue has no more."""

        async def take(rows: np.ndarray) -> None:
            await self._put(rows)
            self._remember(rows)
            self._progress(self._source)

        return await self._fetch_pages(start_s, stop_s, take)

    async def _fetch_into_store(self, start_s: int, stop_s: int) -> None:
        """Fetch what the array has no room for, unless it is stored already."""
        series = self.series

        def first_stored() -> int | None:
            return self.store.first_time(series.fqme, series.period_s)

        async def take(rows: np.ndarray) -> None:
            self._remember(rows)

        stored_s = await trio.to_thread.run_sync(first_stored)
        if stored_s is not None:
            stop_s = min(stop_s, int(stored_s))
        await self._fetch_pages(start_s, stop_s, take)

    async def _fetch_pages(
        self, start_s: int, stop_s: int, take: Callable[[np.ndarray], Awaitable[None]]
    ) -> bool:
        """Hand the pages of a range to `take`, newest first; False when the venue has no more."""
        pages = list(plan_pages(start_s, stop_s, self.series.period_s, PAGE_ROWS))
        for at in range(0, len(pages), self._at_once):
            group = pages[at : at + self._at_once]
            fetched: dict[Range, np.ndarray | None] = {}

            async def fetch(page: Range, into: dict[Range, np.ndarray | None]) -> None:
                into[page] = await self._fetch(page)

            async with trio.open_nursery() as nursery:
                for page in group:
                    nursery.start_soon(fetch, page, fetched)
            for page in group:
                rows = fetched[page]
                if rows is None:
                    return False
                await take(rows)
        return True

    async def _fetch(self, page: Range) -> np.ndarray | None:
        """Return the closed bars of a page; empty when the venue has none, None: no more at all."""
        delay_s = 0.2
        for _ in range(TRIES_MAX):
            try:
                rows, _start, _end = await self._get_hist(
                    self.series.period_s, end_dt=_utc(page[1]), start_dt=_utc(page[0])
                )
                self.counters["pages"] += 1
                self._cause = ""
                return self._clean(rows, page)
            except NoData:
                return empty_bars()
            except DataUnavailable as error:
                log.info("no more history fqme=%s cause=%s", self.series.fqme, error)
                return None
            except (ConnectionLost, DataThrottle) as error:
                self._cause = str(error)
                delay_s = max(delay_s, error.retry_after_s)
            except (BadPayload, BrokerError) as error:
                self._cause = str(error)
            self.counters["retries"] += 1
            self._progress(self._source)
            await trio.sleep(clock.jitter(min(delay_s, 60.0)))
            delay_s = min(delay_s * 2, 30.0)
        self.counters["given_up"] += 1
        log.warning("a page of history is left out fqme=%s cause=%s", self.series.fqme, self._cause)
        return empty_bars()

    def _clean(self, rows: np.ndarray, page: Range) -> np.ndarray:
        rows = closed_rows(sorted_unique(rows), self.series.period_s, clock.now_s())
        return rows[(rows["time"] >= page[0]) & (rows["time"] < page[1])]

    def _progress(self, source: str, *, is_done: bool = False) -> None:
        have, period_s = self.series.count, self.series.period_s
        total = int(min(self._days * 86400 / period_s, self.series.size))
        self._publish(
            {
                "event": "load",
                "period_s": period_s,
                "have": min(have, total),
                "total": min(have, total) if is_done else total,
                "source": source,
                "t0": self.series.first_time,
                "done": is_done,
                "cause": self._cause,
            }
        )

    async def repair_forever(self) -> None:
        """Ask the venue again for rows that are not known, once they are closed."""
        while True:
            await trio.sleep(clock.jitter(1.0, 0.1))
            await self.repair_once()

    async def repair_once(self) -> int:
        """Repair the newest unknown rows; return how many rows changed."""
        before_s = clock.now_s() - self.series.period_s - REPAIR_AFTER_S
        ranges = self.series.unknown_ranges(int(before_s), PAGE_ROWS)
        changed = 0
        for page in ranges[: 2 * self._at_once]:
            rows = await self._fetch(page)
            changed += self.series.repair(empty_bars() if rows is None else rows)
            self._note_missing(page)
        self._misses = {page: n for page, n in self._misses.items() if page in ranges}
        self.counters["repaired"] += changed
        return changed

    def _note_missing(self, page: Range) -> None:
        """Accept rows as flat that the venue has answered without several times."""
        self._misses[page] = self._misses.get(page, 0) + 1
        if self._misses[page] >= REPAIR_TRIES_MAX and not self._cause:
            accepted = self.series.accept(page)
            log.info("no bars at the venue fqme=%s rows=%d", self.series.fqme, accepted)

    def _remember(self, rows: np.ndarray) -> None:
        if len(rows):
            self._unsaved.append(rows)
            if sum(map(len, self._unsaved)) >= SAVE_ROWS_MAX:
                self._is_full.set()

    async def save_forever(self) -> None:
        """Append closed rows to the store from time to time, and a last time when cancelled."""
        # At a fast clock rows roll out of the array sooner: save four times on their way.
        stay_s = self.series.size * self.series.period_s / clock.speed()
        try:
            while True:
                with trio.move_on_after(min(SAVE_EVERY_S, stay_s / 4)):
                    await self._is_full.wait()
                await self.save_once()
        finally:
            with trio.move_on_after(1.0) as scope:
                scope.shield = True
                await self.save_once()

    async def save_once(self) -> None:
        """Append what is closed and not stored yet; a failed write is tried again next time."""
        series = self.series
        before_s = int(clock.now_s() - series.period_s - REPAIR_AFTER_S)
        pending, self._unsaved, self._is_full = self._unsaved, [], trio.Event()
        live = series.take_unsaved(before_s)
        rows = sorted_unique(np.concatenate([*reversed(pending), live]))
        if not len(rows):
            return

        def append() -> None:
            self.store.append(series.fqme, series.period_s, rows, self._source)

        try:
            await trio.to_thread.run_sync(append)
        except (PikerError, OSError) as error:
            log.error("bars are not stored fqme=%s cause=%s", series.fqme, error)
            self._unsaved = [rows[-SAVE_ROWS_MAX:]]
            return
        self.counters["saved"] += len(rows)

    def statistics(self) -> dict[str, int]:
        """Return the counters of this loader."""
        return dict(self.counters)


def _utc(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)
