"""
What an order client knows: the newest word of every order, fills, positions, and the news.

Plain tables, kept from what `emsd` says; no dialog and no waiting but for news. After a lost dialog
`resync` takes where things stand and puts what was missed among the news, once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import trio
from msgspec.structs import replace

from piker.clearing._messages import (
    BrokerdFill,
    BrokerdPosition,
    Mode,
    Order,
    Requested,
    Status,
    parse_reply,
)

NEWS_MAX = 4096  # statuses that the caller has not read; then the oldest are let go, counted
ENDED_MAX = 4096  # orders that are over and still known; older ones are forgotten
NOT_TAKEN = "was not taken: emsd was restarted before it was recorded"

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
        await trio.lowlevel.checkpoint()
        while not self._news:
            self._work = trio.Event()
            await self._work.wait()
        return self._news.popleft()

    async def receive(self) -> News:
        """Return what was said next."""
        return await self.__anext__()

    def receive_nowait(self) -> News:
        """Return what was said next; raises `trio.WouldBlock` when there is nothing."""
        if not self._news:
            raise trio.WouldBlock
        return self._news.popleft()


class OrderTables:
    """Everything that one client was told; `trades` has it as it came."""

    def __init__(self, mode: Mode, now_ns: Callable[[], int]) -> None:
        self.mode: Mode = mode
        self.statuses: dict[str, Status] = {}  # the newest word of every order seen
        self.fills: dict[str, list[BrokerdFill]] = {}
        self.positions: Held = {}
        self.dialogs: dict[str, dict[str, Any]] = {}  # orders that go on
        self.trades = TradesStream()
        self._now_ns = now_ns
        self._sent_orders: dict[str, Order] = {}
        self._amends: dict[str, int] = {}  # not seen yet, that the next is based on; by oid
        # what has left and was not answered, in order, and how often; by oid, never empty
        self._asked: dict[str, dict[Requested, int]] = {}
        self._ended: dict[str, None] = {}
        self._was_attached = False

    def unsettled(self) -> list[str]:
        """Return the orders whose end, or whose answer, was not seen."""
        open_ones = [oid for oid, status in self.statuses.items() if not status.is_terminal]
        return list(dict.fromkeys([*self._asked, *open_ones]))

    def hear(self, message: News) -> bool:
        """Keep what was said, and put it among the news; False when it was known."""
        if isinstance(message, BrokerdPosition):
            self._take_position(message)
        elif not self._take_status(message):
            return False
        self.trades.put(message)
        return True

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
        seen = old.revision if old is not None and old.revision else 1
        self._take_answer(status, max(0, status.revision - seen))
        if status.resp == "error" and status.refused:
            return True  # about an order that nobody knows
        kept = replace(status, refused="", reason="") if status.refused else status
        self.statuses[oid] = kept
        if kept.is_terminal:
            self.dialogs.pop(oid, None)
            self._amends.pop(oid, None)
            self._end(oid)
        else:
            told = kept.to_dict()
            told["fills"] = [fill.to_dict() for fill in self.fills.get(oid, ())]
            self.dialogs[oid] = told
        return True

    def note_asked(self, oid: str, what: Requested) -> None:
        """Note a request that leaves: it is not answered yet."""
        asked = self._asked.setdefault(oid, {})
        asked[what] = asked.get(what, 0) + 1

    def _take_answer(self, status: Status, amends: int) -> None:
        """Take the requests for answered that a status answers; it has `amends` more in it."""
        oid, asked = status.oid, self._asked.get(status.oid, {})
        if status.refused == "amend":
            amends = 1
            self._amends.pop(oid, None)  # those behind it are based on it
            if status.req is not None:
                self._sent_orders[oid] = status.req
        elif oid in self._amends:
            self._amends[oid] = max(0, self._amends[oid] - amends)
        if "amend" in asked:
            asked["amend"] -= amends
            if asked["amend"] <= 0:
                del asked["amend"]
        if not status.refused:
            asked.pop("entry", None)
        if status.refused == "cancel" or status.cancel_called:
            asked.pop("cancel", None)
        if not asked or status.is_terminal:
            self._asked.pop(oid, None)

    def _end(self, oid: str) -> None:
        """Keep the order as one that is over, and forget the oldest of too many."""
        self._ended[oid] = None
        while len(self._ended) > ENDED_MAX:
            oldest = next(iter(self._ended))
            del self._ended[oldest]
            self._sent_orders.pop(oldest, None)
            self.statuses.pop(oldest, None)
            self.fills.pop(oldest, None)

    def disown(self, oid: str, reason: str, what: Requested) -> None:
        """Tell the caller that a request was not taken; nothing of it ever left `emsd`."""
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

    def resync(self, pages: list[dict[str, Any]]) -> None:
        """Take where things stand; after the first time, tell what was missed."""
        is_again, self._was_attached = self._was_attached, True
        fills: dict[str, list[dict[str, Any]]] = {}
        for page in pages:
            for oid, maps in page["fills"].items():
                fills.setdefault(oid, []).extend(maps)
        told = [parse_reply(raw) for page in pages for raw in page["dialogs"]]
        positions = [parse_reply(raw) for page in pages for raw in page["positions"]]
        self._resync_positions([p for p in positions if isinstance(p, BrokerdPosition)], is_again)
        for status in told:
            assert isinstance(status, Status)
            self._resync_order(status, fills.get(status.oid, []), is_again)
        seen = {status.oid for status in told if isinstance(status, Status)}
        for oid in list(self._asked):
            self._disown_asked(oid)
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
        is_again: bool,
    ) -> None:
        """Take where one order stands: its missed fills first, then its state."""
        oid, old = status.oid, self.statuses.get(status.oid)
        for raw in fills:
            fill = replace(status, resp="fill", brokerd_msg=raw)
            if self._take_status(fill) and is_again:
                self.trades.put(fill)
        is_news = old is None or (old.state, old.revision) != (status.state, status.revision)
        self._take_status(status)
        if is_again and is_news:
            self.trades.put(status)
        self._disown_asked(oid)

    def _disown_asked(self, oid: str) -> None:
        """Tell the caller that what was asked of an order and is not answered was not taken."""
        asked = self._asked.pop(oid, {})
        if "entry" in asked:
            asked = {"entry": 1}  # without it there is nothing to amend or to cancel
        for what, count in asked.items():
            for _ in range(count):
                self.disown(oid, NOT_TAKEN, what)
