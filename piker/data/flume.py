"""
A client's hold on one market: arrays, blocks, ticks and control events.

A `Flume` outlives the `datad` it came from. When that daemon was killed and started again, the
feed binds the flume to the new shared memory (`generation` changes): tick streams go on by
themselves behind a GAP record, event streams say `reattached`, and the properties give the new
arrays. So ask `rt_shm`, `hist_shm`, `l1` and `l2` anew each time, and keep no reference.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakSet

import numpy as np
import trio

from piker import clock, config
from piker.data._blocks import L1Block, L2Block
from piker.data._doorbell import Doorbell, open_doorbell
from piker.data._outbox import Message, Outbox
from piker.data._ring import RingReader, TickRing
from piker.data._sharedmem import SegmentGone, ShmArray, attach_shm_array
from piker.errors import ConnectionLost
from piker.model.bars import BAR_DTYPE, PERIODS_S, empty_bars
from piker.model.market import MktPair
from piker.model.ticks import FEED_DOWN, FEED_NAMES, GAP, TICK_DTYPE

_NOTHING = np.zeros(0, TICK_DTYPE)
LOST_UNKNOWN = -1  # `tid` of the GAP record after the writer was restarted


class Flume:
    """One market of a feed."""

    def __init__(self, message: dict[str, Any]) -> None:
        """Bind to what a `datad` said of the market (`MarketService.describe`)."""
        self.feed_state: dict[str, Any] = {}
        self.load: dict[int, Message] = {}
        self.revs: dict[int, int] = {}
        self.throttle_rate: float | None = None
        self._bound = trio.Event()
        self._listeners: WeakSet[EventStream] = WeakSet()
        self._readers: WeakSet[TickStream] = WeakSet()
        self._attached: dict[str, Any] = {}
        self._bind(message)

    def _bind(self, message: dict[str, Any]) -> None:
        self.message = message
        self.mkt = MktPair.from_msg(message["mkt"])
        self.first_quote: dict[str, Any] = message["first_quote"]
        self.generation = int(message["generation"])
        self.venue: str = message["venue"]
        self.izero_rt = int(message["izero_rt"])
        self.izero_hist = int(message["izero_hist"])
        self.bell_address: str = message["bell"]
        self.feed_state = message["state"]
        self.load = {one["period_s"]: one for one in message["load"]}
        self.revs = {int(period_s): int(rev) for period_s, rev in message["revs"]}
        self._attached = {}
        bound, self._bound = self._bound, trio.Event()
        bound.set()
        for reader in list(self._readers):
            reader.wake()

    def rebind(self, message: dict[str, Any]) -> None:
        """Hold the shared memory of a restarted `datad` from now on."""
        self._bind(message)
        self.dispatch({"event": "state", "fqme": self.fqme, **self.feed_state})
        self.dispatch({"event": "reattached", "fqme": self.fqme, "generation": self.generation})

    @property
    def fqme(self) -> str:
        """The market's full address."""
        return self.mkt.fqme

    # ---- shared memory --------------------------------------------------------------------

    @property
    def rt_shm(self) -> ShmArray:
        """The 1 s bars, read-only."""
        return self.shm(1)

    @property
    def hist_shm(self) -> ShmArray:
        """The 1 m bars, read-only."""
        return self.shm(60)

    def shm(self, period_s: int) -> ShmArray:
        """
        Return the bars of a period, read-only.

        Raises:
          ValueError: there is no array of that period.
          SegmentGone: the writer was just restarted; try again after `reattached`.
        """
        if period_s not in PERIODS_S:
            raise ValueError(f"{self.fqme}: period was {period_s} s, expected 1 or 60")
        name = "_rt_shm_token" if period_s == 1 else "_hist_shm_token"
        return self._attach(name, attach_shm_array)  # type: ignore[no-any-return]

    @property
    def ring(self) -> TickRing:
        """The tick ring, read-only."""
        return self._attach("ring", TickRing.attach)  # type: ignore[no-any-return]

    @property
    def l1(self) -> L1Block:
        """The newest quote and trade."""
        return self._attach("l1", L1Block.attach)  # type: ignore[no-any-return]

    @property
    def l2(self) -> L2Block:
        """The best levels of the book."""
        return self._attach("l2", L2Block.attach)  # type: ignore[no-any-return]

    def _attach(self, name: str, attach: Any) -> Any:
        if name not in self._attached:
            self._attached[name] = attach(self.message[name])
        return self._attached[name]

    def has_vlm(self) -> bool:
        """Whether the market has volume: declared, and not all unknown."""
        if not self.message["has_vlm"]:
            return False
        volume = self.hist_shm.array["volume"]
        return not len(volume) or not bool(np.all(np.isnan(volume) | (volume == -1)))

    def get_ds_info(self) -> tuple[float, float, float]:
        """Return the steps of both arrays in seconds and their ratio: (1, 60, 60)."""
        return 1.0, 60.0, 60.0

    def get_index(self, time_s: float, array: np.ndarray) -> int:
        """Return where `array` has the first bar at or after `time_s`, at most its last."""
        return min(int(np.searchsorted(array["time"], time_s)), len(array) - 1)

    async def load_bars(self, period_s: int, start_s: int, stop_s: int) -> np.ndarray:
        """
        Return the bars of `[start_s, stop_s)`, BAR_DTYPE, from the array and, before it, storage.

        Files are read in a worker thread.
        """
        rows = self.shm(period_s).slice_time(start_s, stop_s)
        first_s = int(rows["time"][0]) if len(rows) else stop_s
        if first_s <= start_s:
            return rows

        def load() -> np.ndarray:
            # Here, in its thread and on first use: importing it takes a tenth of a second.
            from piker.storage.bars import open_bar_store

            store = open_bar_store(config.broker_dir(self.mkt.broker) / "bars")
            if store.first_time(self.fqme, period_s) is None:
                return empty_bars()
            return store.load(self.fqme, period_s, start_s=start_s, end_s=first_s)

        older = await trio.to_thread.run_sync(load)
        return np.concatenate([older.astype(BAR_DTYPE, copy=False), rows])

    # ---- control events -------------------------------------------------------------------

    def dispatch(self, message: Message) -> None:
        """Take a control message: remember the newest of its kind and tell the listeners."""
        match message["event"]:
            case "state":
                self.feed_state = message
            case "load":
                self.load[message["period_s"]] = message
            case "dirty":
                self.revs[message["period_s"]] = message["rev"]
        for listener in list(self._listeners):
            listener.put(message)

    def mark_gone(self, cause: str, attempt: int, retry_in_s: float) -> None:
        """Say that the daemon behind this flume is out of reach."""
        self.dispatch(
            {
                "event": "state",
                "fqme": self.fqme,
                "state": FEED_DOWN,
                "name": FEED_NAMES[FEED_DOWN],
                "cause": cause,
                "attempt": attempt,
                "retry_in_s": retry_in_s,
                "expected_gap_s": 0.0,
            }
        )

    def events(self) -> EventStream:
        """Return the control events from now on, the newest state and progress first."""
        stream = EventStream()
        stream.put({"event": "state", "fqme": self.fqme, **self.feed_state})
        for message in self.load.values():
            stream.put(message)
        self._listeners.add(stream)
        return stream

    @asynccontextmanager
    async def open_events(self) -> AsyncIterator[EventStream]:
        """Yield `events()` and stop listening afterwards."""
        stream = self.events()
        try:
            yield stream
        finally:
            self._listeners.discard(stream)

    async def wait_bound(self, generation: int) -> None:
        """Wait until the flume is bound to another generation than `generation`."""
        while self.generation == generation:
            await self._bound.wait()

    # ---- ticks ----------------------------------------------------------------------------

    @asynccontextmanager
    async def open_ticks(self, period_s: float | None = None) -> AsyncIterator[TickStream]:
        """
        Yield batches of ring records (TICK_DTYPE) from now on, across restarts of `datad`.

        `period_s` None is an eager reader, woken for every ring of the doorbell; a number a
        periodic one, which sleeps so long between batches. A reader that was lapped gets one GAP
        record with the exact count; after a restart of the writer one with `tid` -1, which means
        that the number is not known and the arrays are to be read again.
        """
        stream = TickStream(self)
        self._readers.add(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.keep_bell, period_s or 0.0)
            try:
                yield stream
            finally:
                self._readers.discard(stream)
            nursery.cancel_scope.cancel()


