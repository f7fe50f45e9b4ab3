"""
One market's order side for all pages: its orders, positions, fills and sizes.

State without I/O: `order_link` feeds it what the EMS says, `orders` what the pages ask. Every
page that follows gets every change; only the account that it trades is a page's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, Protocol

import msgspec
import trio

from piker import clock
from piker.accounting import Transaction
from piker.clearing import BrokerdFill, BrokerdPosition, Order, Status
from piker.log import get_logger
from piker.model.market import MktPair
from piker.ui.messages import Answer
from piker.ui.order_lines import ROWS_MAX, Lines, fill_in
from piker.ui.order_messages import (
    Account,
    AllocAsked,
    DeskState,
    Fills,
    Mode,
    Orders,
    PositionState,
    State,
)
from piker.ui.order_money import Money
from piker.ui.order_sizes import Sizer, position_of

log = get_logger(__name__)

PAPER: Final = "paper"


class Page(Protocol):
    """A connected page."""

    def send(self, answer: Answer) -> None:
        """Queue a message."""

    def follows(self, chan: int, fqme: str) -> bool:
        """Whether the page's channel still shows the market."""


Follower = tuple[Page, int]


def mode_of(account: str) -> Mode:
    """Return how an account trades."""
    return "paper" if account == PAPER else "live"


