"""
The tasks around one market in `datad`: its stream, its losses, its history.

`run_market` is one task for one market and lasts as long as the daemon. A venue that refuses or
is out of reach is asked again with backoff and said so as a feed state; any other error is a bug
and ends the daemon, which its supervisor starts again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from types import ModuleType
from typing import Any

import trio

from piker import clock
from piker.data._market_feed import Event, Loss, MarketFeed
from piker.data.validate import FeedInit
from piker.errors import PikerError, innermost
from piker.log import get_logger
from piker.model.feed import FeedState, Trade
from piker.model.ticks import FEED_DOWN

log = get_logger(__name__)

QUEUE_MAX = 616  # socket reads between backend and bus; when full, TCP holds the venue back
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.3, 30.0
LOSS_TRADES_MAX = 20_000  # more are repaired from bars instead of trade by trade
LOSS_SPAN_MAX_S = 15 * 60  # market time; so are losses that began longer ago
LOSS_TRIES_MAX = 6
DIRTY_EVERY_S = 0.25

Batch = dict[str, list[Event]]
GetTrades = Callable[..., Awaitable[list[Trade]]]


class Stream:
    """A backend's `stream_quotes` for one symbol, kept running."""

    def __init__(self, mod: ModuleType, symbol: str, loglevel: str | None) -> None:
        self.cause = "the venue has not answered"
        self.restarts = -1
        self.begun_s = trio.current_time()  # real time
        self.is_live = trio.Event()
        self.batches: trio.MemoryReceiveChannel[Batch]
        self._send, self.batches = trio.open_memory_channel[Batch](QUEUE_MAX)
        self._mod = mod
        self._symbol = symbol
        self._loglevel = loglevel
        self._bs_fqme = symbol

    async def run(
        self,
        task_status: trio.TaskStatus[
            tuple[list[FeedInit], dict[str, Any]]
        ] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """
        Stream for ever; starts with the backend's first words.

        Raises:
          PikerError: one that is not transient, at the start only.
        """
        delay_s, attempt = BACKOFF_MIN_S, 0
        is_started = False
        while True:
            begun_s = trio.current_time()
            self.restarts += 1
            try:
                async with trio.open_nursery() as nursery:
                    first = await nursery.start(
                        partial(
                            self._mod.stream_quotes,
                            send_chan=self._send.clone(),
                            symbols=[self._symbol],
                            feed_is_live=self.is_live,
                            loglevel=self._loglevel,
                        )
                    )
                    if not is_started:
                        self._bs_fqme = first[0][0].mkt_info.bs_fqme if first[0] else self._symbol
                        task_status.started(first)
                        is_started = True
            except* PikerError as group:
                error = innermost(group)
                assert isinstance(error, PikerError)
                if not error.is_transient and not is_started:
                    raise error from None
                self.cause = str(error)
                delay_s = max(delay_s, float(getattr(error, "retry_after_s", 0.0)))
            if trio.current_time() - begun_s > 60:
                delay_s, attempt = BACKOFF_MIN_S, 0
            attempt += 1
            wait_s = clock.jitter(min(delay_s, 120.0))
            if is_started:
                state = FeedState(FEED_DOWN, self.cause, attempt, wait_s, 0.0)
                await self._send.send({self._bs_fqme: [state]})
            log.warning(
                "feed %s is down cause=%s retry_in_s=%.1f", self._symbol, self.cause, wait_s
            )
            await trio.sleep(wait_s)
            delay_s = min(delay_s * 2, BACKOFF_MAX_S)


async def pump(batches: trio.MemoryReceiveChannel[Batch], feed: MarketFeed) -> None:
    """Hand every batch of the backend to the market, for ever."""
    key = feed.mkt.bs_fqme
    async for batch in batches:
        for name, events in batch.items():
            if name.lower() == key:
                feed.apply(events)
            else:
                feed.counters["foreign"] = feed.counters.get("foreign", 0) + len(events)


async def recover_losses(feed: MarketFeed, get_trades: GetTrades | None) -> None:
    """Fetch the trades of each loss from the venue, for ever; long losses are left to bars."""
    while True:
        await feed.has_losses.wait()
        loss = feed.losses[0]
        trades = None if get_trades is None else await _fetch_loss(feed, loss, get_trades)
        if trades is None:
            log.info("loss left to bars fqme=%s last_tid=%d", feed.mkt.fqme, loss.last_tid)
            feed.give_up(loss)
        else:
            feed.recover(loss, trades)
            log.info("loss recovered fqme=%s trades=%d", feed.mkt.fqme, len(trades))


async def _fetch_loss(feed: MarketFeed, loss: Loss, get_trades: GetTrades) -> list[Trade] | None:
    """Return all trades of a loss, or None when it is too long or the venue does not give them."""
    if loss.first_tid is not None and loss.last_tid - loss.first_tid >= LOSS_TRADES_MAX:
        return None
    if loss.stop_ns // clock.NS - loss.start_s > LOSS_SPAN_MAX_S:
        return None
    delay_s = BACKOFF_MIN_S
    for _ in range(LOSS_TRIES_MAX):
        try:
            trades = await get_trades(loss.first_tid, loss.last_tid, loss.start_s * clock.NS)
        except PikerError as error:
            log.warning("trades not recovered yet fqme=%s cause=%s", feed.mkt.fqme, error)
            if not error.is_transient:
                return None
            delay_s = max(delay_s, float(getattr(error, "retry_after_s", 0.0)))
            await trio.sleep(clock.jitter(min(delay_s, 30.0)))
            delay_s *= 2
            continue
        return trades if _is_whole(trades, loss) else None
    return None


def _is_whole(trades: list[Trade], loss: Loss) -> bool:
    """Whether the ids are contiguous up to the loss's end (joined at an id, never at a time)."""
    tids = [trade.tid for trade in trades]
    if loss.first_tid is not None and len(tids) != loss.last_tid - loss.first_tid + 1:
        return False
    return not tids or tids == list(range(tids[0], loss.last_tid + 1))


async def tell_changes(feed: MarketFeed) -> None:
    """Publish rewritten ranges a few times a second, joined."""
    while True:
        await trio.sleep(DIRTY_EVERY_S)
        for series in feed.series.values():
            series.flush_dirty()
