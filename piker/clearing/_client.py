"""
The order client: requests out, statuses in, and how both survive a restart of `emsd`.

Actor-free: `connect` opens the dialog, `open_ems` gives the real one. When the dialog is lost it
is opened again with backoff, and what was missed is told: fills, ends, and each request that
`emsd` never took, as an error. Nothing is ever sent twice.

Reading order: `OrderClient` (what a caller uses), `keep_attached`; `_order_tables` keeps what was
said.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from typing import Any

import msgspec
import trio
from msgspec.structs import replace

from piker import clock, faults
from piker.clearing._messages import (
    Cancel,
    Order,
    Requested,
    parse_reply,
)
from piker.clearing._order_tables import Held, OrderTables, TradesStream
from piker.clearing._session import KNOWN_MAX, Hello
from piker.clearing._world import Channel
from piker.errors import BadPayload, ConnectionLost, OrderRejected, PikerError
from piker.log import get_logger
from piker.model.market import MktPair

log = get_logger(__name__)

REQUESTS_MAX = 100  # that wait to leave; then `send` waits, and `send_nowait` refuses
REQUEST_AGE_NS = 3_000_000_000  # an older one does not leave any more
AWAY = "emsd is away: it starts again by itself, and its journal has your orders"
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.05, 1.0

Connect = Callable[[Hello], AbstractAsyncContextManager[tuple[dict[str, Any], Channel]]]


class OrderClient(OrderTables):
    """Orders on one market in one mode; made by `open_ems`."""

    def __init__(self, hello: Hello, now_ns: Callable[[], int], new_id: Callable[[], str]) -> None:
        super().__init__(hello.mode, now_ns)
        self.fqme = hello.fqme
        self.broker = ""
        self.account = ""  # the first one
        self.accounts: list[str] = []
        self._mkt: MktPair | None = None
        self.state = "reconnecting"  # ready, no_new_risk, stopped or reconnecting
        self.cause = ""
        self.held = 0
        self.not_watched: dict[str, int] | None = None
        self.reattached = 0
        self.new_oid = new_id
        self._hello = hello
        self._put, self._take = trio.open_memory_channel[tuple[int, Order | Cancel]](REQUESTS_MAX)
        self._pages: list[dict[str, Any]] = []
        self._way_out: Channel | None = None  # while no request waits to leave
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
        await self._send(order)
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
        await self._send(order)
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
        await self._send(self._cancel(uuid, symbol))

    def cancel_nowait(self, uuid: str, symbol: str = "") -> None:
        """Ask like `cancel`, without waiting; raises also when too many requests wait."""
        self._put_nowait(self._cancel(uuid, symbol))

    async def _send(self, request: Order | Cancel) -> None:
        if self._leave_at_once(request):
            await trio.lowlevel.checkpoint()
        else:
            await self._put.send((self._now_ns(), request))

    def _leave_at_once(self, request: Order | Cancel) -> bool:
        """Let a request leave in this turn; False when others wait before it, or it cannot."""
        if self._way_out is None:
            return False
        faults.point("client.request.leaving")
        if not self._way_out.send_nowait(request.to_dict()):
            self._way_out = None
            return False
        self.note_asked(request.oid, _kind(request))
        faults.point("client.request.left")
        return True

    def _put_nowait(self, request: Order | Cancel) -> None:
        if self._leave_at_once(request):
            return
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
            self._set_state("reconnecting", AWAY, self.held)
            log.warning("emsd is lost fqme=%s cause=%s", self.fqme, cause)
            await trio.sleep(clock.jitter(delay_s))
            delay_s = min(delay_s * 1.6, BACKOFF_MAX_S)

    def _hello_now(self) -> Hello:
        """Return what the next dialog begins with: the orders whose end we have not seen."""
        return replace(self._hello, known=tuple(self.unsettled())[:KNOWN_MAX])

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
            if not self._take.statistics().current_buffer_used:
                self._way_out = channel
            try:
                time_ns, request = await self._take.receive()
            finally:
                self._way_out = None
            if self._now_ns() - time_ns > REQUEST_AGE_NS and isinstance(request, Order):
                self.disown(request.oid, "was not sent: emsd was away", _kind(request))
                continue
            self.note_asked(request.oid, _kind(request))
            faults.point("client.request.leaving")
            await channel.send(request.to_dict())
            faults.point("client.request.left")

    async def _receive(self, channel: Channel, scope: trio.CancelScope) -> None:
        """Take what is said at the speed of the wire."""
        channel.on_message(self._take_message)
        async for raw in channel:
            self._take_message(raw)
        scope.cancel()

    def _take_message(self, raw: Any, more: bool = False) -> bool:
        match raw.get("msg") if isinstance(raw, dict) else None:
            case "page":
                self._pages.append(raw)
                if raw["is_last"]:
                    pages, self._pages = self._pages, []
                    self.resync(pages)
                    self._is_synced.set()
            case "state":
                self._set_state(raw["state"], raw["cause"], raw["held"])
            case _:
                self._hear(raw)
        return True

    def _hear(self, raw: Any) -> None:
        try:
            message = parse_reply(raw)
        except BadPayload as error:
            log.warning("emsd said something unreadable: %s in %r", error, error.head)
            return
        if self.hear(message):
            faults.point("client.status.taken")


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
