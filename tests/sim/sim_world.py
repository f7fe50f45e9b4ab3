"""
The whole paper path in one trio loop: virtual clock, memory disks, channels that take their time.

One seed makes one history: the order in which tasks run, every delay, every id.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Any, TypeVar

import msgspec
import trio
import trio.testing
from sim.sim_market import LOT, SimMarket, SimView, market

from piker import clock
from piker.accounting._writer import LedgerWriter
from piker.clearing import _keeper
from piker.clearing._client import open_client
from piker.clearing._fill_models import paper_terms
from piker.clearing._paper_core import PaperEngine
from piker.clearing._router import Router
from piker.clearing._session import Hello
from piker.errors import ConnectionLost, SymbolNotFound
from piker.settings import Clearing, Paper
from piker.storage.journal import Journal
from piker.storage.memory_disk import MemoryDisk

T = TypeVar("T")

BASE_NS = 1_780_000_000_000_000_000
BUSY_SHARE = 0.3  # of messages and syncs that are not dealt with in the turn they come up
RATE = 60  # orders a second that are let pass
PAIRS = ("btcusdt", "ethusdt")
LIMITS = Clearing(orders_per_s=RATE, daily_loss=Decimal(0))


@contextmanager
def one_order(seed: int) -> Iterator[None]:
    """Have trio run tasks in an order that the seed makes, and piker draw from it."""
    loop = trio._core._run
    was = loop._ALLOW_DETERMINISTIC_SCHEDULING, loop._r, clock._rng
    loop._ALLOW_DETERMINISTIC_SCHEDULING = True
    loop._r, clock._rng = random.Random(seed), random.Random(seed)  # type: ignore[assignment]
    try:
        yield
    finally:
        loop._ALLOW_DETERMINISTIC_SCHEDULING, loop._r, clock._rng = was


@contextmanager
def snapshots_every(size: int) -> Iterator[None]:
    """Have journals begin a new segment every `size` bytes, and keep the old ones to be read."""

    async def keep(journal: Journal, through_sequence: int) -> int:
        return 0

    was = _keeper.ROTATE_BYTES, Journal.release
    _keeper.ROTATE_BYTES, Journal.release = size, keep  # type: ignore[method-assign,misc]
    try:
        yield
    finally:
        _keeper.ROTATE_BYTES, Journal.release = was  # type: ignore[method-assign,misc]


class SimChannel:
    """One end of a stream of maps; what is sent takes a moment, and stays in order."""

    def __init__(self, world: SimWorld) -> None:
        self.peer: SimChannel = self
        self.tap: Callable[[Any], None] = lambda message: None  # what has arrived
        self.tap_sent: Callable[[Any], None] = lambda message: None
        self._world = world
        self._take: Callable[[Any, bool], bool] = lambda message, more: False
        self._inbox: deque[tuple[float, bytes]] = deque()
        self._news = trio.Event()
        self.is_closed = False

    async def send(self, message: Any) -> None:
        """Send a map as the wire would have it."""
        await trio.lowlevel.checkpoint()
        if self.is_closed or self.peer.is_closed:
            raise trio.BrokenResourceError
        self.tap_sent(message)
        self.peer._put(msgspec.msgpack.encode(message))

    def send_nowait(self, *messages: Any) -> bool:
        """Send maps at once, or let them wait for `send`: both happen."""
        if self.is_closed or self.peer.is_closed or self._world.draw.random() < BUSY_SHARE:
            return False
        for message in messages:
            self.tap_sent(message)
            self.peer._put(msgspec.msgpack.encode(message))
        return True

    def on_message(self, take: Callable[[Any, bool], bool]) -> None:
        """Give `take` a part of the messages, the rest to the reader."""
        self._take = take

    def _put(self, raw: bytes) -> None:
        at = trio.current_time() + self._world.delay_s()
        if self._inbox:
            at = max(at, self._inbox[-1][0])
        self._inbox.append((at, raw))
        self._news.set()

    def close(self) -> None:
        """Leave; the other side hears of it after what was sent before."""
        self.is_closed = True
        self.peer._news.set()
        self._news.set()

    def kill(self) -> None:
        """Break at once, with everything under way lost."""
        for end in (self, self.peer):
            end._inbox.clear()
            end.close()

    def __aiter__(self) -> SimChannel:
        return self

    async def __anext__(self) -> Any:
        while True:
            message = await self._next()
            if self._world.draw.random() < BUSY_SHARE:
                return message
            more = bool(self._inbox) and self._inbox[0][0] <= trio.current_time()
            if not self._take(message, more):
                return message

    async def _next(self) -> Any:
        while not self._inbox:
            if self.is_closed or self.peer.is_closed:
                await trio.lowlevel.checkpoint()
                raise StopAsyncIteration
            self._news = trio.Event()
            await self._news.wait()
        await trio.sleep_until(self._inbox[0][0])
        if not self._inbox:  # killed meanwhile
            raise StopAsyncIteration
        message = msgspec.msgpack.decode(self._inbox.popleft()[1])
        self.tap(message)
        return message


class SimWorld:
    """A `World` whose parts all live here; `successor` is what a killed one leaves behind."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.markets = {
            mkt.fqme: SimMarket(mkt, self.draw.getrandbits(32), self.now_ns)
            for mkt in map(market, PAIRS)
        }
        self.journal = MemoryDisk(delay_s=0.0005)
        self.journal.is_fast = lambda: self.draw.random() > BUSY_SHARE
        self.files = MemoryDisk(delay_s=0.0005)
        self.paper = Paper()
        self.terms = paper_terms(self.paper)
        self.notices: list[str] = []
        self.left: list[tuple[int, dict[str, Any]]] = []  # what emsd sent to the paper engine
        self.asked: list[tuple[int, dict[str, Any]]] = []  # what reached the paper engine
        self.told: list[tuple[int, dict[str, Any]]] = []  # what reached emsd of it
        self._has_journal = False
        self._channels: list[SimChannel] = []
        self._to_engine: SimChannel | None = None

    # ---- what `World` asks for

    def now_ns(self) -> int:
        return BASE_NS + round(trio.current_time() * 1e9)

    async def sleep_until_ns(self, when_ns: int) -> None:
        await trio.sleep_until((when_ns - BASE_NS) / 1e9)
        while self.now_ns() < when_ns:
            await trio.sleep(1e-9)

    def new_id(self) -> str:
        return f"{self.draw.getrandbits(128):032x}"

    async def in_worker(self, work: Callable[[], T]) -> T:
        await trio.sleep(0.0005)
        return work()

    def journals(self) -> list[tuple[str, str]]:
        return [("binance", "paper")] if self._has_journal else []

    def journal_disk(self, broker: str, account: str) -> MemoryDisk:
        self._has_journal = True
        return self.journal

    def open_ledger(self, broker: str, account: str) -> LedgerWriter:
        writer = LedgerWriter(
            broker, account, ledgers=self.files, accounts=self.files, now_ns=self.now_ns
        )
        writer.open()
        return writer

    @asynccontextmanager
    async def open_market(self, fqme: str) -> AsyncIterator[SimView]:
        await trio.sleep(self.delay_s())
        if fqme not in self.markets:
            raise SymbolNotFound(f"No market {fqme!r}", broker="binance")
        yield SimView(self.markets[fqme])

    @asynccontextmanager
    async def open_broker(
        self, broker: str, mode: str, account: str, fqme: str
    ) -> AsyncIterator[tuple[Any, SimChannel]]:
        await trio.sleep(self.delay_s())
        ours, theirs = self.pair()
        ours.tap_sent = lambda message: self.left.append((self.now_ns(), message))
        theirs.tap = lambda message: self.asked.append((self.now_ns(), message))
        ours.tap = lambda message: self.told.append((self.now_ns(), message))
        self._to_engine = ours
        self.engine = PaperEngine(self, broker, self.terms)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.engine.serve, theirs)
            try:
                yield ([], ["paper"]), ours
            finally:
                ours.close()
                nursery.cancel_scope.cancel()

    def notify(self, text: str) -> None:
        self.notices.append(text)

    # ---- what the tests ask for

    def delay_s(self) -> float:
        """Return how long the next thing takes: mostly little, now and then long."""
        return self.draw.choice([0.0001, 0.0003, 0.001, 0.004]) * (0.5 + self.draw.random())

    def pair(self) -> tuple[SimChannel, SimChannel]:
        """Return both ends of a channel."""
        one, two = SimChannel(self), SimChannel(self)
        one.peer, two.peer = two, one
        self._channels = [each for each in self._channels if not each.is_closed]
        self._channels.append(one)
        return one, two

    def kill_engine(self) -> None:
        """SIGKILL of `paperboi`: what it has not told is lost."""
        if self._to_engine is not None:
            self._to_engine.kill()

    def kill_client(self) -> None:
        """Break the connection of one client."""
        clients = [one for one in self._channels if one is not self._to_engine]
        if clients:
            self.draw.choice(clients).kill()

    def kill_channels(self) -> None:
        """Break every channel, with all that is under way."""
        for channel in self._channels:
            channel.kill()
        self._channels.clear()

    def switch_disks(self, *, is_power_lost: bool = False) -> None:
        """Leave the disks to the dead, and go on with what a kill or a power loss left on them."""
        old = self.journal, self.files
        if is_power_lost:
            self.journal, self.files = (disk.after_power_loss(self.draw) for disk in old)
        else:
            self.journal, self.files = (disk.after_kill() for disk in old)


