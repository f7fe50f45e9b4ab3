"""The outside of the order path in a real actor: the run's clock, feeds, folders, brokers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import trio

from piker import clock, config
from piker.accounting.files import open_ledger_writer
from piker.brokers import __brokers__
from piker.clearing._messages import Mode
from piker.clearing._world import Channel, LedgerWriter, MarketView
from piker.data._blocks import L1, L2, NO_L1
from piker.data._sharedmem import SegmentGone
from piker.data.feed import maybe_open_feed
from piker.data.flume import Flume, TickStream
from piker.errors import ServiceUnavailable
from piker.log import get_logger
from piker.model.market import MktPair
from piker.model.ticks import FEED_LIVE
from piker.storage.disk import Disk, FolderDisk

log = get_logger(__name__)

T = TypeVar("T")
OpenBroker = Callable[[str, Mode, str, str], AbstractAsyncContextManager[tuple[Any, Channel]]]
NO_L2 = L2(np.empty((0, 2)), np.empty((0, 2)), 0, 0)


class FlumeView:
    """A flume as the order path sees it."""

    def __init__(self, flume: Flume, stream: TickStream) -> None:
        self._flume = flume
        self._stream = stream

    @property
    def mkt(self) -> MktPair:
        return self._flume.mkt

    def ticks(self) -> TickStream:
        self._stream.skip_to_newest()
        return self._stream

    def l1(self) -> L1:
        try:
            return self._flume.l1.read()
        except SegmentGone:  # its datad has just died
            return NO_L1

    def l2(self) -> L2:
        try:
            return self._flume.l2.read()
        except SegmentGone:
            return NO_L2

    def is_stale(self) -> str:
        state = self._flume.feed_state
        if state.get("state") == FEED_LIVE:
            return ""
        return f"{self.mkt.fqme} is {state.get('name', 'down')}: {state.get('cause') or 'no data'}"


def journal_folder(broker: str, account: str) -> Path:
    """Return the folder of an account's order journal; a local venue's is its own."""
    name = f"{broker}.paper" if account == "paper" else account
    return config.broker_dir(broker) / "journal" / name


class ActorWorld:
    """`World` in an actor; one that opens no brokers needs no `open_broker`."""

    def __init__(self, open_broker: OpenBroker | None = None) -> None:
        self._open_broker = open_broker

    def now_ns(self) -> int:
        return clock.now_ns()

    async def sleep_until_ns(self, when_ns: int) -> None:
        await clock.sleep_until_ns(when_ns)

    def new_id(self) -> str:
        return clock.new_id()

    async def in_worker(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work)

    def journals(self) -> list[tuple[str, str]]:
        own: dict[str, str] = config.run_vars().get("backends") or {}
        found = []
        for broker in dict.fromkeys([*__brokers__, *own]):
            folder = config.broker_dir(broker) / "journal"
            names = sorted(path.name for path in folder.glob(f"{broker}.*") if path.is_dir())
            found += [(broker, "paper" if n == f"{broker}.paper" else n) for n in names]
        return found

    def journal_disk(self, broker: str, account: str) -> Disk:
        return FolderDisk(journal_folder(broker, account))

    def open_ledger(self, broker: str, account: str) -> LedgerWriter:
        return open_ledger_writer(broker, account)

    @asynccontextmanager
    async def open_market(self, fqme: str) -> AsyncIterator[MarketView]:
        async with maybe_open_feed([fqme], start_stream=False) as feed:
            flume = next(iter(feed.flumes.values()))
            async with flume.open_ticks() as stream:
                yield FlumeView(flume, stream)

    def open_broker(
        self, broker: str, mode: Mode, account: str, fqme: str
    ) -> AbstractAsyncContextManager[tuple[Any, Channel]]:
        if self._open_broker is None:
            raise ServiceUnavailable(f"{broker}: this process opens no trade dialogs")
        return self._open_broker(broker, mode, account, fqme)

    def notify(self, text: str) -> None:
        log.warning("notice: %s", text)
