"""
The way from one market's order side to `emsd` and back, in one mode.

One task that holds the EMS client, hands over what pages ask in the order they asked it, and
passes on what is said. A lost `emsd` is the client's own business, which attaches again by itself;
a client that cannot be opened at all is tried again, unless the EMS has refused it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import trio

from piker import clock
from piker.clearing import BrokerdPosition, Status
from piker.errors import ConnectionLost, PikerError, ServiceUnavailable, leaves
from piker.log import get_logger
from piker.ui.order_market import MarketOrders, mode_of
from piker.ui.order_messages import Mode
from piker.ui.order_path import Client, OpenEms, Said

log = get_logger(__name__)

QUEUE_MAX: Final = 256  # requests that wait for the EMS; a hand is slower by far
AWAY: Final = "emsd is away, and attached again once it is back: your orders are in its journal"
_ENDS = ("from_ns", "to_ns")
_RETRY_MIN_S, _RETRY_MAX_S = 0.2, 5.0

Work = Callable[["Client"], Awaitable[None]]


class OrderLink:
    """One mode of one market; `ask` puts work in its queue."""

    def __init__(
        self, market: MarketOrders, mode: Mode, open_ems: OpenEms,
        on_mismatch: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._market = market
        self._mode = mode
        self._open = open_ems
        self._on_mismatch = on_mismatch
        self._put, self._queue = trio.open_memory_channel[tuple[Work, str]](QUEUE_MAX)
        self.is_running = False

    def ask(self, work: Work, oid: str = "") -> None:
        """
        Queue work for the client; `oid` is the entry in it, whose line goes if it fails.

        Raises:
          ValueError: the queue is full.
        """
        try:
            self._put.send_nowait((work, oid))
        except trio.WouldBlock:
            raise ValueError(f"{QUEUE_MAX} requests wait for emsd already") from None

    async def run(self) -> None:
        """Hold the client until cancelled, or until the EMS refuses this mode."""
        self.is_running, delay_s, was_attached = True, _RETRY_MIN_S, False
        try:
            while True:
                self._market.set_state(self._mode, "connecting", "Starting emsd…")
                try:
                    async with self._open(self._market.mkt.fqme, self._mode) as opened:
                        delay_s, was_attached = _RETRY_MIN_S, True
                        await self._hold(*opened)
                    cause = "emsd has left"
                except* PikerError as group:
                    err = next(leaves(group))
                    cause = str(err)
                    is_passing = isinstance(err, ConnectionLost | ServiceUnavailable)
                    if not is_passing:
                        delay_s = 0.0
                self._drop_queue(cause)
                self._market.give_up(self._mode, f"no word from emsd: {cause}")
                if not delay_s:
                    self._market.set_state(self._mode, "refused", cause)
                    return
                log.warning("order link lost market=%s cause=%s", self._market.mkt.fqme, cause)
                # what could not even be started says why
                text, was_attached = (AWAY if was_attached else cause), False
                self._market.set_state(self._mode, "lost", text)
                await trio.sleep(clock.jitter(delay_s))
                delay_s = min(delay_s * 1.6, _RETRY_MAX_S)
        finally:
            self.is_running = False

    async def _hold(
        self, client: Client, said: AsyncIterator[Said], positions: Mapping[Any, Any],
        accounts: list[str], dialogs: Mapping[str, Any],
    ) -> None:  # fmt: skip
        for name in accounts:
            if name not in self._market.accounts:
                self._market.accounts.append(name)
        self._take_all(client, positions, dialogs)
        self._tell_state(client)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve_queue, client)
            nursery.start_soon(self._watch_state, client, positions, dialogs)
            async for message in said:
                self._take(message)
            nursery.cancel_scope.cancel()

    def _take_all(
        self, client: Client, positions: Mapping[Any, Any], dialogs: Mapping[str, Any]
    ) -> None:
        held = [
            msgspec.convert(raw, BrokerdPosition)
            for by_market in positions.values()
            for raw in by_market.values()
        ]
        statuses = [_status(raw) for raw in dialogs.values()]
        self._market.take_all(self._mode, statuses, client.fills, held)
        for account in self._market.accounts:
            if mode_of(account) == self._mode and not self._market.adds_up(account):
                self._on_mismatch(account)

    def _take(self, message: Said) -> None:
        match message:
            case Status():
                self._market.take_status(message)
            case BrokerdPosition(symbol=symbol) if symbol == self._market.mkt.fqme:
                self._market.take_position(message)
                if not self._market.adds_up(message.account):
                    self._on_mismatch(message.account)

    async def _watch_state(
        self, client: Client, positions: Mapping[Any, Any], dialogs: Mapping[str, Any]
    ) -> None:
        """Say how the EMS is; after a lost one everything is read again."""
        before = client.state
        while True:
            await client.wait_state_change()
            if before == "reconnecting" and client.state != before:
                self._take_all(client, positions, dialogs)
            before = client.state
            self._tell_state(client)

    def _tell_state(self, client: Client) -> None:
        is_lost = client.state == "reconnecting"
        self._market.set_state(
            self._mode,
            "lost" if is_lost else "ready",
            AWAY if is_lost else "" if client.state == "stopped" else client.cause,
            killed=client.cause if client.state == "stopped" else "",
            held=client.held,
            note=_unwatched(client.not_watched),
        )

    async def _serve_queue(self, client: Client) -> None:
        async for work, oid in self._queue:
            try:
                await work(client)
            except PikerError as err:
                log.warning("request not handed over oid=%s cause=%s", oid, err)
                if oid:
                    self._market.drop(oid, self._mode, str(err))

    def _drop_queue(self, cause: str) -> None:
        """Tell that what still waits was not handed over."""
        while True:
            try:
                _, oid = self._queue.receive_nowait()
            except trio.WouldBlock:
                return
            if oid:
                self._market.drop(oid, self._mode, f"not sent: {cause}")


def _unwatched(gap: Mapping[str, int] | None) -> str:
    """Return what is said of orders that nobody watched for a while."""
    if not gap or not gap["held"]:
        return ""
    at = [f"{datetime.fromtimestamp(gap[key] / clock.NS, UTC):%d %b %H:%M:%S}" for key in _ENDS]
    orders = "1 order was" if gap["held"] == 1 else f"{gap['held']} orders were"
    return f"{orders} not watched from {at[0]} to {at[1]} UTC"


def _status(raw: Mapping[str, Any]) -> Status:
    """Return a dialog of the handshake; its list of past fills is the client's."""
    fields = {key: value for key, value in raw.items() if key != "fills"}
    return msgspec.convert(fields, Status)
