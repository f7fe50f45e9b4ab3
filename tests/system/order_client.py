"""
A bot as an algo developer writes it, in a process of its own: what the kill tests kill, or not.

Places one order of each kind on paper and follows each to the state it must reach, through any
restart of the daemons behind it. A request that it is told was not taken is placed anew, under a
new oid; it never repeats one by itself. It prints a JSON line for every status and every order
placed, and `{"done": {kind: oid}}` at the end. With `--finish` it places nothing, and ends every
order that goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import trio

from piker import _entry as _entry  # silences the pinned trio's deprecation warnings
from piker.clearing import (
    BrokerdPosition,
    Order,
    OrderClient,
    Status,
    TradesStream,
    open_ems,
)
from piker.errors import OrderRejected
from piker.model.market import snap
from piker.service import open_piker_runtime

SIZE = Decimal("0.01")
TRIES_MAX = 8
STEP_S = 25  # for one order to reach its state, a restart of any daemon included

Claim = Callable[[Status], bool]


def say(**facts: Any) -> None:
    """Print one line for the test that watches."""
    print(json.dumps(facts), flush=True)


class Bot:
    """One client of one market, and the newest word of each of its orders."""

    def __init__(self, client: OrderClient, trades: TradesStream) -> None:
        self.client = client
        self.trades = trades
        self.done: dict[str, str] = {}
        self.news = trio.Event()

    async def listen(self) -> None:
        """Print every status."""
        async for message in self.trades:
            self.take(message)

    def drain(self) -> None:
        """Print what has come and was not printed yet: the tables know it before it is read."""
        with suppress(trio.WouldBlock):
            while True:
                self.take(self.trades.receive_nowait())

    def take(self, message: Status | BrokerdPosition) -> None:
        """Print a status, and wake who waits for news."""
        if isinstance(message, Status):
            say(
                oid=message.oid,
                resp=message.resp,
                state=message.state,
                refused=message.refused,
                reason=message.reason,
                revision=message.revision,
                is_terminal=message.is_terminal,
                fill=message.brokerd_msg if message.resp == "fill" else None,
            )
        self.news.set()
        self.news = trio.Event()

    async def until(self, oid: str, claim: Claim) -> Status | None:
        """Return the order's status once `claim` holds; None when it ended in another way."""
        with trio.fail_after(STEP_S):
            while True:
                status = self.client.statuses.get(oid)
                if status is not None and status.resp == "error":
                    say(not_taken=oid, reason=status.reason)
                    return None
                if status is not None and claim(status):
                    return status
                if status is not None and status.is_terminal:
                    say(ended=oid, reason=status.reason)  # never sent: it was still in emsd
                    return None
                with trio.move_on_after(0.5):
                    await self.news.wait()

    async def place(self, kind: str, make: Callable[[], Order], claim: Claim) -> Status:
        """Place an order until one is taken, and follow it until `claim` holds."""
        begun_s = trio.current_time()
        while trio.current_time() - begun_s < STEP_S:
            order = make()
            say(placed=order.oid, kind=kind, size=str(order.size))
            await self.client.send(order)
            if status := await self.until(order.oid, claim):
                self.done[kind] = order.oid
                return status
            await trio.sleep(0.3)  # the feed behind the risk gate may still be on its way
        raise AssertionError(f"{kind} was not taken for {STEP_S} s")

    async def amend(self, oid: str, claim: Claim, **fields: Any) -> Status:
        """Amend until an amend is taken."""
        for _ in range(TRIES_MAX):
            seen = self.client.statuses[oid].revision
            await self.client.update(oid, **fields)
            with trio.move_on_after(STEP_S):
                while not claim(self.client.statuses[oid]):
                    await self.news.wait()
                return self.client.statuses[oid]
            say(again=oid, revision=seen)
        raise AssertionError(f"an amend of {oid} was not taken {TRIES_MAX} times")

    async def end(self, oid: str) -> None:
        """Cancel until the order has ended."""
        for _ in range(TRIES_MAX):
            status = self.client.statuses.get(oid)
            if status is not None and status.is_terminal:
                return
            try:
                await self.client.cancel(oid)
            except OrderRejected as error:
                say(not_taken=oid, reason=error.reason)
            with trio.move_on_after(3):
                while not (now := self.client.statuses.get(oid)) or not now.is_terminal:
                    await self.news.wait()
                return
        raise AssertionError(f"{oid} did not end")


def price_at(client: OrderClient, last: Decimal, percent: str) -> Decimal:
    """Return the price `percent` away from the last one, on the market's grid."""
    return snap(last * (1 + Decimal(percent) / 100), client.mkt.price_tick)


def is_closed(status: Status) -> bool:
    return status.resp == "closed"


def is_held(status: Status) -> bool:
    return status.resp == "dark_open"


async def trade(bot: Bot, last: Decimal) -> None:
    """Place one order of each kind and follow it to where it must come."""
    client = bot.client

    def order(action: str, percent: str, **fields: Any) -> Order:
        return client.order(action, price_at(client, last, percent), SIZE, **fields)

    await bot.place("taker", lambda: order("buy", "1"), is_closed)
    resting = await bot.place("resting", lambda: order("buy", "-5"), lambda s: s.state == "open")
    moved = price_at(client, last, "-6")
    await bot.amend(resting.oid, lambda s: s.state == "open" and s.req.price == moved, price=moved)
    await bot.end(resting.oid)
    await bot.place("dark", lambda: order("buy", "20", exec_mode="dark"), is_held)
    await bot.place(
        "alert",
        lambda: client.order("alert", price_at(client, last, "-20"), 0, exec_mode="live"),
        is_held,
    )
    # The trigger stands where the market is: its next trade on that side fires it.
    await bot.place("fired", lambda: order("buy", "0.5", exec_mode="dark", order_type="stop",
                    trigger_price=price_at(client, last, "-1")), is_closed)  # fmt: skip
    entry = await bot.place(
        "bracket",
        lambda: order(
            "buy", "1", take_profit=price_at(client, last, "15"),
            stop_loss=price_at(client, last, "-15"),
        ),
        is_closed,
    )  # fmt: skip
    with trio.fail_after(STEP_S):
        while len(legs := legs_of(client, entry.oid)) < 2:
            await bot.news.wait()
    bot.done |= {f"leg{number}": oid for number, oid in enumerate(sorted(legs))}


def legs_of(client: OrderClient, entry_oid: str) -> list[str]:
    """Return the oids of the legs that hold the whole size of an entry."""
    return [
        oid
        for oid, status in client.statuses.items()
        if status.req is not None
        and status.req.parent == entry_oid
        and status.resp == "dark_open"
        and status.req.size == SIZE
    ]


async def main(fqme: str, last: str, is_finish: bool) -> None:
    """Trade once, or end what goes on."""
    async with (
        open_piker_runtime("bot"),
        open_ems(fqme) as (client, trades, _positions, _accounts, dialogs),
        trio.open_nursery() as nursery,
    ):
        bot = Bot(client, trades)
        say(attached=sorted(dialogs), fills={oid: d["fills"] for oid, d in dialogs.items()})
        nursery.start_soon(bot.listen)
        if is_finish:
            for oid in list(dialogs):
                await bot.end(oid)
        else:
            await trade(bot, Decimal(last))
        bot.drain()
        say(done=bot.done, reattached=client.reattached)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], sys.argv[2], "--finish" in sys.argv)