class SimTree:
    """`emsd` and its paper engine, which can be killed and started again."""

    unit = LOT

    def __init__(self, world: SimWorld, limits: Clearing) -> None:
        self.world = world
        self.limits = limits
        self.router: Router | None = None
        self.kills = 0
        self._scope = trio.CancelScope()
        self._attaching: list[trio.CancelScope] = []
        self._is_up = trio.Event()

    async def run(self) -> None:
        """Keep `emsd` alive, for ever: a life that was killed is followed by another."""
        while True:
            self.router = Router(self.world, self.limits, self.world.paper)
            with trio.CancelScope() as self._scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(self.router.run)
                    self._is_up.set()
                    await trio.sleep_forever()
            await trio.sleep(self.world.delay_s() * 20)

    def cut_power(self) -> None:
        """The whole machine goes down: what was not synced may be lost."""
        self.kill(is_power_lost=True)

    def kill(self, *, is_power_lost: bool = False) -> None:
        """SIGKILL: nothing after this moment is written or heard."""
        self.kills += 1
        if self._is_up.is_set():
            self._is_up = trio.Event()
        self.world.switch_disks(is_power_lost=is_power_lost)
        self.world.kill_channels()
        self._scope.cancel()
        for scope in self._attaching:
            scope.cancel()

    @asynccontextmanager
    async def connect(self, hello: Hello) -> AsyncIterator[tuple[dict[str, Any], SimChannel]]:
        """Open the dialog of a client, as `open_ems` does."""
        await self._is_up.wait()
        router, kills, session = self.router, self.kills, None
        assert router is not None
        await trio.sleep(self.world.delay_s())
        if self.kills != kills:
            raise ConnectionLost("emsd was killed")
        with trio.CancelScope() as scope:
            self._attaching.append(scope)
            try:
                session = await router.attach(hello)
            finally:
                self._attaching.remove(scope)
        if session is None or self.kills != kills:
            raise ConnectionLost("emsd was killed")
        ours, theirs = self.world.pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(router.serve, session, theirs)
            try:
                yield session.first, ours
            finally:
                ours.close()
                nursery.cancel_scope.cancel()

    def now_ns(self) -> int:
        return self.world.now_ns()

    def price_of(self, fqme: str) -> Decimal:
        """Return the market's bid."""
        return self.world.markets[fqme].bid

    def client(self, fqme: str, name: str | None) -> Any:
        """Open an order client."""
        hello = Hello(fqme=fqme, client=self.world.new_id(), client_ref=name)
        return open_client(self.connect, hello, self.world.now_ns, self.world.new_id)
