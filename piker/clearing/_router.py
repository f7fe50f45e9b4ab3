"""
The heart of `emsd`: accounts, markets, brokers and clients, and who hears what.

Actor-free: everything outside comes through a `World`. What runs here lives with the daemon, not
with its clients: orders clear and triggers fire with nobody attached. A start replays every
journal first, then tells the brokers where things stand and arms the triggers, then serves.

Reading order: `run`, `_replay`, `_reconcile`, `attach`, `take`, what the accounts call (`Desk`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

import trio

from piker import faults
from piker.clearing import _book_events as on
from piker.clearing._book import status_of
from piker.clearing._desk import refusal
from piker.clearing._keeper import AccountKeeper
from piker.clearing._market_watch import MarketWatch
from piker.clearing._messages import (
    BrokerdPosition,
    Mode,
    Order,
    Status,
    parse_request,
)
from piker.clearing._relay import TradesRelay
from piker.clearing._session import Hello, Session
from piker.clearing._triggers import DarkBook
from piker.clearing._world import Channel, World
from piker.errors import OrderRejected, PikerError, ServiceUnavailable, innermost
from piker.log import get_logger
from piker.settings import Clearing, Paper
from piker.storage.journal import JournalLocked

log = get_logger(__name__)

REPLAY_S = 50.0  # then the daemon counts as started, whatever it still reads
WATCHED_S = 2.0
RECOVER_S = 5.0  # what brokers and feeds may take before the first client is let in without them
SWEEP_S = 10.0
RETRY_S = 1.0
LOCK_TRIES, LOCK_PAUSE_S = 10, 0.2  # `piker ledger` holds a journal for as long as it syncs
SESSIONS_MAX = 256
MARKETS_MAX = 256

T = TypeVar("T")
Key = tuple[str, str]


class Router:
    """One per `emsd`; also the `Desk` of its accounts."""

    def __init__(self, world: World, clearing: Clearing, paper: Paper) -> None:
        self.world = world
        self.clearing = clearing
        self.paper = paper
        self.keepers: dict[Key, AccountKeeper] = {}  # by broker and account
        self.relays: dict[tuple[str, Mode], TradesRelay] = {}
        self.watches: dict[str, MarketWatch] = {}  # by full fqme and every name it was asked by
        self.sessions: list[Session] = []
        self.failed: dict[Key, str] = {}  # accounts whose journal could not be used
        self.notify_on_order_loads = False
        self.unattended = 0  # words that no client was there to hear
        self._locks: dict[object, trio.Lock] = {}
        self._nursery: trio.Nursery | None = None
        self._replayed = trio.Event()
        self._recovered = trio.Event()

    @property
    def books(self) -> dict[Key, DarkBook]:
        """The trigger book of each account."""
        return {key: keeper.darks for key, keeper in self.keepers.items()}

    @property
    def subscribers(self) -> dict[str, list[Session]]:
        """The attached clients by market."""
        found: dict[str, list[Session]] = {}
        for session in self.sessions:
            found.setdefault(session.fqme, []).append(session)
        return found

    @property
    def dialogs(self) -> dict[str, Status]:
        """The newest word of every order that goes on."""
        return {
            dialog.oid: keeper.told.orders.get(dialog.oid) or status_of(dialog, dialog.told_ns)
            for keeper in self.keepers.values()
            for dialog in keeper.book.active()
        }

    # ---- life ------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """
        Recover what was held, then serve until cancelled.

        Started once the journals are replayed and the markets of what is held are watched, or
        when that takes longer than `REPLAY_S` and `WATCHED_S`.
        """
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._sweep)
            self._nursery.start_soon(self._say_started, task_status)
            await self._replay()
            self._replayed.set()
            await self._reconcile()
            self._recovered.set()
            faults.point("emsd.recovered")
            await trio.sleep_forever()

    async def _say_started(self, task_status: trio.TaskStatus[None]) -> None:
        with trio.move_on_after(REPLAY_S):
            await self._replayed.wait()
        with trio.move_on_after(WATCHED_S):
            for watch in dict.fromkeys(self.watches.values()):
                await _quietly(watch.wait_open)
        task_status.started()

    async def _replay(self) -> None:
        """Replay every journal, arm the triggers, and watch the markets of what is held."""
        for broker, account in self.world.journals():
            try:
                keeper = await self._open_keeper(broker, account)
            except PikerError as error:
                self.failed[broker, account] = str(error)
                log.error("account not kept account=%s.%s cause=%s", broker, account, error)
                assert self._nursery is not None
                self._nursery.start_soon(self._keep_trying, broker, account)
            else:
                self._look_after(keeper)

    async def _keep_trying(self, broker: str, account: str) -> None:
        """Open an account whose journal was in use, as soon as it is free."""
        while (broker, account) not in self.keepers:
            await trio.sleep(RETRY_S)
            try:
                keeper = await self._open_keeper(broker, account)
            except PikerError as error:
                self.failed[broker, account] = str(error)
            else:
                self._look_after(keeper)
                log.info("account kept again account=%s", keeper.name)

    def _look_after(self, keeper: AccountKeeper) -> None:
        """Watch the markets in which an account holds something, and open its broker."""
        for fqme in sorted(keeper.markets):
            self._start_watch(fqme)
        if keeper.markets:
            self._start_relay(keeper.broker, keeper.book.mode, min(keeper.markets))

    async def _reconcile(self) -> None:
        """Tell the brokers where things stand, and wait for the markets of what is held."""
        with trio.move_on_after(RECOVER_S) as waiting:
            async with trio.open_nursery() as nursery:
                for relay in self.relays.values():
                    nursery.start_soon(_quietly, relay.wait_open)
                for watch in dict.fromkeys(self.watches.values()):
                    nursery.start_soon(_quietly, watch.wait_open)
        if waiting.cancelled_caught:
            log.warning("serving before every feed and broker is back")

    async def _sweep(self) -> None:
        """End the watches that nobody needs any more."""
        while True:
            await trio.sleep(SWEEP_S)
            needed = {session.fqme for session in self.sessions}
            for keeper in self.keepers.values():
                needed |= keeper.markets
                needed |= {fqme for fqme, each in keeper.book.positions.items() if each.size}
            for watch in dict.fromkeys(self.watches.values()):
                if watch.is_known and watch.mkt.fqme not in needed:
                    self._forget_watch(watch)

    def _forget_watch(self, watch: MarketWatch) -> None:
        watch.scope.cancel()
        self.watches = {name: each for name, each in self.watches.items() if each is not watch}

    # ---- clients ---------------------------------------------------------------------------

    async def attach(self, hello: Hello) -> Session:
        """
        Return the dialog of a client, ready to be served; its `first` is the first answer.

        Raises:
          SymbolNotFound: the market is unknown.
          PikerError: it cannot be served; says why.
        """
        await self._recovered.wait()
        watch = await self.open_watch(hello.fqme)
        broker = watch.mkt.broker
        if hello.mode == "live":
            relay = self._start_relay(broker, "live", watch.mkt.fqme)
            await self._first_word(relay)
            accounts = relay.accounts
        else:
            accounts = ("paper",)
        keepers = [await self._open_keeper(broker, account) for account in accounts]
        relay = self._start_relay(broker, hello.mode, watch.mkt.fqme)
        for keeper in keepers:
            if keeper.learn_quote(str(watch.mkt.src)):
                relay.restart("a quote asset came to an account with a balance of its own")
        for older in [s for s in self.sessions if hello.client and s.hello.client == hello.client]:
            older.close("this client has attached again")
            self._leave(older)
        if len(self.sessions) >= SESSIONS_MAX:
            raise ServiceUnavailable(f"emsd: {SESSIONS_MAX} clients are attached already")
        session = Session(hello, watch, keepers)
        session.on_leave = partial(self._leave, session)
        session.greet(self._first_answer(session))
        self.sessions.append(session)
        return session

    async def _first_word(self, relay: TradesRelay) -> None:
        """
        Wait until a live broker has answered.

        Raises:
          PikerError: it cannot be served; nobody is served by paper instead.
        """
        try:
            await relay.wait_open()
        except PikerError:
            self.relays.pop((relay.broker, relay.mode), None)
            relay.scope.cancel()
            raise

    def _first_answer(self, session: Session) -> dict[str, Any]:
        """Return what a client is told before anything else."""
        keeper = session.keepers[0] if session.keepers else None
        state, cause = keeper.gate_state if keeper else ("no_new_risk", "no account")
        return {
            "fqme": session.fqme,
            "mode": session.mode,
            "broker": session.watch.mkt.broker,
            "account": keeper.account if keeper else "",
            "accounts": [each.account for each in session.keepers],
            "mkt": session.watch.mkt.to_dict(),
            "state": state,
            "cause": cause,
            "held": keeper.book.held() if keeper else 0,
            "not_watched": keeper.not_watched if keeper else None,
        }

    def _leave(self, session: Session) -> None:
        """Forget a client; its orders stay."""
        if session not in self.sessions:
            return
        self.sessions.remove(session)
        held = sum(len(keeper.book.active(session.fqme)) for keeper in session.keepers)
        if held and not any(each.fqme == session.fqme for each in self.sessions):
            log.info("Order dialog is not being monitored: %d of %s", held, session.fqme)

    async def serve(self, session: Session, channel: Channel) -> None:
        """
        Serve a client until it leaves.

        Raises:
          ConnectionLost: its dialog was ended from this side; says why.
        """
        await session.serve(channel, partial(self.take, session))

    def take(self, session: Session, raw: Any, more: bool) -> bool:
        """
        Take what a client has sent; False, with nothing done, while its account has no room.

        What makes no sense is answered, and the dialog lives. With `more` behind it, it shares
        their sync.
        """
        try:
            request = session.checked(parse_request(raw))
        except OrderRejected as error:
            session.refuse(session.rubbish(error, self.world.now_ns()))
            return True
        keeper = session.keeper_for(request)
        if keeper is None:
            accounts = ", ".join(each.account for each in session.keepers)
            was = f"account: was {request.account!r}" if isinstance(request, Order) else "account"
            reason, now_ns = f"{was}, expected one of {accounts}", self.world.now_ns()
            session.refuse(refusal(request, None, reason, now_ns, mode=session.mode))
            return True
        if not keeper.has_room:
            return False
        keeper.ask(request, session.watch, session)
        if not more:
            keeper.line.begin()
        return True

    # ---- accounts, brokers, markets: opened by the first who needs them ------------------------

    async def _once(self, key: object, open_it: Callable[[], Awaitable[T]]) -> T:
        """Open something, with nobody else opening the same meanwhile."""
        async with self._locks.setdefault(key, trio.Lock()):
            return await open_it()

    async def _open_keeper(self, broker: str, account: str) -> AccountKeeper:
        """
        Return the keeper of an account, its journal replayed.

        Raises:
          PikerError: the journal cannot be used; says why.
        """

        async def open_it() -> AccountKeeper:
            if keeper := self.keepers.get((broker, account)):
                return keeper
            keeper = AccountKeeper(self.world, self, broker, account, self.clearing, self.paper)
            await self._start_keeper(keeper)
            self.keepers[broker, account] = keeper
            self.failed.pop((broker, account), None)
            if relay := self.relays.get((broker, keeper.book.mode)):
                relay.keepers[account] = keeper
            return keeper

        return await self._once(("keeper", broker, account), open_it)

    async def _start_keeper(self, keeper: AccountKeeper) -> None:
        """
        Have a keeper replay its journal; one that is in use is waited for a moment.

        Raises:
          PikerError: the journal cannot be used; says why.
        """
        assert self._nursery is not None
        for left in range(LOCK_TRIES, -1, -1):
            try:
                await self._nursery.start(keeper.run)
            except JournalLocked:
                if not left:
                    raise
                await trio.sleep(LOCK_PAUSE_S)
            else:
                return

    def _start_relay(self, broker: str, mode: Mode, fqme: str) -> TradesRelay:
        """Return the dialog with a broker, which is opened when it is not."""
        relay = self.relays.get((broker, mode))
        if relay is None:
            relay = TradesRelay(self.world, broker, mode, fqme, self._open_keeper)
            self.relays[broker, mode] = relay
            for (name, account), keeper in self.keepers.items():
                if name == broker and keeper.book.mode == mode:
                    relay.keepers[account] = keeper
            assert self._nursery is not None
            self._nursery.start_soon(relay.run)
        return relay

    def _start_watch(self, name: str) -> MarketWatch:
        """Return the watch of a market by any of its names, begun when there is none."""
        watch = self.watches.get(name)
        if watch is None:
            watch = MarketWatch(self.world, name, self.keepers.values)
            self.watches[name] = watch
            assert self._nursery is not None
            self._nursery.start_soon(watch.run)
        return watch

    async def open_watch(self, name: str) -> MarketWatch:
        """
        Return the watch of a market, opened.

        Raises:
          SymbolNotFound: the market is unknown.
          PikerError: it cannot be watched; says why.
        """
        name = name.lower()

        async def open_it() -> MarketWatch:
            if name not in self.watches and len(self.watches) >= MARKETS_MAX:
                raise ServiceUnavailable(f"emsd: {MARKETS_MAX} markets are watched already")
            watch = self._start_watch(name)
            try:
                await watch.wait_open()
            except PikerError:
                if not any(name in keeper.markets for keeper in self.keepers.values()):
                    self._forget_watch(watch)
                raise
            known = self.watches.setdefault(watch.mkt.fqme, watch)
            if known is not watch:  # asked for by another name before
                watch.scope.cancel()
                self.watches[name] = known
                await known.wait_open()
            return known

        return await self._once(("watch", name), open_it)

    # ---- what an account asks of its desk ------------------------------------------------------

    def tell(self, keeper: AccountKeeper, status: Status) -> None:
        """Tell every client that wants to know; with nobody there, the operator."""
        keeper.ledger.markets = keeper.book.markets
        message: dict[str, Any] | None = None
        for session in list(self.sessions):
            if session.wants(status):
                message = message or status.to_dict()
                session.put(message)
        if message is None:
            self.unattended += 1
            if self.notify_on_order_loads:
                self.world.notify(f"{status.account}: order {status.oid} is {status.resp}")

    def hold(self, position: BrokerdPosition) -> None:
        """Tell every client of every market of the account's mode."""
        message = position.to_dict()
        mode = "paper" if position.account == "paper" else "live"
        for session in list(self.sessions):
            if session.mode == mode:
                session.put(message)

    def send(self, keeper: AccountKeeper, output: on.Send | on.SendCancel | on.Withdraw) -> None:
        """Hand a request to the broker's relay."""
        relay = self.relays.get((keeper.broker, keeper.book.mode))
        if relay is None:
            fqme = min(keeper.book.markets, default="")
            relay = self._start_relay(keeper.broker, keeper.book.mode, fqme)
        relay.send(output)

    def changed(self, keeper: AccountKeeper) -> None:
        """Tell the account's clients how its gate stands."""
        state, cause = keeper.gate_state
        message = {
            "msg": "state",
            "account": keeper.account,
            "state": state,
            "cause": cause,
            "held": keeper.book.held(),
        }
        for session in list(self.sessions):
            if keeper in session.keepers:
                session.put(message)

    def lose_broker(self, keeper: AccountKeeper, cause: str) -> None:
        """Have the paper engine match nothing while its fills cannot be recorded."""
        if relay := self.relays.get((keeper.broker, keeper.book.mode)):
            relay.halt(cause)

    def mended(self, keeper: AccountKeeper) -> None:
        """Let the paper engine match again."""
        if relay := self.relays.get((keeper.broker, keeper.book.mode)):
            relay.resume()

    def account_reset(self, keeper: AccountKeeper) -> None:
        """Have the paper engine forget what it knew of an account."""
        if relay := self.relays.get((keeper.broker, keeper.book.mode)):
            relay.restart("the paper account was reset")

    def last_of(self, fqme: str) -> Decimal | None:
        """Return the last price of a market that is watched."""
        watch = self.watches.get(fqme)
        return watch.last if watch is not None and watch.is_known else None

    # ---- commands for whole accounts -----------------------------------------------------------

    async def wait_recovered(self) -> None:
        """Wait until everything that was held is held again."""
        await self._recovered.wait()

    def named(self, account: str = "", broker: str = "") -> list[AccountKeeper]:
        """
        Return the accounts that a name stands for; '' is all of them.

        Raises:
          PikerError: there is none of that name.
        """
        found = [
            keeper
            for keeper in self.keepers.values()
            if account in ("", keeper.name, keeper.account) and broker in ("", keeper.broker)
        ]
        if not found and (account or broker):
            known = ", ".join(each.name for each in self.keepers.values()) or "none"
            raise PikerError(f"account: was {account or broker!r}, expected one of: {known}")
        return found

    async def paper_keeper(self, broker: str) -> AccountKeeper:
        """Return the paper account of a broker, opened."""
        return await self._open_keeper(broker, "paper")

    # ---- how it is ------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Return the daemon's heartbeat."""
        causes = [keeper.unsound for keeper in self.keepers.values() if keeper.unsound]
        causes += self.failed.values()
        causes += [keeper.ledger.cause for keeper in self.keepers.values() if keeper.ledger.cause]
        causes += [
            f"{relay.broker}: {relay.cause}"
            for relay in self.relays.values()
            if relay.cause and relay.is_late
        ]
        return {
            "state": "degraded" if causes else "ready",
            "cause": "; ".join(causes)[:500],
            "stats": self.statistics(),
        }

    def statistics(self) -> dict[str, Any]:
        """Return named counters, of the daemon and of each account."""
        keepers = self.keepers.values()
        return {
            "clients": len(self.sessions),
            "markets": len(set(self.watches.values())),
            "held": sum(keeper.book.held() for keeper in keepers),
            "unattended": self.unattended,
            "reopened": sum(relay.reopened for relay in self.relays.values()),
            "recovered": int(self._recovered.is_set()),
            **{keeper.name: keeper.statistics() for keeper in keepers},
        }


async def _quietly(wait: Callable[[], Awaitable[None]]) -> None:
    """Wait for something whose failure is said elsewhere."""
    try:
        await wait()
    except PikerError as error:
        log.warning("not back yet: %s", innermost(error))
