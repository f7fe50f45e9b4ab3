"""A market made by hand and a dialog with the paper engine, on trio's own virtual clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import numpy as np
import trio

from piker.clearing._fill_models import PaperTerms
from piker.clearing._messages import (
    BrokerdOrder,
    PaperAccount,
    PaperReady,
    client_order_id,
    parse_broker,
)
from piker.clearing._paper_core import PaperEngine
from piker.data._blocks import L1, L2
from piker.errors import SymbolNotFound
from piker.model.market import Asset, MktPair
from piker.model.ticks import FEED_LIVE, QUOTE, TICK_DTYPE, TRADE

BASE_NS = 1_700_000_000_000_000_000
FQME = "btcusdt.spot.binance"
MKT = MktPair(
    dst=Asset("btc", "crypto", Decimal("0.00001")),
    src=Asset("usdt", "crypto", Decimal("0.01")),
    price_tick=Decimal("0.5"),
    size_tick=Decimal("0.001"),
    bs_mktid="BTCUSDT",
    broker="binance",
    venue="spot",
    _atype="crypto",
)
NAN = float("nan")


class HandMarket:
    """A `MarketView` whose events a test makes; 100/102 with three levels a side."""

    def __init__(self, mkt: MktPair, now_ns: Callable[[], int]) -> None:
        self.mkt = mkt
        self.now_ns = now_ns
        self.feed_state = FEED_LIVE
        self.bid, self.ask, self.last = (100.0, 1.0), (102.0, 1.0), 101.0
        self.bids = [(100.0, 1.0), (99.0, 2.0), (97.0, 3.0)]
        self.asks = [(102.0, 1.0), (103.0, 2.0), (105.0, 3.0)]
        self.update_id = 1
        self._send, self._ticks = trio.open_memory_channel[np.ndarray](1000)

    async def ticks(self) -> AsyncIterator[np.ndarray]:
        """Yield what the test tells."""
        async for batch in self._ticks:
            yield batch

    def l1(self) -> L1:
        """Return the newest quote."""
        return L1(*self.bid, *self.ask, self.last, 1.0, 1, 0, 0, self.feed_state, 1, 1)

    def l2(self) -> L2:
        """Return the levels."""
        return L2(np.array(self.bids), np.array(self.asks), 0, self.update_id)

    def is_stale(self) -> str:
        """Return nothing: it is never stale."""
        return ""

    def tell(self, kind: int, *, flags: int = 0, **fields: float) -> None:
        """Put one record on the ring."""
        row = np.zeros(1, TICK_DTYPE)
        for name in ("price", "size", "price2", "size2"):
            row[name] = fields.get(name, NAN)
        row["type"], row["flags"], row["time_recv_ns"] = kind, flags, self.now_ns()
        self._send.send_nowait(row)

    def trade(self, price: float, size: float, flags: int = 0) -> None:
        """Let somebody trade."""
        self.last = price
        self.tell(TRADE, price=price, size=size, flags=flags)

    def quote(self, bid: float, bid_size: float, ask: float, ask_size: float) -> None:
        """Show another quote, and nothing behind it."""
        self.bid, self.ask = (bid, bid_size), (ask, ask_size)
        self.bids, self.asks, self.update_id = [self.bid], [self.ask], self.update_id + 1
        self.tell(QUOTE, price=bid, size=bid_size, price2=ask, size2=ask_size)

    def end(self) -> None:
        """Close the feed."""
        self._send.close()


class HandWorld:
    """As much of a `World` as the paper engine uses."""

    def __init__(self) -> None:
        self.markets: dict[str, HandMarket] = {}
        self.refused: set[str] = set()
        self.open_s = 0.001  # what opening a market takes

    def now_ns(self) -> int:
        """Return trio's time as market time."""
        return BASE_NS + round(trio.current_time() * 1e9)

    async def sleep_until_ns(self, when_ns: int) -> None:
        """Sleep on trio's clock."""
        await trio.sleep(max(0, when_ns - self.now_ns()) / 1e9)

    @asynccontextmanager
    async def open_market(self, fqme: str) -> AsyncIterator[HandMarket]:
        """Yield a market, a new one each time."""
        await trio.sleep(self.open_s)
        if fqme in self.refused or not fqme.endswith(".spot.binance"):
            raise SymbolNotFound(f"binance: no market {fqme}", broker="binance")
        pair = fqme.split(".")[0]
        mkt = MKT if fqme == FQME else MktPair(
            dst=pair.removesuffix("usdt"), src=MKT.src, price_tick=MKT.price_tick,
            size_tick=MKT.size_tick, bs_mktid=pair.upper(), broker="binance", venue="spot",
        )  # fmt: skip
        self.markets[fqme] = HandMarket(mkt, self.now_ns)
        yield self.markets[fqme]


