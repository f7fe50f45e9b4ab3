"""An `emsd` without actors: memory disks, one market, a paper engine that does as it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np
import trio

from piker.accounting.files import LedgerWriter
from piker.clearing._client import OrderClient, open_client
from piker.clearing._messages import Mode, Order, parse_broker
from piker.clearing._router import Router
from piker.clearing._session import Hello
from piker.data._blocks import L1, L2, NO_L1
from piker.model.market import MktPair
from piker.model.ticks import GAP, TICK_DTYPE, TRADE
from piker.settings import Clearing, Paper
from piker.storage.memory_disk import MemoryDisk

T = TypeVar("T")

FQME = "btcusdt.spot.binance"
MKT = MktPair(
    dst="btc",
    src="usdt",
    price_tick=Decimal("0.01"),
    size_tick=Decimal("0.001"),
    bs_mktid="BTCUSDT",
    broker="binance",
    venue="spot",
)
START_NS = 1_700_000_000_000_000_000
FREE = Clearing(orders_per_s=0, max_notional=Decimal(0), daily_loss=Decimal(0))


class Pipe:
    """One end of a memory channel."""

    def __init__(self, send: Any, receive: Any) -> None:
        self._send = send
        self._receive = receive

    async def send(self, message: Any) -> None:
        await self._send.send(message)

    def send_nowait(self, *messages: Any) -> bool:
        free = self._send.statistics()
        if free.max_buffer_size - free.current_buffer_used < len(messages):
            return False
        for message in messages:
            self._send.send_nowait(message)
        return True

    def on_message(self, take: Callable[[Any, bool], bool]) -> None:
        """Call it never: who sends into a memory channel wakes its reader."""

    def __aiter__(self) -> Pipe:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def receive(self) -> Any:
        """Return the next message within a second of the virtual clock."""
        with trio.fail_after(1):
            return await self._receive.receive()

    def receive_nowait(self) -> Any:
        return self._receive.receive_nowait()

    def close(self) -> None:
        self._send.close()
        self._receive.close()


def pipes(size: int = 1000) -> tuple[Pipe, Pipe]:
    there, back = (trio.open_memory_channel[Any](size) for _ in range(2))
    return Pipe(there[0], back[1]), Pipe(back[0], there[1])


class FakeMarket:
    """A market whose trades the test makes."""

    def __init__(self) -> None:
        self.mkt = MKT
        self.last = 100.0
        self.stale = ""
        self._readers: list[Any] = []

    def ticks(self) -> AsyncIterator[np.ndarray]:
        send, receive = trio.open_memory_channel[np.ndarray](1000)
        self._readers.append(send)
        return receive

    def trade(self, price: float) -> None:
        """Let a trade happen."""
        self.last = price
        batch = np.zeros(1, TICK_DTYPE)
        batch["type"], batch["price"], batch["size"] = TRADE, price, 1.0
        self._tell(batch)

    def gap(self) -> None:
        """Let every reader hear that it has lost records."""
        batch = np.zeros(1, TICK_DTYPE)
        batch["type"] = GAP
        self._tell(batch)

    def _tell(self, batch: np.ndarray) -> None:
        for reader in self._readers:
            reader.send_nowait(batch)

    def l1(self) -> L1:
        fields = {name: getattr(NO_L1, name) for name in L1.__struct_fields__}
        return L1(**{**fields, "last": self.last, "bid": self.last, "ask": self.last})

    def l2(self) -> L2:
        return L2(np.empty((0, 2)), np.empty((0, 2)), 0, 0)

    def is_stale(self) -> str:
        return self.stale


class FakeWorld:
    """`World` over memory; `engine()` is the test's end of the newest trade dialog."""

    def __init__(self, disk: MemoryDisk | None = None) -> None:
        self.disk = disk or MemoryDisk()
        self.ledgers, self.accounts = MemoryDisk(), MemoryDisk()
        self.market = FakeMarket()
        self.refuse_market: Exception | None = None
        self.refuse_ledger = None
        self.refuse_broker: Exception | None = None
        self.notices: list[str] = []
        self.dialogs, self._opened = trio.open_memory_channel[Pipe](100)
        self._ids = 0

    def now_ns(self) -> int:
        return START_NS + round(trio.current_time() * 1e9)

    async def sleep_until_ns(self, when_ns: int) -> None:
        await trio.sleep(max(0, when_ns - self.now_ns()) / 1e9)

    def new_id(self) -> str:
        self._ids += 1
        return f"{self._ids:032x}"

    async def in_worker(self, work: Callable[[], T]) -> T:
        await trio.lowlevel.checkpoint()
        return work()

    def journals(self) -> list[tuple[str, str]]:
        return [("binance", "paper")] if self.disk.names() else []

    def journal_disk(self, broker: str, account: str) -> MemoryDisk:
        return self.disk

    def open_ledger(self, broker: str, account: str) -> LedgerWriter:
        if self.refuse_ledger is not None:
            raise self.refuse_ledger
        writer = LedgerWriter(
            broker, account, ledgers=self.ledgers, accounts=self.accounts, now_ns=self.now_ns
        )
        writer.open()
        return writer

    @asynccontextmanager
    async def open_market(self, fqme: str) -> AsyncIterator[FakeMarket]:
        if self.refuse_market is not None:
            raise self.refuse_market
        yield self.market

    @asynccontextmanager
    async def open_broker(
        self, broker: str, mode: Mode, account: str, fqme: str
    ) -> AsyncIterator[tuple[Any, Pipe]]:
        if self.refuse_broker is not None:
            raise self.refuse_broker
        near, far = pipes()
        self.dialogs.send_nowait(far)
        try:
            yield ([], ["paper"]), near
        finally:
            near.close()

    def notify(self, text: str) -> None:
        self.notices.append(text)

    async def engine(self) -> Engine:
        """Return the newest dialog that `emsd` has opened, past its first words."""
        with trio.fail_after(5):
            engine = Engine(self, await self._opened.receive())
            await engine.take_first()
        return engine

    def restarted(self) -> FakeWorld:
        """Return the world as the next process finds it when this one was killed."""
        world = FakeWorld(self.disk.after_kill())
        world.ledgers, world.accounts = self.ledgers.after_kill(), self.accounts.after_kill()
        world.market.last = self.market.last
        return world


