"""
What the order path needs of the outside: channels, disks, markets, ledgers, time, randomness.

`emsd`, `paperboi` and the order client are written against these interfaces alone. `_actor_world`
has the real ones; the simulation has its own, over memory and one virtual clock. Market time and
ids come from here and nowhere else; real time-outs bound waits on peers only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, Protocol, TypeVar

import numpy as np
import trio

from piker.accounting import Transaction
from piker.clearing._messages import Mode
from piker.data._blocks import L1, L2
from piker.model.market import MktPair
from piker.storage.disk import Disk

T = TypeVar("T")
Take = Callable[[Any, bool], bool]
TOGETHER_MAX = 64  # messages that leave as one


class Outcome(Protocol):
    """What a call of the ledger's writer has done."""

    @property
    def written(self) -> int:
        """How many transactions were new in the file."""

    @property
    def differences(self) -> Sequence[object]:
        """What the file said otherwise; each is a sentence by `str`, and an alarm."""

    @property
    def imports(self) -> Sequence[Transaction]:
        """Fills of an older file that the journal does not know: they are to be journalled."""


class Channel(Protocol):
    """
    A two-way stream of plain maps; iteration ends when the peer has left in good order.

    A peer that died, and a send to one that is gone, raise `ConnectionLost` or the transport's
    own error. Each side has one reader.
    """

    async def send(self, message: Any, /) -> None:
        """Send one map; waits while the peer does not read."""

    def send_nowait(self, *messages: Any) -> bool:
        """Send maps in this turn, in order; False: none was sent, and only `send` can tell why."""

    def on_message(self, take: Take, /) -> None:
        """
        Have `take(message, more)` called in the turn in which a message arrives.

        Only while the reader waits for one; what `take` returns False for comes by iteration, and
        so does what it raises. `more`: another message has come behind it. A channel that cannot
        tell when a message arrives never calls it.
        """

    def __aiter__(self) -> AsyncIterator[Any]: ...


async def send_some(channel: Channel, waiting: deque[Any]) -> None:
    """
    Send the first of what waits, and those behind it that go along in the same turn.

    Each is taken out when it has left. Who tells faster than a turn per message lets would else
    never be done with what waits.
    """
    some = list(islice(waiting, TOGETHER_MAX))
    if channel.send_nowait(*some):
        for _ in some:
            waiting.popleft()
        await trio.lowlevel.checkpoint()
    else:
        await channel.send(waiting[0])
        waiting.popleft()


class MarketView(Protocol):
    """One market as the order path sees it; survives restarts of its `datad`."""

    @property
    def mkt(self) -> MktPair:
        """The market; its `fqme` is the full one."""

    def ticks(self) -> AsyncIterator[np.ndarray]:
        """Yield batches of TICK_DTYPE records from now on, GAP and STATE records included."""

    def l1(self) -> L1:
        """Return the newest quote and trade."""

    def l2(self) -> L2:
        """Return the best levels of the book."""

    def is_stale(self) -> str:
        """Return why the data are not current, or '' when they are."""


class LedgerWriter(Protocol):
    """The one writer of an account's ledger and account file; every call blocks."""

    def append(self, records: Sequence[Transaction], /) -> Outcome:
        """Add those that are not there yet, durably."""

    def reconcile(
        self,
        records: Sequence[Transaction],
        since: datetime | None,
        sizes: Mapping[str, Decimal] | None = None,
    ) -> Outcome:
        """
        Add what lacks; book what differs since then as unexplained.

        `sizes` is what the journal says is held of each market.
        """

    def begin_at(self, since_ns: int, /) -> bool:
        """Put a ledger of before `since_ns` aside, when a crash has kept `archive` from it."""

    def rewrite(self) -> bool:
        """Write the whole file in order, atomically; False when it already is so."""

    def write_account(self, markets: Mapping[str, MktPair], /) -> bool:
        """Write the account file: what is held now."""

    def archive(self, label: str, /) -> None:
        """Put ledger and account file aside under `label` and begin empty ones."""

    def close(self) -> None:
        """Give the files back."""


class World(Protocol):
    """Everything outside of the order path."""

    def now_ns(self) -> int:
        """Return the run's time in UTC nanoseconds."""

    async def sleep_until_ns(self, when_ns: int) -> None:
        """Sleep until the run's clock reads `when_ns`."""

    def new_id(self) -> str:
        """Return a new 128-bit id, 32 hex characters."""

    async def in_worker(self, work: Callable[[], T]) -> T:
        """Run blocking `work` beside the event loop."""

    def journals(self) -> list[tuple[str, str]]:
        """Return `(broker, account)` of every order journal that there is."""

    def journal_disk(self, broker: str, account: str) -> Disk:
        """Return the folder of an account's journal."""

    def open_ledger(self, broker: str, account: str) -> LedgerWriter:
        """
        Take the ledger of an account; blocks.

        Raises:
          ConfigError: another process has it, or the files cannot be used; says who or why.
        """

    def open_market(self, fqme: str) -> AbstractAsyncContextManager[MarketView]:
        """
        Open a market by its full or partial name.

        Raises:
          SymbolNotFound, ServiceUnavailable, ConnectionLost: as `open_feed`.
        """

    def open_broker(
        self, broker: str, mode: Mode, account: str, fqme: str
    ) -> AbstractAsyncContextManager[tuple[Any, Channel]]:
        """
        Open the trade dialog with `paperboi.<broker>` or `brokerd.<broker>`.

        Yields `((positions, accounts), channel)`: what the broker says is held and which accounts
        it has.

        Raises:
          PikerError: it does not start, or cannot trade; says why.
        """

    def notify(self, text: str) -> None:
        """Tell the operator something that nobody else may be there to see."""
