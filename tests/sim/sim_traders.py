"""Clients that ask at random: entries of every kind, amends, cancels, a good deal of nonsense."""

from __future__ import annotations

import random
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Any, Protocol

import trio
from sim.sim_market import TICK

from piker.clearing._client import OrderClient
from piker.clearing._messages import BrokerdPosition, Order, Status
from piker.errors import OrderRejected

SIZES = (1, 50, 900, 2500, 6000, 12_000, 20_000, 90_000)


class Desk(Protocol):
    """Where a trader opens its client and looks at prices; one is simulated, one is real."""

    unit: Decimal  # in which sizes are drawn

    def now_ns(self) -> int: ...

    def price_of(self, fqme: str) -> Decimal: ...

    def client(self, fqme: str, name: str | None) -> AbstractAsyncContextManager[Any]: ...


Asked = tuple[int, str, str]  # when, what, oid


class Trader:
    """One client with everything it has asked and heard."""

    def __init__(self, desk: Desk, fqme: str, name: str | None, seed: int) -> None:
        self.fqme = fqme
        self.name = name
        self.asked: list[Asked] = []
        self.heard: list[Status | BrokerdPosition] = []
        self.heard_ns: list[int] = []  # when each was heard
        self.refused = 0  # by the client itself
        self.client: OrderClient | None = None
        self._desk = desk
        self._draw = random.Random(seed)
        self._is_open = trio.Event()
        self._is_done = trio.Event()

    async def run(self) -> None:
        """Stay attached and read, until cancelled."""
        async with self._desk.client(self.fqme, self.name) as (client, trades, *_):
            self.client = client
            self._is_open.set()
            async for news in trades:
                self.heard.append(news)
                self.heard_ns.append(self._desk.now_ns())

    async def ask(self, count: int) -> None:
        """Ask `count` times."""
        await self._is_open.wait()
        for _ in range(count):
            await trio.sleep(self._draw.choice([0.001, 0.02, 0.05, 0.2]) * self._draw.random())
            try:
                await self._ask_one()
            except OrderRejected:
                self.refused += 1

    async def settle(self) -> None:
        """Ask to cancel all that goes on."""
        assert self.client is not None
        for oid in list(self.client.dialogs):
            await self.client.cancel(oid)

    # ---- one request

    async def _ask_one(self) -> None:
        client, draw = self.client, self._draw
        assert client is not None
        known = [oid for oid, status in client.statuses.items() if not status.is_terminal]
        chance = draw.random()
        if known and chance < 0.25:
            await self._amend(client, draw.choice(known))
        elif known and chance < 0.35:
            await self._cancel(client, draw.choice(known))
        elif chance < 0.37:
            await self._cancel(client, draw.choice(list(client.statuses) or ["nobody"]))
        else:
            order, at_ns = self._entry(client, known), self._desk.now_ns()
            await client.send(order)
            self.asked.append((at_ns, "entry", order.oid))

    async def _cancel(self, client: OrderClient, oid: str) -> None:
        at_ns = self._desk.now_ns()
        await client.cancel(oid, symbol=client.fqme)
        self.asked.append((at_ns, "cancel", oid))

    async def _amend(self, client: OrderClient, oid: str) -> None:
        draw, asked = self._draw, client.statuses[oid].req
        assert asked is not None
        changes: dict[str, Any] = {}
        if asked.price:
            changes["price"] = max(TICK, asked.price + draw.randrange(-6, 7) * TICK)
        if asked.trigger_price:
            moved = asked.trigger_price + draw.randrange(-6, 7) * TICK
            changes["trigger_price"] = max(TICK, moved)
        if draw.random() < 0.4:
            changes["size"] = self._size()
        if draw.random() < 0.15:
            changes["revision"] = draw.randrange(1, 4)  # stale, as a rule
        if asked.stop_loss and draw.random() < 0.3:
            changes["stop_loss"] = asked.stop_loss - draw.randrange(3) * TICK
        at_ns = self._desk.now_ns()
        await client.update(oid, **changes)
        self.asked.append((at_ns, "amend", oid))

    def _size(self) -> Decimal:
        return self._draw.choice(SIZES) * self._desk.unit

    def _near(self, spread: int = 12) -> Decimal:
        return self._desk.price_of(self.fqme) + self._draw.randrange(-spread, spread + 1) * TICK

    def _entry(self, client: OrderClient, known: list[str]) -> Order:
        """Return an entry of some kind; some of them cannot be."""
        draw = self._draw
        action = draw.choice(["buy", "sell"])
        kinds = [
            *[self._limit] * 2, self._market, self._stop, self._dark, self._trail,
            *[self._bracket] * 3, self._alert, self._leg, self._wrong,
        ]  # fmt: skip
        action, price, terms = draw.choice(kinds)(action, known)
        return client.order(action, price, terms.pop("size", self._size()), **terms)

    def _limit(self, action: str, known: list[str]) -> Any:
        terms: dict[str, Any] = {}
        chance = self._draw.random()
        if chance < 0.2:
            terms["post_only"] = True
        elif chance < 0.35:
            terms["time_in_force"] = self._draw.choice(["ioc", "fok"])
        elif chance < 0.5:
            wait_ns = self._draw.randrange(1, 3000) * 1_000_000
            terms |= {"time_in_force": "gtd", "expire_time_ns": self._desk.now_ns() + wait_ns}
        elif chance < 0.6:
            terms["reduce_only"] = True
        return action, self._near(), terms

    def _market(self, action: str, known: list[str]) -> Any:
        return action, 0, {"order_type": "market", "reduce_only": self._draw.random() < 0.3}

    def _stop(self, action: str, known: list[str]) -> Any:
        kind = self._draw.choice(["stop", "take_profit"])
        price = self._draw.choice([0, self._near()])
        return action, price, {"order_type": kind, "trigger_price": self._near()}

    def _dark(self, action: str, known: list[str]) -> Any:
        kind = self._draw.choice(["limit", "limit", "market", "stop"])
        terms = {"exec_mode": "dark", "order_type": kind, "trigger_price": self._near(20)}
        return action, self._near() if kind == "limit" else 0, terms

    def _trail(self, action: str, known: list[str]) -> Any:
        trail = self._draw.choice(["0.5", "1.5", "0.8%"])
        return action, 0, {"exec_mode": "dark", "order_type": "stop", "trail": trail}

    def _bracket(self, action: str, known: list[str]) -> Any:
        price, sign = self._near(4), 1 if action == "buy" else -1
        far, near = (self._draw.randrange(2, 12) * TICK * sign for _ in range(2))
        legs = {"take_profit": price + far, "stop_loss": price - near}
        if self._draw.random() < 0.2:
            del legs[self._draw.choice(list(legs))]
        return action, price, legs

    def _alert(self, action: str, known: list[str]) -> Any:
        return "alert", self._near(), {"size": 0}

    def _leg(self, action: str, known: list[str]) -> Any:
        parent = self._draw.choice(known or ["nobody"])
        kind = self._draw.choice(["stop", "take_profit"])
        trigger = self._near(20)
        price = trigger if kind == "take_profit" else 0
        terms = {
            "exec_mode": "dark",
            "order_type": kind,
            "trigger_price": trigger,
            "parent": parent,
        }
        return action, price, terms

    def _wrong(self, action: str, known: list[str]) -> Any:
        match self._draw.randrange(4):
            case 0:
                return action, self._near() + TICK / 3, {}
            case 1:
                return action, self._near(), {"size": Decimal(1000)}
            case 2:
                return action, self._near(), {"account": "other"}
            case _:
                return action, self._near() * 2, {}