class EventStream:
    """Control messages of one market for one listener, joined while it does not read."""

    def __init__(self) -> None:
        self._outbox = Outbox()
        self._taken: list[Message] = []

    def put(self, message: Message) -> None:
        """Add a message; never blocks."""
        self._outbox.put(message)

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Message:
        if not self._taken:
            await self._outbox.wait()
            self._taken = self._outbox.take()[::-1]
        return self._taken.pop()


class TickStream:
    """Batches of one market's ring records for one reader; made by `Flume.open_ticks`."""

    def __init__(self, flume: Flume) -> None:
        self.flume = flume
        self.lost = 0  # records missed for good by being lapped
        self.reattached = 0
        self._generation = flume.generation
        self._reader = self._attach(None)
        self._bell: Doorbell | None = None
        self._has_bell = trio.Event()
        self._bell_lost = trio.Event()

    def __aiter__(self) -> TickStream:
        return self

    async def __anext__(self) -> np.ndarray:
        has_waited = False
        while True:
            if len(batch := self.read_nowait()):
                if not has_waited:
                    await trio.lowlevel.checkpoint()
                return batch
            bell = self._bell
            if bell is None:
                await self._has_bell.wait()
            else:
                try:
                    await bell.wait(self._has_data)
                except ConnectionLost:
                    self._bell, self._has_bell = None, trio.Event()
                    self._bell_lost.set()
            has_waited = True

    def _has_data(self) -> bool:
        return self._reader is not None and self._reader.has_data()

    def wake(self) -> None:
        """Have the reader look again: the flume was bound to another writer."""
        if self._bell is not None:
            self._bell.wake()

    def read_nowait(self) -> np.ndarray:
        """Return what is there, at most 4,096 records; empty when there is nothing."""
        batch = _NOTHING if self._reader is None else self._reader.read()
        if len(batch):
            self.lost += int(batch["tid"][0]) if batch["type"][0] == GAP else 0
        elif self.flume.generation != self._generation:
            return self._switch()
        return batch

    def skip_to_newest(self) -> None:
        """Leave out what waits."""
        if self._reader is not None:
            self._reader.position = self._reader.ring.head

    def _attach(self, from_seq: int | None) -> RingReader | None:
        """Return a reader of the present ring; None when its writer is gone already."""
        try:
            return self.flume.ring.reader(from_seq)
        except SegmentGone:
            return None

    def _switch(self) -> np.ndarray:
        """Read the new writer's ring from its beginning, behind a GAP record."""
        self._generation = self.flume.generation
        self._reader = self._attach(0)
        if self._reader is None:
            return _NOTHING
        self.reattached += 1
        gap = np.zeros(1, TICK_DTYPE)
        for name in ("price", "size", "price2", "size2"):
            gap[name] = math.nan
        gap["type"], gap["tid"], gap["time_recv_ns"] = GAP, LOST_UNKNOWN, clock.now_ns()
        return gap

    async def keep_bell(self, period_s: float) -> None:
        """Hold a doorbell of the present writer, for ever."""
        while True:
            generation = self.flume.generation
            try:
                async with open_doorbell(
                    self.flume.bell_address, self.flume.fqme, period_s
                ) as bell:
                    self._bell_lost = trio.Event()
                    self._bell = bell
                    self._has_bell.set()
                    try:
                        await self._bell_lost.wait()
                    finally:
                        self._bell = None  # its descriptor is closed next
                await self.flume.wait_bound(generation)
            except ConnectionLost:
                with trio.move_on_after(clock.jitter(0.2)):
                    await self.flume.wait_bound(generation)
