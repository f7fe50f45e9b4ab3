"""
The way to a broker and back: one trade dialog for all orders of a broker in one mode.

Requests leave in order, each before its deadline or never; answers go to the account they are
about. A lost dialog is opened again with backoff. A paper engine has no memory: it is then told
what rests, and asked again for what it had not answered; that is safe, because what it did counts
only once it is in our journal. A live broker keeps its orders: what was not answered there is
unknown until it is proven.

Reading order: `run`, `_hold`, `_retell`, `_send_requests`, `_keep_deadlines`.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from msgspec.structs import replace

from piker import clock, faults
from piker.clearing import _book_events as on
from piker.clearing._book import DEADLINE_NS, brokerd_order
from piker.clearing._dialog import Dialog
from piker.clearing._keeper import AccountKeeper
from piker.clearing._messages import (
    BrokerdCancel,
    BrokerdOrder,
    BrokerdPosition,
    BrokerdStatus,
    BrokerMsg,
    Mode,
    PaperAccount,
    PaperOrder,
    PaperReady,
    Status,
    parse_broker,
)
from piker.clearing._world import TOGETHER_MAX, Channel, World
from piker.errors import BadPayload, ConnectionLost, PikerError
from piker.log import get_logger

log = get_logger(__name__)

BACKOFF_MIN_S, BACKOFF_MAX_S = 0.05, 2.0
LATE_S = 5.0
# A paper engine may take long to start; what it never had can be given to it later without harm.
PAPER_PATIENCE_NS = 20_000_000_000
Deadline = tuple[int, str, str, int]  # when, account, oid, number of the request
CANCEL = 0  # stands for the number of a request that has none
WAITING = ("pending", "triggered", "amend_in_flight", "cancel_in_flight", "unknown")


OpenAccount = Callable[[str, str], Awaitable[AccountKeeper]]


class TradesRelay:
    """The trade dialog with one broker in one mode; made by the router, which runs it."""

    def __init__(
        self, world: World, broker: str, mode: Mode, fqme: str, open_account: OpenAccount
    ) -> None:
        self.broker = broker
        self.mode: Mode = mode
        self.accounts: tuple[str, ...] = ()
        self.positions: list[BrokerdPosition] = []
        self.keepers: dict[str, AccountKeeper] = {}  # by account
        self.cause = "not opened yet"  # why it is not open; '' when it is
        self.reopened = 0
        self._world = world
        self._fqme = fqme
        self._open_account = open_account
        self._requests: deque[BrokerdOrder | BrokerdCancel] = deque()
        self._work = trio.Event()
        self._way_out: Channel | None = None  # while no request waits to leave
        self._opened = trio.Event()
        self._settled = trio.Event()
        self._deadlines: list[Deadline] = []
        self._due: dict[tuple[str, int], int] = {}  # the newest deadline of each oid and request
        self._deadline_set = trio.Event()
        self._dialog_scope: trio.CancelScope | None = None
        self._halted = ""
        self._error: PikerError | None = None
        self._lost_s = -math.inf
        self.scope = trio.CancelScope()

    @property
    def is_late(self) -> bool:
        """Whether it has not been open for longer than a restart takes."""
        return trio.current_time() - self._lost_s > LATE_S

    # ---- what is asked of it ---------------------------------------------------------------

    async def wait_open(self) -> None:
        """
        Wait until the dialog has been opened for the first time.

        Raises:
          PikerError: the first attempt failed; says why.
        """
        await self._settled.wait()
        if self._error is not None:
            raise self._error

    def send(self, output: on.Send | on.SendCancel | on.Withdraw) -> None:
        """Take a request, or take one back that has not left; never blocks."""
        match output:
            case on.Send(order=order):
                self._requests.append(order)
                self._expect((order.deadline_ns, order.account, order.oid, order.number))
            case on.SendCancel(cancel=cancel):
                self._requests.append(cancel)
                when_ns = cancel.time_ns + DEADLINE_NS
                self._expect((when_ns, cancel.account, cancel.oid, CANCEL))
            case on.Withdraw(oid=oid, number=number):
                self._requests = deque(
                    each
                    for each in self._requests
                    if isinstance(each, BrokerdCancel) or (each.oid, each.number) != (oid, number)
                )
        if not self._leave_at_once():
            self._work.set()

    def halt(self, cause: str) -> None:
        """End the dialog, and open it no more until `resume`."""
        self._halted = cause
        self.restart(cause)

    def resume(self) -> None:
        """Open the dialog again after a halt."""
        self._halted = ""

    def restart(self, cause: str) -> None:
        """End the dialog; it is opened again, and the broker told where things stand."""
        if self._dialog_scope is not None:
            log.warning("dialog with %s is opened again cause=%s", self.broker, cause)
            self._dialog_scope.cancel()

    # ---- the dialog --------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the dialog open, for ever."""
        self._lost_s = trio.current_time()
        with self.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_deadlines)
                await self._keep_open()

    async def _keep_open(self) -> None:
        delay_s = BACKOFF_MIN_S
        while True:
            while self._halted:
                self.cause = self._halted
                await trio.sleep(BACKOFF_MAX_S)
            try:
                await self._hold()
                cause = "the dialog ended"
            except* (PikerError, trio.BrokenResourceError, trio.ClosedResourceError) as group:
                cause = self._failed(group)
            if was_open := not self.cause:
                self._lost_s = trio.current_time()
            self.cause, self._opened = cause, trio.Event()
            delay_s = BACKOFF_MIN_S if was_open else min(delay_s * 1.6, BACKOFF_MAX_S)
            log.warning("dialog with %s lost mode=%s cause=%s", self.broker, self.mode, cause)
            self.reopened += 1
            await trio.sleep(clock.jitter(delay_s))

    def _failed(self, group: BaseExceptionGroup[Any]) -> str:
        """Return why an attempt failed; the first one's error is for those who wait."""
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if not self._settled.is_set():
            text = str(error)
            self._error = error if isinstance(error, PikerError) else ConnectionLost(text)
            self._settled.set()
        return str(error) or type(error).__name__

    async def _hold(self) -> None:
        """Open the dialog and serve it until either side ends it."""
        account = next(iter(self.keepers), "paper")
        with trio.CancelScope() as self._dialog_scope:
            async with self._world.open_broker(self.broker, self.mode, account, self._fqme) as (
                first,
                channel,
            ):
                self._take_first(first)
                for name in self.accounts:
                    self.keepers[name] = await self._open_account(self.broker, name)
                await self._retell(channel)
                for position in self.positions:
                    self.keepers[position.account].hear(position)
                self.cause, self._error = "", None
                self._opened.set()
                self._settled.set()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send_requests, channel)
                    await self._receive(channel)
                    nursery.cancel_scope.cancel()

    def _take_first(self, first: Any) -> None:
        """Check what the broker says of its accounts, and keep it."""
        positions, accounts = first
        self.accounts = tuple(str(account) for account in accounts)
        if len(set(self.accounts)) != len(self.accounts):
            raise PikerError(f"{self.broker}: accounts were {self.accounts}, expected no two alike")
        self.positions = []
        for raw in positions:
            message = parse_broker({"name": "position", **raw})
            assert isinstance(message, BrokerdPosition)
            if message.account not in self.accounts:
                raise PikerError(
                    f"{self.broker}: a position of account {message.account!r},"
                    f" expected one of {', '.join(self.accounts)}"
                )
            self.positions.append(message)

    async def _receive(self, channel: Channel) -> None:
        channel.on_message(self._take)
        async for raw in channel:
            while not self._take(raw, True):
                for keeper in self.keepers.values():
                    await keeper.wait_room()

    def _take(self, raw: Any, more: bool) -> bool:
        """
        Take what the broker says; False, with nothing done, while its account has no room.

        With `more` behind it, it shares their sync.
        """
        try:
            message = parse_broker(raw)
        except BadPayload as error:
            log.warning("%s: %s in %r", self.broker, error, error.head)
            return True
        keeper = self._keeper_of(message)
        if keeper is None:
            log.warning("%s: %s is about no known account", self.broker, message)
            return True
        if not keeper.has_room:
            return False
        keeper.hear(message)
        if not more:
            keeper.line.begin()
        return True

    def _keeper_of(self, message: BrokerMsg) -> AccountKeeper | None:
        """Return the account that a message is about."""
        if len(self.keepers) == 1:
            return next(iter(self.keepers.values()))
        account = getattr(message, "account", "")
        if isinstance(message, Status) and message.req is not None:
            account = account or message.req.account
        if keeper := self.keepers.get(account or ""):
            return keeper
        oid = getattr(message, "oid", None) or ""
        for keeper in self.keepers.values():
            if oid in keeper.book.dialogs:
                return keeper
        return None

    def _leave_at_once(self) -> bool:
        """Let a request leave in this turn when it is the only one; False when it cannot."""
        if self._way_out is None or len(self._requests) != 1:
            return False
        return self._leave_first(self._way_out)

    def _leave_first(self, channel: Channel) -> bool:
        """Let the first request leave in this turn; False when it cannot."""
        request = self._requests[0]
        if isinstance(request, BrokerdOrder):
            if self._world.now_ns() >= request.deadline_ns:
                return False
            faults.point("emsd.order.leaving")
        if not channel.send_nowait(request.to_dict()):
            return False
        self._requests.popleft()
        self._note_leaving(request)
        faults.point("emsd.request.left")
        return True

    async def _send_requests(self, channel: Channel) -> None:
        """Let requests leave, in order."""
        try:
            while True:
                while not self._requests:
                    self._work, self._way_out = trio.Event(), channel
                    await self._work.wait()
                    self._way_out = None
                for _ in range(TOGETHER_MAX):
                    if not (self._requests and self._leave_first(channel)):
                        break
                if self._requests:
                    await self._send_first(channel)
        finally:
            self._way_out = None

    async def _send_first(self, channel: Channel) -> None:
        request = self._requests.popleft()
        if isinstance(request, BrokerdOrder) and request.account in self.keepers:
            now_ns = self._world.now_ns()
            if now_ns >= request.deadline_ns:
                late = on.NeverSent(
                    time_ns=now_ns, number=request.number, reason="never sent: it was too late"
                )
                self.keepers[request.account].happen(request.oid, late)
                return
            self._note_leaving(request)
            faults.point("emsd.order.leaving")
        await channel.send(request.to_dict())
        faults.point("emsd.request.left")

    def _note_leaving(self, request: BrokerdOrder | BrokerdCancel) -> None:
        """Note of an order that it may have arrived from now on."""
        if isinstance(request, BrokerdOrder) and request.account in self.keepers:
            self.keepers[request.account].leave(request.oid, request.number)

    # ---- a paper engine begins anew ----------------------------------------------------------

    async def _retell(self, channel: Channel) -> None:
        """Tell a new paper engine where things stand; ask again what was not answered."""
        if self.mode == "live":
            self._doubt_unanswered()
            return
        keeper = self.keepers["paper"]
        now_ns = self._world.now_ns()
        self._requests = deque()
        for dialog in keeper.book.active():
            if dialog.is_open and dialog.filled >= dialog.order.size:
                # All its fills are in our journal; the word of its end was on its way.
                ended = BrokerdStatus(
                    time_ns=now_ns,
                    reqid=dialog.reqid,
                    status="closed",
                    oid=dialog.oid,
                    filled=dialog.filled,
                )
                keeper.hear(ended)
        active = keeper.book.active()
        for dialog in active:
            if dialog.is_open:
                await channel.send(self._as_rests(dialog).to_dict())
        await channel.send(self._account_of(keeper).to_dict())
        await channel.send(PaperReady(time_ns=now_ns).to_dict())
        for dialog in active:
            self._ask_again(keeper, keeper.book.dialogs[dialog.oid], now_ns)

    def _as_rests(self, dialog: Dialog) -> PaperOrder:
        return PaperOrder(
            order=brokerd_order(dialog, self._world.now_ns(), in_force=True),
            filled=dialog.filled,
            fills=len(dialog.fills),
            entered_ns=dialog.sent_ns,
            is_fired=dialog.is_fired,
        )

    def _account_of(self, keeper: AccountKeeper) -> PaperAccount:
        book = keeper.book
        return PaperAccount(
            account="paper",
            balances=keeper.balances(),
            positions={each.fqme: each.size for each in book.positions.values() if each.size},
        )

    def _ask_again(self, keeper: AccountKeeper, dialog: Dialog, now_ns: int) -> None:
        """Have a request leave again that the engine's last life had not answered."""
        if dialog.state not in WAITING or dialog.is_held_back or not keeper.told.is_durable(dialog):
            return
        number = dialog.sent_number
        if dialog.in_flight is None and dialog.is_open:
            if dialog.state == "unknown":
                found = on.Found(time_ns=now_ns, number=number, reqid=dialog.reqid)
                keeper.happen(dialog.oid, found)
        elif not dialog.is_open and (dialog.state == "unknown" or dialog.cancel_called):
            gone = BrokerdStatus(
                time_ns=now_ns,
                reqid=dialog.reqid,
                status="canceled",
                oid=dialog.oid,
                reason="the paper engine was restarted before it took the order",
            )
            keeper.hear(gone)
        elif dialog.state == "unknown":
            found = on.Found(time_ns=now_ns, number=dialog.revision, reqid=dialog.reqid)
            keeper.happen(dialog.oid, found)
        elif not dialog.cancel_called:
            order = brokerd_order(dialog, now_ns, in_force=False)
            if dialog.in_flight is None:
                order = replace(order, time_ns=dialog.sent_ns, reqid=None)
            self.send(on.Send(order=replace(order, deadline_ns=now_ns + DEADLINE_NS)))
        after = keeper.book.dialogs[dialog.oid]
        if after.cancel_called and after.is_open and not after.is_terminal:
            self._cancel_again(after, now_ns)

    def _cancel_again(self, dialog: Dialog, now_ns: int) -> None:
        cancel = BrokerdCancel(
            oid=dialog.oid,
            time_ns=now_ns,
            account=dialog.order.account,
            reqid=dialog.reqid,
            symbol=dialog.order.symbol.removesuffix(f".{self.broker}"),
        )
        self.send(on.SendCancel(cancel=cancel))

    def _doubt_unanswered(self) -> None:
        """After a live dialog was lost: what had left and was not answered is unknown."""
        now_ns = self._world.now_ns()
        waiting = {each.oid for each in self._requests if isinstance(each, BrokerdOrder)}
        for keeper in self.keepers.values():
            for dialog in keeper.book.active():
                if dialog.oid in waiting or dialog.is_held_back:
                    continue
                if dialog.state in WAITING and keeper.told.is_durable(dialog):
                    keeper.leave(dialog.oid, dialog.sent_number)
                    keeper.happen(dialog.oid, on.TimedOut(time_ns=now_ns))

    # ---- deadlines ---------------------------------------------------------------------------

    def _expect(self, deadline: Deadline) -> None:
        """Look at an order again when its request should have been answered."""
        when_ns, _, oid, number = deadline
        self._due[oid, number] = when_ns
        heapq.heappush(self._deadlines, deadline)
        if self._deadlines[0] is deadline:
            self._deadline_set.set()

    async def _keep_deadlines(self) -> None:
        """Say of each request that was not answered in time that its outcome is unknown."""
        while True:
            if not self._deadlines:
                self._deadline_set = trio.Event()
                await self._deadline_set.wait()
                continue
            when_ns, account, oid, number = self._deadlines[0]
            if self._world.now_ns() < when_ns:
                await self._sleep_or_change(when_ns)
                continue
            deadline = heapq.heappop(self._deadlines)
            if self._due.get((oid, number)) != when_ns:
                continue  # asked again meanwhile: that one counts
            del self._due[oid, number]
            if keeper := self.keepers.get(account):
                self._time_out(keeper, deadline)

    async def _sleep_or_change(self, when_ns: int) -> None:
        self._deadline_set = trio.Event()
        async with trio.open_nursery() as nursery:

            async def sleep() -> None:
                await self._world.sleep_until_ns(when_ns)
                nursery.cancel_scope.cancel()

            nursery.start_soon(sleep)
            await self._deadline_set.wait()
            nursery.cancel_scope.cancel()

    def _time_out(self, keeper: AccountKeeper, deadline: Deadline) -> None:
        when_ns, _, oid, number = deadline
        dialog = keeper.book.find(oid)
        if dialog is None or not _is_awaited(dialog, number):
            return
        now_ns = self._world.now_ns()
        if self.mode == "paper" and self.cause and when_ns < dialog.sent_ns + PAPER_PATIENCE_NS:
            self._expect((when_ns + DEADLINE_NS, keeper.account, oid, number))
            return
        if not dialog.has_left and dialog.reqid is None:
            never = on.NeverSent(
                time_ns=now_ns, number=dialog.sent_number, reason=f"never sent: {self.cause}"
            )
            self.send(on.Withdraw(oid=oid, number=dialog.sent_number))
            keeper.happen(oid, never)
            return
        keeper.happen(oid, on.TimedOut(time_ns=now_ns))
        after = keeper.book.dialogs[oid]
        if after.state not in WAITING or (after.state in ("pending", "triggered")):
            return
        if self.mode == "paper" and not self.cause:
            self.restart(f"no answer about {oid} in time")
        elif not after.is_terminal:
            self._expect((now_ns + DEADLINE_NS, keeper.account, oid, number))


def _is_awaited(dialog: Dialog, number: int) -> bool:
    """Whether the answer to one request of an order is still to come."""
    if dialog.state not in WAITING:
        return False
    if number == CANCEL:
        return dialog.cancel_called
    return dialog.sent_number == number and (dialog.in_flight is not None or not dialog.is_open)