class Dialog:
    """`emsd`'s side of a dialog with the paper engine."""

    def __init__(self, world: HandWorld, terms: PaperTerms) -> None:
        self.world = world
        self.engine = PaperEngine(world, "binance", terms)  # type: ignore[arg-type]
        self._to_engine, engine_in = trio.open_memory_channel[Any](1000)
        engine_out, self._from_engine = trio.open_memory_channel[Any](1000)
        self.channel = _Staple(engine_out, engine_in)

    @property
    def market(self) -> HandMarket:
        """The market that tests use."""
        return self.world.markets[FQME]

    def say(self, message: Any) -> None:
        """Send a message, or a raw map."""
        raw = message if isinstance(message, dict | str) else message.to_dict()
        self._to_engine.send_nowait(raw)

    async def heard(self, wait_s: float = 1.0) -> list[Any]:
        """Return what the engine says within some time."""
        await trio.sleep(wait_s)
        out = []
        while True:
            try:
                out.append(parse_broker(self._from_engine.receive_nowait()))
            except (trio.WouldBlock, trio.EndOfChannel):
                return out

    def order(self, oid: str = "a", action: str = "buy", **fields: Any) -> BrokerdOrder:
        """Return an entry; `number` above 1 makes an amend of it."""
        number = fields.pop("number", 1)
        first = client_order_id("paper", oid, 1)
        fields = {"price": "99", "size": "0.5", "symbol": "btcusdt.spot"} | fields
        fields |= {name: Decimal(fields[name]) for name in ("price", "size")}
        return BrokerdOrder(
            oid=oid,
            account=fields.pop("account", "paper"),
            time_ns=fields.pop("time_ns", self.world.now_ns()),
            action=action,
            number=number,
            reqid=first if number > 1 else None,
            client_id=client_order_id("paper", oid, number),
            **fields,
        )

    def hang_up(self) -> None:
        """Leave the dialog."""
        self._to_engine.close()


class _Staple:
    """Two memory channels as one `Channel`."""

    def __init__(self, send: Any, receive: Any) -> None:
        self.send = send.send
        self._send = send
        self._receive = receive

    def send_nowait(self, *messages: Any) -> bool:
        for message in messages:
            self._send.send_nowait(message)
        return True

    def on_message(self, take: Any) -> None:
        """Call it never: who sends into a memory channel wakes its reader."""

    def __aiter__(self) -> Any:
        return self._receive.__aiter__()


@asynccontextmanager
async def open_dialog(
    *told: Any,
    account: PaperAccount | None = None,
    is_ready: bool = True,
    **terms: Any,
) -> AsyncIterator[Dialog]:
    """Yield a dialog in which the engine was told `told`, then the account, then to go on."""
    dialog = Dialog(HandWorld(), PaperTerms(**terms))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dialog.engine.serve, dialog.channel)
        for message in (*told, account or PaperAccount()):
            dialog.say(message)
        if is_ready:
            dialog.say(PaperReady(time_ns=0))
        yield dialog
        dialog.hang_up()
