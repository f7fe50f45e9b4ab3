"""
The order client: requests out, statuses in, and how both survive a restart of `emsd`.

Actor-free: `connect` opens the dialog, `open_ems` gives the real one. When the dialog is lost it
is opened again with backoff, and what was missed is told: fills, ends, and each request that
`emsd` never took, as an error. Nothing is ever sent twice.

Reading order: `OrderClient` (what a caller uses), `_keep_attached`, `_resync`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
import trio
from msgspec.structs import replace

from piker import clock, faults
from piker.clearing._messages import (
    BrokerdFill,
    BrokerdPosition,
    Cancel,
    Mode,
    Order,
    Requested,
    Status,
    parse_reply,
)
from piker.clearing._session import KNOWN_MAX, Hello
from piker.clearing._world import Channel
from piker.errors import BadPayload, ConnectionLost, OrderRejected, PikerError
from piker.log import get_logger
from piker.model.market import MktPair

log = get_logger(__name__)

REQUESTS_MAX = 100  # that wait to leave; then `send` waits, and `send_nowait` refuses
NEWS_MAX = 4096  # statuses that the caller has not read; then the oldest are let go, counted
REQUEST_AGE_NS = 3_000_000_000  # an older one does not leave any more
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.05, 1.0

Connect = Callable[[Hello], AbstractAsyncContextManager[tuple[dict[str, Any], Channel]]]
News = Status | BrokerdPosition
Held = dict[tuple[str, str], dict[str, dict[str, Any]]]


class TradesStream:
    """
    What `emsd` says, as it says it: `Status` and `BrokerdPosition`.

    A caller that does not read loses the oldest; `missed` counts them, and the client's tables
    stay right.
    """

    def __init__(self) -> None:
        self.missed = 0
        self._news: deque[News] = deque()
        self._work = trio.Event()

    def put(self, news: News) -> None:
        """Add what was said; never blocks."""
        if len(self._news) >= NEWS_MAX:
            self._news.popleft()
            self.missed += 1
        self._news.append(news)
        self._work.set()

    def __aiter__(self) -> TradesStream:
        return self

    async def __anext__(self) -> News:
        while not self._news:
            self._work = trio.Event()
            await self._work.wait()
        await trio.lowlevel.checkpoint()
        return self._news.popleft()

    async def receive(self) -> News:
        """Return what was said next."""
        return await self.__anext__()

    def receive_nowait(self) -> News:
        """Return what was said next; raises `trio.WouldBlock` when there is nothing."""
        if not self._news:
            raise trio.WouldBlock
        return self._news.popleft()


class OrderClient:
    """Orders on one market in one mode; made by `open_ems`."""

    def __init__(self, hello: Hello, now_ns: Callable[[], int], new_id: Callable[[], str]) -> None:
        self.fqme = hello.fqme
        self.mode: Mode = hello.mode
        self.broker = ""
        self.account = ""  # the first one
        self.accounts: list[str] = []
        self._mkt: MktPair | None = None
        self.state = "reconnecting"  # ready, no_new_risk, stopped or reconnecting
        self.cause = ""
        self.held = 0
        self.not_watched: dict[str, int] | None = None
        self.reattached = 0
        self.statuses: dict[str, Status] = {}  # the newest word of every order seen
        self.fills: dict[str, list[BrokerdFill]] = {}
        self.positions: Held = {}
        self.dialogs: dict[str, dict[str, Any]] = {}  # orders that go on
        self.trades = TradesStream()
        self.new_oid = new_id
        self._hello = hello
        self._now_ns = now_ns
        self._sent_orders: dict[str, Order] = {}
        self._amends: dict[str, int] = {}  # sent and not answered, by oid
        self._asked: dict[str, Requested | str] = {}  # the newest unanswered request, by oid
        self._put, self._take = trio.open_memory_channel[tuple[int, Order | Cancel]](REQUESTS_MAX)
        self._pages: list[dict[str, Any]] = []
        self._was_attached = False
        self._is_synced = trio.Event()
        self._state_changed = trio.Event()

    @property
    def mkt(self) -> MktPair:
        """The market."""
        assert self._mkt is not None, "the client is attached before it is yielded"
        return self._mkt

    # ---- requests --------------------------------------------------------------------------

    def order(
        self, action: str, price: Decimal | str | float, size: Decimal | str | float, **fields: Any
    ) -> Order:
        """
        Return a new order on this market, with a new oid; `fields` are those of `Order`.

        Raises:
          OrderRejected: it breaks a rule; names the field.
        """
        given: dict[str, Any] = {
            "exec_mode": "live",
            "oid": self.new_oid(),
            "symbol": self.fqme,
            "account": self.account,
            "brokers": (self.broker,) if self.broker else (),
            **fields,
        }
        try:
            return Order(action=action, price=price, size=size, **given)  # type: ignore[arg-type]
        except (ValueError, TypeError) as error:
            raise OrderRejected(f"order: {error}", oid=str(given["oid"])) from None

    async def send(self, msg: Order) -> str:
        """Send an entry, or an amend that names its revision; waits for room. Return its oid."""
        order = self._keep(msg)
        await self._put.send((self._now_ns(), order))
        return order.oid

    def send_nowait(self, msg: Order) -> str:
        """
        Send like `send`, without waiting.

        Raises:
          OrderRejected: too many requests wait to leave.
        """
        order = self._keep(msg)
        self._put_nowait(order)
        return order.oid

    async def update(self, uuid: str, **fields: Any) -> Order:
        """
        Send a copy of an order with new fields, based on what is known of it.

        Raises:
          OrderRejected: nobody here knows the order, or a field breaks a rule.
        """
        order = self._amended(uuid, fields)
        await self._put.send((self._now_ns(), order))
        return order

    def update_nowait(self, uuid: str, **fields: Any) -> Order:
        """Send like `update`, without waiting; raises also when too many requests wait."""
        order = self._amended(uuid, fields)
        self._put_nowait(order)
        return order

    async def cancel(self, uuid: str, symbol: str = "") -> None:
        """
        Ask to cancel an order.

        Raises:
          OrderRejected: nobody here knows it; with its `symbol` given, `emsd` decides.
        """
        await self._put.send((self._now_ns(), self._cancel(uuid, symbol)))

    def cancel_nowait(self, uuid: str, symbol: str = "") -> None:
        """Ask like `cancel`, without waiting; raises also when too many requests wait."""
        self._put_nowait(self._cancel(uuid, symbol))

    def _put_nowait(self, request: Order | Cancel) -> None:
        try:
            self._put.send_nowait((self._now_ns(), request))
        except trio.WouldBlock:
            self._amends.pop(request.oid, None)
            raise OrderRejected(
                f"order: {REQUESTS_MAX} requests wait to leave; wait for answers", oid=request.oid
            ) from None

    def _keep(self, msg: Order) -> Order:
        """Return an order under the market's full name, kept for its amends."""
        if msg.symbol != self.fqme:
            if msg.symbol != self._hello.fqme:
                raise OrderRejected(
                    f"symbol: was {msg.symbol}, expected {self.fqme}; each client has one market",
                    oid=msg.oid,
                )
            msg = replace(msg, symbol=self.fqme)
        if self._hello.client_ref and not msg.client_ref:
            msg = replace(msg, client_ref=self._hello.client_ref)
        self._sent_orders[msg.oid] = msg
        return msg

    def _amended(self, uuid: str, fields: dict[str, Any]) -> Order:
        known = self.statuses.get(uuid)
        base = self._sent_orders.get(uuid) or (known.req if known else None)
        if base is None:
            raise OrderRejected(f"Unknown order {uuid}!?", oid=uuid)
        waiting = self._amends.get(uuid, 0)
        seen = known.revision if known and known.revision else 1
        fields = {"revision": seen + waiting, **fields}
        try:
            order = Order(**{**msgspec.structs.asdict(base), **fields})
        except (ValueError, TypeError) as error:
            raise OrderRejected(f"order: {error}", oid=uuid) from None
        self._amends[uuid] = waiting + 1
        self._sent_orders[uuid] = order
        return order

    def _cancel(self, uuid: str, symbol: str) -> Cancel:
        known = uuid in self._sent_orders or uuid in self.statuses
        if not known and not symbol:
            log.error("Unknown order %s!?", uuid)
            raise OrderRejected(f"Unknown order {uuid}!?", oid=uuid)
        return Cancel(oid=uuid, symbol=symbol or self.fqme)

    async def wait_state_change(self) -> None:
        """Wait until `state`, `cause` or `held` change."""
        await self._state_changed.wait()

    # ---- the dialog ------------------------------------------------------------------------

    async def keep_attached(
        self, connect: Connect, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """
        Keep the dialog open, for ever; started when all that stands was told.

        Raises:
          PikerError: the first attempt failed; later ones are tried again.
        """
        delay_s, is_first = BACKOFF_MIN_S, True
        while True:
            cause = "emsd ended the dialog"
            try:
                async with connect(self._hello_now()) as (first, channel):
                    self._take_first(first)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._receive, channel, nursery.cancel_scope)
                        await self._is_synced.wait()
                        if is_first:
                            task_status.started()
                        else:
                            self.reattached += 1
                            log.info("attached to emsd again fqme=%s", self.fqme)
                        delay_s, is_first = BACKOFF_MIN_S, False
                        await self._send_requests(channel)
            except* PikerError as group:
                error: BaseException = group
                while isinstance(error, BaseExceptionGroup):
                    error = error.exceptions[0]
                if is_first:
                    raise error from None
                cause = str(error)
            except* (trio.BrokenResourceError, trio.ClosedResourceError) as group:
                cause = "the connection was lost"
                if is_first:
                    raise ConnectionLost("emsd: the connection was lost") from group
            self._is_synced = trio.Event()
            self._set_state("reconnecting", cause, self.held)
            log.warning("emsd is lost fqme=%s cause=%s", self.fqme, cause)
            await trio.sleep(clock.jitter(delay_s))
            delay_s = min(delay_s * 1.6, BACKOFF_MAX_S)

    def _hello_now(self) -> Hello:
        """Return what the next dialog begins with: the orders whose end we have not seen."""
        open_ones = [oid for oid, status in self.statuses.items() if not status.is_terminal]
        known = dict.fromkeys([*self._asked, *open_ones])
        return replace(self._hello, known=tuple(known)[:KNOWN_MAX])

    def _take_first(self, first: dict[str, Any]) -> None:
        self.fqme = first["fqme"]
        self.broker, self.account = first["broker"], first["account"]
        self.accounts = list(first["accounts"])
        self._mkt = MktPair.from_msg(first["mkt"])
        self.not_watched = first["not_watched"]
        self._pages = []
        self._set_state(first["state"], first["cause"], first["held"])

    def _set_state(self, state: str, cause: str, held: int) -> None:
        if (state, cause, held) != (self.state, self.cause, self.held):
            self.state, self.cause, self.held = state, cause, held
            changed, self._state_changed = self._state_changed, trio.Event()
            changed.set()

    async def _send_requests(self, channel: Channel) -> None:
        """Let requests leave in order; what waited too long is told as not sent."""
        while True:
            time_ns, request = await self._take.receive()
            if self._now_ns() - time_ns > REQUEST_AGE_NS and isinstance(request, Order):
                self._disown(request.oid, "was not sent: emsd was away", _kind(request))
                continue
            self._asked[request.oid] = _kind(request)
            faults.point("client.request.leaving")
            await channel.send(request.to_dict())
            faults.point("client.request.left")

    async def _receive(self, channel: Channel, scope: trio.CancelScope) -> None:
        """Take what is said at the speed of the wire."""
        async for raw in channel:
            match raw.get("msg") if isinstance(raw, dict) else None:
                case "page":
                    self._pages.append(raw)
                    if raw["is_last"]:
                        self._resync()
                        self._is_synced.set()
                case "state":
                    self._set_state(raw["state"], raw["cause"], raw["held"])
                case _:
                    self._hear(raw)
        scope.cancel()

    def _hear(self, raw: Any) -> None:
        try:
            message = parse_reply(raw)
        except BadPayload as error:
            log.warning("emsd said something unreadable: %s in %r", error, error.head)
            return
        if isinstance(message, BrokerdPosition):
            self._take_position(message)
            self.trades.put(message)
        elif self._take_status(message):
            faults.point("client.status.taken")
            self.trades.put(message)

    # ---- what is known ---------------------------------------------------------------------

    def _take_position(self, position: BrokerdPosition) -> None:
        held = self.positions.setdefault((position.broker, position.account), {})
        if position.size:
            held[position.symbol] = position.to_dict()
        else:
            held.pop(position.symbol, None)

    def _take_status(self, status: Status) -> bool:
        """Keep a status; False when it is a fill that was told before."""
        oid, old = status.oid, self.statuses.get(status.oid)
        if status.resp == "fill":
            fill = msgspec.convert({"msg": "fill", **status.brokerd_msg}, BrokerdFill)
            fills = self.fills.setdefault(oid, [])
            if any(each.tid == fill.tid for each in fills):
                return False
            fills.append(fill)
            if oid in self.dialogs:
                self.dialogs[oid].setdefault("fills", []).append(fill.to_dict())
            if old is not None:  # a fill is no state
                resp = old.resp if old.is_terminal else "open"
                status = replace(status, resp=resp, brokerd_msg={})
        if status.refused == "amend" or (old is not None and status.revision > old.revision):
            self._amends.pop(oid, None)
            if status.refused and status.req is not None:
                self._sent_orders[oid] = status.req
        self._asked.pop(oid, None)
        kept = replace(status, refused="", reason="" if status.refused else status.reason)
        if status.resp == "error" and status.refused:
            return True  # about an order that nobody knows
        self.statuses[oid] = kept
        if status.is_terminal:
            self.dialogs.pop(oid, None)
            self._amends.pop(oid, None)
        else:
            fills_told = [fill.to_dict() for fill in self.fills.get(oid, ())]
            self.dialogs[oid] = {**kept.to_dict(), "fills": fills_told}
        return True

    def _disown(self, oid: str, reason: str, what: Requested | str) -> None:
        """Tell the caller that a request was not taken; nothing of it ever left `emsd`."""
        self._asked.pop(oid, None)
        now_ns, known = self._now_ns(), self.statuses.get(oid)
        order = self._sent_orders.get(oid)
        if known is not None:
            answer = replace(known, time_ns=now_ns, refused=what or "amend", reason=reason)
        else:
            answer = Status(
                time_ns=now_ns,
                oid=oid,
                resp="error",
                req=order,
                src="client",
                account=order.account if order else "",
                mode=self.mode,
                reason=reason,
                refused="cancel" if what == "cancel" else "",
                client_ref=order.client_ref if order else "",
                state="error",
            )
        self._take_status(answer)
        self.trades.put(answer)

    def _resync(self) -> None:
        """Take where things stand; after the first time, tell what was missed."""
        pages, self._pages = self._pages, []
        is_again, self._was_attached = self._was_attached, True
        fills: dict[str, list[dict[str, Any]]] = {}
        for page in pages:
            for oid, maps in page["fills"].items():
                fills.setdefault(oid, []).extend(maps)
        told = [parse_reply(raw) for page in pages for raw in page["dialogs"]]
        positions = [parse_reply(raw) for page in pages for raw in page["positions"]]
        asked, self._asked = self._asked, {}
        self._resync_positions([p for p in positions if isinstance(p, BrokerdPosition)], is_again)
        for status in told:
            assert isinstance(status, Status)
            self._resync_order(status, fills.get(status.oid, []), asked, is_again)
        seen = {status.oid for status in told if isinstance(status, Status)}
        for oid, what in asked.items():
            if oid not in seen:
                self._disown(oid, "was not taken: emsd was restarted before it was recorded", what)
        for oid in [oid for oid in self.dialogs if oid not in seen]:
            del self.dialogs[oid]

    def _resync_positions(self, positions: list[BrokerdPosition], is_again: bool) -> None:
        before = {key: dict(held) for key, held in self.positions.items()}
        self.positions.clear()
        for position in positions:
            self._take_position(position)
            key = position.broker, position.account
            old = before.get(key, {}).pop(position.symbol, None)
            if is_again and old != position.to_dict():
                self.trades.put(position)
        for held in before.values():
            for raw in held.values():  # closed meanwhile
                self.trades.put(
                    msgspec.convert(
                        {**raw, "msg": "position", "size": "0", "avg_price": "0"}, BrokerdPosition
                    )
                )

    def _resync_order(
        self,
        status: Status,
        fills: list[dict[str, Any]],
        asked: dict[str, Requested | str],
        is_again: bool,
    ) -> None:
        """Take where one order stands: its missed fills first, then its state."""
        oid, old = status.oid, self.statuses.get(status.oid)
        for raw in fills:
            fill = replace(status, resp="fill", brokerd_msg=raw)
            if self._take_status(fill) and is_again:
                self.trades.put(fill)
        what = asked.get(oid, "")
        is_news = old is None or (old.state, old.revision) != (status.state, status.revision)
        self._take_status(status)
        if is_again and is_news:
            self.trades.put(status)
        is_amend_lost = what == "amend" and old is not None and status.revision == old.revision
        is_cancel_lost = what == "cancel" and not status.cancel_called
        if (is_amend_lost or is_cancel_lost) and not status.is_terminal:
            self._disown(oid, "was not taken: emsd was restarted before it was recorded", what)


def _kind(request: Order | Cancel) -> Requested:
    if isinstance(request, Cancel):
        return "cancel"
    return "amend" if request.revision is not None else "entry"


@asynccontextmanager
async def open_client(
    connect: Connect, hello: Hello, now_ns: Callable[[], int], new_id: Callable[[], str]
) -> AsyncIterator[tuple[OrderClient, TradesStream, Held, list[str], dict[str, dict[str, Any]]]]:
    """
    Yield `(client, trades, positions, accounts, dialogs)` over a dialog that is kept open.

    Raises:
      PikerError: the market is unknown, or the dialog cannot be opened; says why.
    """
    client = OrderClient(hello, now_ns, new_id)
    async with trio.open_nursery() as nursery:
        await nursery.start(client.keep_attached, connect)
        yield client, client.trades, client.positions, client.accounts, client.dialogs
        nursery.cancel_scope.cancel()
