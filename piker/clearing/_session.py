"""
One client's dialog: what it may ask, what it is told at first and then of its market, in bounds.

What a client does not read is kept up to a bound; then its dialog is ended with the reason, and
it may attach again and be told where things stand. Nothing a client does or leaves undone holds
up anybody else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import trio
from msgspec.structs import replace

from piker.clearing._book import status_of
from piker.clearing._dialog import Dialog
from piker.clearing._keeper import AccountKeeper
from piker.clearing._market_watch import MarketWatch
from piker.clearing._messages import Cancel, ClientMsg, Mode, Order, Status
from piker.clearing._world import Channel, Take, send_some
from piker.errors import ConnectionLost, OrderRejected

OUTBOX_MAX = 1024  # messages that a client has not taken
PAGE_BYTES = 128 << 10  # of a page of the handshake; a message may have twice that
KNOWN_MAX = 4096  # orders whose end a client may ask about


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """
    Who attaches, and to what.

    `client` is the id of the order client: its newer dialog ends its older one. `client_ref` None
    sees every order of the market, a name only its own. `known` are the orders whose end the
    client has not seen.
    """

    fqme: str
    mode: Mode = "paper"
    client: str = ""
    client_ref: str | None = None
    known: tuple[str, ...] = ()


class Session:
    """A client that is attached; made by `Router.attach`."""

    def __init__(self, hello: Hello, watch: MarketWatch, keepers: list[AccountKeeper]) -> None:
        self.hello = hello
        self.watch = watch
        self.fqme = watch.mkt.fqme
        self.mode: Mode = hello.mode
        self.keepers = keepers
        self.first: dict[str, Any] = {}
        self.on_leave: Callable[[], None] = lambda: None
        self._pages: list[dict[str, Any]] = []
        self._outbox: deque[dict[str, Any]] = deque()
        self._work = trio.Event()
        self._way_out: Channel | None = None  # while nothing waits to leave
        self._scope = trio.CancelScope()
        self._closed = ""

    # ---- what it is told -------------------------------------------------------------------

    def greet(self, first: dict[str, Any]) -> None:
        """Take what the client is told at first; what is told after this comes behind it."""
        self.first = first
        self._pages = list(_pages(self.keepers, self.fqme, self.hello))

    def wants(self, status: Status) -> bool:
        """Whether a status is about what this client sees."""
        order = status.req
        return (
            order is not None
            and order.symbol == self.fqme
            and status.mode == self.mode
            and self.hello.client_ref in (None, order.client_ref)
        )

    def put(self, message: dict[str, Any]) -> None:
        """Tell the client; one that has not read for long is sent away."""
        if self._way_out is not None and self._way_out.send_nowait(message):
            return
        self._way_out = None
        if len(self._outbox) >= OUTBOX_MAX:
            self.close(f"{OUTBOX_MAX} messages were not read; attach again to go on")
            return
        self._outbox.append(message)
        self._work.set()

    def refuse(self, status: Status) -> None:
        """Tell this client alone that its request was not taken."""
        self.put(status.to_dict())

    def close(self, reason: str) -> None:
        """End the dialog; the client is told why."""
        self._closed = self._closed or reason
        self._scope.cancel()

    # ---- what it asks ----------------------------------------------------------------------

    def checked(self, request: ClientMsg) -> ClientMsg:
        """
        Return a request under the market's full name, in the name of its owner.

        Raises:
          OrderRejected: it is of another market or owner than the dialog.
        """
        if request.symbol != self.fqme:
            if request.symbol not in (self.hello.fqme, self.watch.name):
                raise OrderRejected(
                    f"symbol: was {request.symbol}, expected {self.fqme}", oid=request.oid
                )
            request = replace(request, symbol=self.fqme)
        owner = self.hello.client_ref
        if isinstance(request, Order) and owner and request.client_ref != owner:
            if request.client_ref:
                raise OrderRejected(
                    f"client_ref: was {request.client_ref!r}, expected {owner!r}", oid=request.oid
                )
            request = replace(request, client_ref=owner)
        return request

    def rubbish(self, error: OrderRejected, now_ns: int) -> Status:
        """Return the answer to what is no request; an order of that name is as it was."""
        for keeper in self.keepers:
            if known := keeper.book.find(error.oid):
                return replace(status_of(known, now_ns), refused="amend", reason=error.reason)
        return Status(
            time_ns=now_ns,
            oid=error.oid[:64],
            resp="error",
            src="emsd",
            mode=self.mode,
            reason=error.reason[:500],
            state="error",
        )

    def keeper_for(self, request: ClientMsg) -> AccountKeeper | None:
        """Return the account that a request is for."""
        for keeper in self.keepers:
            if isinstance(request, Cancel):
                if keeper.book.find(request.oid):
                    return keeper
            elif request.account == keeper.account or (request.is_alert and not request.account):
                return keeper
        if isinstance(request, Cancel) and self.keepers:
            return self.keepers[0]  # which refuses it, by name
        return None

    # ---- the dialog ------------------------------------------------------------------------

    async def serve(self, channel: Channel, take: Take) -> None:
        """
        Serve the client until it leaves; `take` returns False while its account has no room.

        Raises:
          ConnectionLost: the dialog was ended from this side; says why.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send_all, channel)
                    channel.on_message(take)
                    async for raw in channel:
                        while not take(raw, True):
                            for keeper in self.keepers:
                                await keeper.wait_room()
                    nursery.cancel_scope.cancel()
        finally:
            self._way_out = None
            self.on_leave()
        if self._closed:
            raise ConnectionLost(f"emsd: {self._closed}")

    async def _send_all(self, channel: Channel) -> None:
        pages, self._pages = self._pages, []
        for page in pages:
            await channel.send(page)
        while True:
            while not self._outbox:
                self._work, self._way_out = trio.Event(), channel
                await self._work.wait()
            await send_some(channel, self._outbox)