class Engine:
    """The test's hands on a trade dialog."""

    def __init__(self, world: FakeWorld, pipe: Pipe) -> None:
        self.world = world
        self.pipe = pipe
        self.told: list[dict[str, Any]] = []  # before it was ready
        self._tids = 0

    async def take_first(self) -> None:
        while True:
            message = await self.pipe.receive()
            if message["msg"] == "paper_ready":
                return
            self.told.append(message)

    async def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = await self.pipe.receive()
        return message

    async def quiet(self) -> bool:
        """Whether nothing has come a while later."""
        await settle()
        try:
            self.pipe.receive_nowait()
        except trio.WouldBlock:
            return True
        return False

    async def say(self, name: str, **fields: Any) -> None:
        parse_broker({"name": name, **fields})
        await self.pipe.send({"name": name, **fields})

    async def open(self, order: dict[str, Any]) -> None:
        """Acknowledge an order or amend, and say that it rests."""
        reqid = order["reqid"] or order["client_id"]
        common = {"oid": order["oid"], "reqid": reqid, "number": order["number"]}
        await self.say("ack", **common)
        await self.status("open", **common)

    async def status(self, word: str, **fields: Any) -> None:
        await self.say("status", time_ns=self.world.now_ns(), status=word, **fields)

    async def fill(self, oid: str, size: str, price: str = "100", **fields: Any) -> None:
        self._tids += 1
        given = {
            "time_ns": self.world.now_ns(),
            "broker_time": self.world.now_ns() / 1e9,
            "reqid": None,
            "oid": oid,
            "size": size,
            "price": price,
            "tid": f"t{self._tids}",
            "fee": "0.1",
            "fee_asset": "usdt",
            "account": "paper",
        }
        await self.say("fill", **{**given, **fields})