class MarketOrders:
    """All that the pages are told of one market's orders."""

    def __init__(
        self,
        mkt: MktPair,
        accounts: Iterable[str],
        last: Callable[[], Decimal | None],
        on_state: Callable[[], None] = lambda: None,
    ) -> None:
        self.mkt = mkt
        self.last = last
        self._on_state = on_state
        self.accounts = list(dict.fromkeys([PAPER, *accounts]))
        self.lines: dict[Mode, Lines] = {"paper": Lines("paper"), "live": Lines("live")}
        self.states: dict[Mode, DeskState] = {
            mode: DeskState(0, "off", mode=mode) for mode in self.lines
        }
        self._sizers: dict[str, Sizer] = {}
        self._money: dict[str, Money] = {}
        self._chosen: dict[Follower, str] = {}
        self.changed = trio.Event()  # set, and made anew, when an order or a position changes

    # ---- pages

    def follow(self, page: Page, chan: int) -> None:
        """Tell a page everything, and from now on every change."""
        self._chosen.setdefault((page, chan), PAPER)
        self.greet(page, chan)

    def greet(self, page: Page, chan: int) -> None:
        """Tell one page everything."""
        for answer in self._all_that_is():
            page.send(msgspec.structs.replace(answer, chan=chan))
        self.tell_alloc(page, chan)

    def _all_that_is(self) -> list[Any]:
        states = [s for s in self.states.values() if s.mode == PAPER or s.state != "off"]
        answers: list[Any] = [*states]
        for mode, state in self.states.items():
            if state.state != "off":
                answers += self._snapshot(mode)
        marks = [mark for money in self._money.values() for mark in money.marks]
        answers += [Fills(0, *part) for part in _parts(sorted(marks, key=lambda mark: mark.t))]
        return [*answers, *(self._position(name) for name in self._sizers)]

    def _snapshot(self, mode: Mode) -> list[Orders]:
        parts = _parts(self.lines[mode].rows()) or [([], False)]
        return [Orders(0, mode, rows, more) for rows, more in parts]

    def leave(self, page: Page) -> None:
        """A page has gone."""
        self._chosen = {key: name for key, name in self._chosen.items() if key[0] is not page}

    def tell(self, answer: Any, asker: Follower | None = None, id: int = 0) -> None:
        """Tell every page; the one that asked finds its `id` in the answer."""
        for page, chan in tuple(self._chosen):
            if not page.follows(chan, self.mkt.fqme):
                del self._chosen[page, chan]
                continue
            said = msgspec.structs.replace(answer, chan=chan)
            page.send(msgspec.structs.replace(said, id=id) if (page, chan) == asker else said)

    def account_of(self, page: Page, chan: int) -> str:
        """Return the account that a page trades."""
        return self._chosen.get((page, chan), PAPER)

    # ---- sizes

    def sizer(self, account: str) -> Sizer:
        """Return the allocator of an account."""
        if account not in self._sizers:
            self._sizers[account] = Sizer(self.mkt, account)
        return self._sizers[account]

    def change_alloc(self, page: Page, chan: int, asked: AllocAsked) -> None:
        """
        Take what a trader has changed in the order pane.

        Raises:
          ValueError: an account that does not exist, or a limit that cannot be.
        """
        account = asked.account or self.account_of(page, chan)
        if account not in self.accounts:
            known = ", ".join(self.accounts)
            raise ValueError(f"account: was {account[:40]!r}, expected one of {known}")
        self.sizer(account).change(asked)
        self._chosen[page, chan] = account
        for follower in self._chosen:
            self.tell_alloc(*follower, asked.id if follower == (page, chan) else 0)
        self.tell(self._position(account))

    def tell_alloc(self, page: Page, chan: int, id: int = 0) -> None:
        """Tell a page what its order pane shows."""
        account = self.account_of(page, chan)
        accounts = [Account(name, mode_of(name), *self._holding(name)) for name in self.accounts]
        page.send(self.sizer(account).state(chan, id, accounts, mode_of(account), self.last()))

    def _holding(self, account: str) -> tuple[str, str]:
        if account not in self._sizers:
            return "", ""
        said = self._position(account)
        return said.size, said.avg

    # ---- what the link says

    def set_state(self, mode: Mode, state: State, text: str = "", **more: Any) -> None:
        """Tell pages how the link to the EMS is."""
        new = msgspec.structs.replace(self.states[mode], state=state, text=text, **more)
        if new != self.states[mode]:
            self.states[mode] = new
            self.tell(new)
            self._on_state()

    def take_all(
        self,
        mode: Mode,
        dialogs: Iterable[Status],
        fills: Mapping[str, Iterable[BrokerdFill]],
        positions: Iterable[BrokerdPosition],
    ) -> None:
        """Take what is open and held anew: the link was made, or made again."""
        self.lines[mode].reset(dialogs, fills)
        for said in positions:
            self.take_position(said)
        for answer in self._snapshot(mode):
            self.tell(answer)

    def take_status(self, status: Status) -> None:
        """Take one status of an order."""
        self._wake()
        fill = fill_in(status)
        row, mark = self.lines[status.mode].take(status)
        if fill and mark:
            self.money(mark.account).add(fill, mark, clock.now_s())
            self.tell(mark)
            self.tell(self._position(mark.account))
        if row:
            self.tell(row)

    def take_position(self, said: BrokerdPosition) -> None:
        """Take a position; one of another market is none of ours."""
        if said.symbol != self.mkt.fqme:
            return
        self._wake()
        if said.account not in self.accounts:
            self.accounts.append(said.account)
        position = position_of(self.mkt, said.account, said.size, said.avg_price)
        self.sizer(said.account).hold(position)
        self.tell(self._position(said.account))
        for page, chan in tuple(self._chosen):
            self.tell_alloc(page, chan)

    def adds_up(self, account: str) -> bool:
        """Whether the fills that are known come to what the EMS says is held."""
        return self.money(account).size == self.held(account)

    def _wake(self) -> None:
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    def take_ledger(self, account: str, records: Iterable[Transaction]) -> None:
        """
        Take what the ledger holds of this market.

        It takes the place of what was known when it adds up to what is held (an account that was
        reset); else it is joined to that, since the newest fills reach it last.
        """
        own = [each for each in records if each.fqme == self.mkt.fqme]
        fresh = Money(self.mkt, account, mode_of(account))
        fresh.load(own, clock.now_s())
        if account in self._sizers and fresh.size == self.held(account):
            self.tell(Fills(0, [], anew=account))
        else:
            fresh.adopt(self.money(account))
        self._money[account] = fresh
        for rows, more in _parts(self.money(account).marks):
            self.tell(Fills(0, rows, more))
        if account in self._sizers:
            self.tell(self._position(account))

    def money(self, account: str) -> Money:
        """Return what an account has made of the market."""
        if account not in self._money:
            self._money[account] = Money(self.mkt, account, mode_of(account))
        return self._money[account]

    def held(self, account: str) -> Decimal:
        """Return what the EMS says an account holds."""
        return self.sizer(account).held.size

    def _position(self, account: str) -> PositionState:
        sizer = self.sizer(account)
        return self.money(account).state(0, sizer.held, sizer.used(), clock.now_s())

    # ---- orders handed over

    def enter(self, order: Order, mode: Mode, asker: Follower, id: int) -> None:
        """Show an order that is being handed to the EMS."""
        self.tell(self.lines[mode].enter(order), asker, id)

    def give_up(self, mode: Mode, reason: str) -> None:
        """
        Take away the lines of orders that have no word yet, for the way to the EMS is lost.

        One that was taken after all is there again with the next snapshot.
        """
        for line in self.lines[mode].working():
            self.drop(line.asked.oid, mode, reason)

    def drop(self, oid: str, mode: Mode, reason: str) -> None:
        """Take the line of an order away that the EMS never got."""
        if row := self.lines[mode].drop(oid, reason):
            self.tell(row)


def _parts(rows: list[Any]) -> list[tuple[list[Any], bool]]:
    """Return rows in messages' worth, each with whether more follow."""
    starts = range(0, len(rows), ROWS_MAX)
    return [(rows[i : i + ROWS_MAX], i + ROWS_MAX < len(rows)) for i in starts]