def facts_of(dialog: Dialog, told: Status) -> Status:
    """Return what is known of an order, with what a late client cannot work out."""
    spent = sum((fill.size * fill.price for fill in dialog.fills), start=dialog.filled * 0)
    facts = {
        "filled": str(dialog.filled),
        "avg_price": str(spent / dialog.filled) if dialog.filled else "0",
        "in_force": {"price": str(dialog.order.price), "size": str(dialog.order.size)},
        "fires": dialog.trigger_side,
        "entered_ns": dialog.sent_ns,
    }
    return replace(told, brokerd_msg={**told.brokerd_msg, **facts})


def _pages(keepers: list[AccountKeeper], fqme: str, hello: Hello) -> Iterator[dict[str, Any]]:
    """Yield what the client is told first: positions, orders with their fills, in pages."""
    page: dict[str, Any] = _page()
    size = 0
    for kind, key, item in _items(keepers, fqme, hello):
        weight = len(msgspec.msgpack.encode(item))
        if size and size + weight > PAGE_BYTES:
            yield page
            page, size = _page(), 0
        size += weight
        if kind == "fills":
            page["fills"].setdefault(key, []).append(item)
        else:
            page[kind].append(item)
    yield {**page, "is_last": True}


def _page() -> dict[str, Any]:
    return {"msg": "page", "positions": [], "dialogs": [], "fills": {}, "is_last": False}


def _items(
    keepers: list[AccountKeeper], fqme: str, hello: Hello
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield `(kind, oid, map)` of everything that a client is told at first."""
    for keeper in keepers:
        for position in keeper.told.positions():
            yield "positions", "", position.to_dict()
        asked = dict.fromkeys(oid for oid in hello.known[:KNOWN_MAX] if keeper.book.find(oid))
        for oid in dict.fromkeys([*(each.oid for each in keeper.book.active(fqme)), *asked]):
            dialog, told = keeper.book.dialogs[oid], keeper.told.orders.get(oid)
            if told is None or (told.is_terminal and oid not in asked):
                continue
            if hello.client_ref not in (None, dialog.order.client_ref):
                continue
            yield "dialogs", oid, facts_of(dialog, told).to_dict()
            for fill in dialog.fills[: keeper.told.fills.get(oid, 0)]:
                yield "fills", oid, fill.to_dict()