async def settle(rounds: int = 50) -> None:
    """Let every task run that can, without any time passing."""
    for _ in range(rounds):
        await trio.lowlevel.checkpoint()


@asynccontextmanager
async def open_router(world: FakeWorld, limits: Clearing = FREE) -> AsyncIterator[Router]:
    """Yield a running router; leaving the block stops it."""
    router = Router(world, limits, Paper())
    async with trio.open_nursery() as nursery:
        await nursery.start(router.run)
        await router.wait_recovered()
        yield router
        nursery.cancel_scope.cancel()


class Peer:
    """A client as the wire sees it, after its handshake."""

    def __init__(self, pipe: Pipe, first: dict[str, Any]) -> None:
        self.pipe = pipe
        self.first = first
        self.dialogs: list[dict[str, Any]] = []
        self.fills: dict[str, list[dict[str, Any]]] = {}
        self.positions: list[dict[str, Any]] = []
        self.ended = ""

    async def take_pages(self) -> None:
        while True:
            page = await self.pipe.receive()
            assert page["msg"] == "page"
            self.dialogs += page["dialogs"]
            self.positions += page["positions"]
            for oid, fills in page["fills"].items():
                self.fills.setdefault(oid, []).extend(fills)
            if page["is_last"]:
                return

    async def ask(self, request: Any) -> None:
        await self.pipe.send(request if isinstance(request, dict) else request.to_dict())

    async def receive(self) -> dict[str, Any]:
        """Return the next status; positions and states are passed over."""
        while True:
            message: dict[str, Any] = await self.pipe.receive()
            if message["msg"] == "status":
                return message

    async def words(self, count: int) -> list[str]:
        """Return the `resp` of the next statuses."""
        return [(await self.receive())["resp"] for _ in range(count)]


@asynccontextmanager
async def open_peer(router: Router, size: int = 5000, **hello: Any) -> AsyncIterator[Peer]:
    """Attach a raw client; it leaves with the block."""
    session = await router.attach(Hello(fqme=FQME, **hello))
    near, far = pipes(size)
    peer = Peer(near, session.first)

    async def serve() -> None:
        try:
            await router.serve(session, far)
        except Exception as error:  # relay: to the test
            peer.ended = str(error)
        far.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await peer.take_pages()
        yield peer
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_desk() -> AsyncIterator[tuple[FakeWorld, Router, Peer, Engine]]:
    """Yield a new world, its running router, a client, and the paper engine it has opened."""
    world = FakeWorld()
    async with open_router(world) as router, open_peer(router) as peer:
        yield world, router, peer, await world.engine()


@asynccontextmanager
async def open_order_client(
    world: FakeWorld, routers: Callable[[], Router], **hello: Any
) -> AsyncIterator[OrderClient]:
    """Yield an order client attached to whatever router `routers` gives."""

    @asynccontextmanager
    async def connect(hello: Hello) -> AsyncIterator[tuple[dict[str, Any], Pipe]]:
        router = routers()
        session = await router.attach(hello)
        near, far = pipes()
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                try:
                    await router.serve(session, far)
                finally:
                    far.close()

            nursery.start_soon(serve)
            yield session.first, near
            nursery.cancel_scope.cancel()

    greeting = Hello(fqme=FQME, client="c" * 32, **hello)
    async with open_client(connect, greeting, world.now_ns, world.new_id) as (client, *_):
        yield client


def order(oid: str = "a" * 32, **fields: Any) -> Order:
    given: dict[str, Any] = {
        "action": "buy",
        "exec_mode": "live",
        "oid": oid,
        "symbol": FQME,
        "account": "paper",
        "price": "99",
        "size": "1",
    }
    return Order(**{**given, **fields})
