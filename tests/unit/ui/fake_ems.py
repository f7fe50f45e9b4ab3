"""
An order path of one market in memory: what the order client says, without a tree behind it.

It answers in the statuses that `emsd` would tell and fills a resting order when `trade` reaches
its price. Nothing of it is a model of matching: the real one has tests of its own.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import trio
from msgspec.structs import replace

from piker import clock
from piker.clearing import BrokerdFill, BrokerdPosition, Order, Status
from piker.ui.order_path import Ems

TERMINAL = ("closed", "canceled", "error")


class FakeEms:
    """The market `fqme` of one account; `script` says what an entry is answered with."""

    def __init__(self, fqme: str, account: str = "paper") -> None:
        self.fqme, self.account = fqme, account
        self.state, self.cause, self.held = "ready", "", 0
        self.not_watched: dict[str, int] | None = None
        self.fills: dict[str, list[BrokerdFill]] = {}
        self.statuses: dict[str, Status] = {}
        self.sent: list[Order] = []
        self.calls: list[str] = []
        self.size, self.average = Decimal(0), Decimal(0)
        self.opened = 0
        self.refusal: Exception | None = None
        self.latency_s = 0.0
        self.last: Decimal | None = None
        self.is_mute = False
        self._changed = trio.Event()
        self._streams: list[trio.MemorySendChannel[Any]] = []

    # ---- what the order desk uses

    def ems(self, ledger: Any = lambda broker, account: []) -> Ems:
        """Return it as the desk takes it."""
        return Ems(self.open, self.stop_all, self.arm, ledger)

    @asynccontextmanager
    async def open(self, fqme: str, mode: str) -> Any:
        if self.refusal:
            raise self.refusal
        assert fqme == self.fqme
        self.opened += 1
        send, receive = trio.open_memory_channel[Any](1000)
        self._streams.append(send)
        positions = {("binance", self.account): {self.fqme: self.position().to_dict()}}
        yield self, receive, positions, [self.account], self.dialogs()

    def dialogs(self) -> Any:
        """Return what is open now, as a map that stays current."""
        return _Dialogs(self)

    async def wait_state_change(self) -> None:
        await self._changed.wait()

    async def send(self, order: Order) -> None:
        if order.revision is not None:
            await self._amend(order)
            return
        self.sent.append(order)
        if self.is_mute:
            return
        await trio.sleep(self.latency_s)
        self.say(order, "dark_open" if order.is_dark else "pending")
        if order.is_dark:
            return
        await trio.sleep(self.latency_s)
        self.say(order, "open")
        if order.order_type == "market":
            self.fill(order.oid, order.size, self.last or Decimal(100))

    async def _amend(self, order: Order) -> None:
        before = self.statuses[order.oid]
        if order.revision != before.revision:
            self.tell(replace(before, refused="amend", reason="revision: is old"))
            return
        number = before.revision + 1
        order = replace(order, revision=None)
        if before.state != "dark_open":
            self.tell(replace(before, req=order, state="amend_in_flight", revision=number))
            await trio.sleep(self.latency_s)
        self.tell(replace(before, req=order, revision=number))

    async def cancel(self, uuid: str) -> None:
        before = self.statuses[uuid]
        self.tell(replace(before, state="cancel_in_flight", cancel_called=True))
        await trio.sleep(self.latency_s)
        self.tell(replace(before, resp="canceled", state="canceled", cancel_called=True))

    async def stop_all(self) -> None:
        self.calls.append("stop_all")
        for oid, status in list(self.statuses.items()):
            if status.resp not in TERMINAL:
                await self.cancel(oid)
        self.set_state("stopped", "stopped: piker arm to trade again")

    async def arm(self) -> None:
        self.calls.append("arm")
        self.set_state("ready")

    # ---- what the test makes happen

    def set_state(self, state: str, cause: str = "") -> None:
        self.state, self.cause = state, cause
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def hang_up(self) -> None:
        """End every client's stream."""
        while self._streams:
            self._streams.pop().close()

    def say(self, order: Order, resp: str, **words: Any) -> None:
        """Tell a status of an order."""
        source = "dark" if resp == "dark_open" else "paperboi"
        fields = {"resp": resp, "state": resp, "revision": 1, "src": source} | words
        if order.is_dark and self.last is not None:
            trigger = order.trigger_price or order.price
            fields["brokerd_msg"] = {"fires": ">=" if trigger >= self.last else "<="}
        owner = {"account": order.account, "client_ref": order.client_ref}
        self.tell(Status(time_ns=clock.now_ns(), oid=order.oid, req=order, **owner, **fields))

    def tell(self, message: Status | BrokerdPosition) -> None:
        """Tell every client."""
        if isinstance(message, Status):
            message = replace(message, time_ns=clock.now_ns())
            self.statuses[message.oid] = message
        for stream in self._streams:
            stream.send_nowait(message)

    def fill(self, oid: str, size: Decimal, price: Decimal) -> None:
        """Fill some of an order, and close it when all of it is filled."""
        status = self.statuses[oid]
        order = status.req
        assert order is not None
        known = self.fills.setdefault(oid, [])
        fill = BrokerdFill(
            time_ns=clock.now_ns(), broker_time=clock.now_s(), reqid=oid, size=size, price=price,
            action=order.action, tid=f"{oid[:8]}-{len(known)}", fee=size * price / 1000,
            fee_asset="usdt", is_maker=order.order_type == "limit", oid=oid,
            account=order.account, symbol=self.fqme.rpartition(".")[0],
        )  # fmt: skip
        known.append(fill)
        self.tell(
            replace(status, resp="fill", state="partially_filled", brokerd_msg=fill.to_dict())
        )
        self._book(size if order.action == "buy" else -size, price)
        if sum(each.size for each in known) >= order.size:
            self.tell(replace(status, resp="closed", state="closed"))
        else:
            self.statuses[oid] = replace(status, resp="open", state="partially_filled")

    def _book(self, change: Decimal, price: Decimal) -> None:
        after = self.size + change
        if self.size * change >= 0:
            self.average = (abs(self.size) * self.average + abs(change) * price) / abs(after)
        elif after * self.size < 0:
            self.average = price
        self.size = after
        self.tell(self.position())

    def position(self) -> BrokerdPosition:
        return BrokerdPosition(
            broker="binance", account=self.account, symbol=self.fqme, size=self.size,
            avg_price=self.average if self.size else Decimal(0), currency="usdt",
        )  # fmt: skip

    def trade(self, price: Decimal) -> None:
        """Let the market trade at a price: what it reaches fires or fills."""
        self.last = price
        for oid, status in list(self.statuses.items()):
            order = status.req
            if order is None or status.resp in TERMINAL:
                continue
            if status.state == "dark_open":
                trigger = order.trigger_price or order.price
                is_above = status.brokerd_msg.get("fires") == ">="
                if price >= trigger if is_above else price <= trigger:
                    self._fire(order)
            elif status.state in ("open", "partially_filled") and _is_through(order, price):
                part = (order.size / 3).quantize(Decimal("0.00001"))
                done = sum(each.size for each in self.fills.get(oid, []))
                self.fill(oid, min(part, order.size - done), order.price)

    def _fire(self, order: Order) -> None:
        self.say(order, "triggered")
        if order.is_alert:
            self.say(order, "closed")
        else:
            self.say(order, "open", revision=1)


def _is_through(order: Order, price: Decimal) -> bool:
    return price <= order.price if order.action == "buy" else price >= order.price


class _Dialogs:
    """The open dialogs of the order path, by oid, with their fills."""

    def __init__(self, path: FakeEms) -> None:
        self._path = path

    def values(self) -> list[dict[str, Any]]:
        return [
            status.to_dict() | {"fills": [f.to_dict() for f in self._path.fills.get(oid, [])]}
            for oid, status in self._path.statuses.items()
            if status.resp not in TERMINAL
        ]
