"""
One market watched for its orders: the last price, and every tick for the triggers.

A watch opens its market again when that is lost. When ticks were missed, the newest price is
asked whether a trigger was crossed meanwhile; the price of the last trade that was seen says
nothing of what was missed, so it fires nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from decimal import Decimal

import numpy as np
import trio

from piker import clock
from piker.clearing._keeper import AccountKeeper
from piker.clearing._world import MarketView, World
from piker.errors import ConnectionLost, PikerError
from piker.log import get_logger
from piker.model.market import MktPair
from piker.model.ticks import GAP, RECOVERED, TRADE

log = get_logger(__name__)

RETRY_MIN_S, RETRY_MAX_S = 0.2, 5.0
FIRST_S = 5.0  # a datad that is lost as its market is opened for the first time is back by then

Keepers = Callable[[], Iterable[AccountKeeper]]


class MarketWatch:
    """A market by the name it was asked by; `keepers` are the accounts that may hold triggers."""

    def __init__(self, world: World, name: str, keepers: Keepers) -> None:
        self.name = name
        self.cause = ""  # why it is not watched now
        self._world = world
        self._keepers = keepers
        self._view: MarketView | None = None
        self._mkt: MktPair | None = None
        self._tried = trio.Event()
        self._error: PikerError | None = None
        self._seen = math.nan  # price of the newest trade that triggers were held against
        self._read = math.nan  # the last price as it was read, and as `last` returns it
        self._last = Decimal(0)
        self.scope = trio.CancelScope()

    @property
    def mkt(self) -> MktPair:
        """The market, once it was opened."""
        assert self._mkt is not None
        return self._mkt

    @property
    def is_known(self) -> bool:
        """Whether the market was opened once."""
        return self._mkt is not None

    @property
    def last(self) -> Decimal | None:
        """The price of the last trade, on the market's ticks; None when there was none."""
        if self._view is None:
            return None
        price = self._view.l1().last
        if math.isnan(price):
            return None
        if price != self._read:
            self._read, self._last = price, self.mkt.quantize(price, "price")
        return self._last

    def is_stale(self) -> str:
        """Why prices are not current, or '' when they are."""
        if self._view is None:
            return self.cause or f"{self.name} is not open yet"
        return self._view.is_stale()

    async def wait_open(self) -> None:
        """
        Wait until the market was tried.

        Raises:
          PikerError: it was never opened, and the newest attempt failed; says why.
        """
        await self._tried.wait()
        if self._mkt is None and self._error is not None:
            raise self._error

    async def run(self) -> None:
        """Watch until cancelled; a market that never opened is given up."""
        delay_s, begun_s = RETRY_MIN_S, trio.current_time()
        with self.scope:
            while True:
                is_lost = False
                try:
                    async with self._world.open_market(self.name) as view:
                        delay_s = RETRY_MIN_S
                        await self._watch(view)
                    self.cause = f"{self.name}: the feed ended"
                except* PikerError as group:
                    error = group.exceptions[0]
                    while isinstance(error, BaseExceptionGroup):
                        error = error.exceptions[0]
                    assert isinstance(error, PikerError)
                    self.cause, self._error = str(error), error
                    is_lost = isinstance(error, ConnectionLost)
                self._view = None
                if self._mkt is not None or not is_lost or trio.current_time() > begun_s + FIRST_S:
                    self._tried.set()
                    if self._mkt is None and not any(True for _ in self._holders(self.name)):
                        return
                log.warning("market not watched fqme=%s cause=%s", self.name, self.cause)
                await trio.sleep(clock.jitter(delay_s))
                delay_s = min(delay_s * 1.6, RETRY_MAX_S)

    async def _watch(self, view: MarketView) -> None:
        """Look at every tick for the triggers that are armed."""
        ticks = view.ticks()
        self._view, self._mkt, self.cause = view, view.mkt, ""
        self._read = math.nan  # the tick may be another one
        self._tried.set()
        fqme = view.mkt.fqme
        self.check_crossed()
        async for batch in ticks:
            if bool(np.any(batch["type"] == GAP)):
                self.check_crossed()
            for keeper in self._holders(fqme):
                keeper.on_ticks(fqme, batch, self)
            trades = batch["price"][(batch["type"] == TRADE) & (batch["flags"] & RECOVERED == 0)]
            if len(trades):
                self._seen = float(trades[-1])

    def check_crossed(self) -> None:
        """Fire what was crossed while nobody watched, each once."""
        last = self.last
        if last is None or float(last) == self._seen:
            return
        self._seen = float(last)
        fqme = self.mkt.fqme
        for keeper in self._holders(fqme):
            keeper.fire(keeper.darks.crossed_while_down(fqme, last, self.mkt), self)

    def _holders(self, fqme: str) -> list[AccountKeeper]:
        return [keeper for keeper in self._keepers() if fqme in keeper.darks.fqmes()]
