"""What a chart needs of the order path: the client of one market, the switches, the ledgers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from piker.accounting import Transaction
from piker.clearing import BrokerdFill, BrokerdPosition, Order, Status
from piker.ui.order_messages import Mode

Said = Status | BrokerdPosition


class Client(Protocol):
    """What is used of the order client."""

    state: str
    cause: str
    held: int
    not_watched: Mapping[str, int] | None
    fills: Mapping[str, list[BrokerdFill]]

    async def send(self, msg: Order) -> None:
        """Hand an order, or an amend, to the EMS."""

    async def cancel(self, uuid: str) -> None:
        """Ask to cancel an order."""

    async def wait_state_change(self) -> None:
        """Return when `state`, `cause` or `held` may have changed."""


Opened = tuple[Client, AsyncIterator[Said], Mapping[Any, Any], list[str], Mapping[str, Any]]
OpenEms = Callable[[str, Mode], AbstractAsyncContextManager[Opened]]
Load = Callable[[str, str], Iterable[Transaction]]
Switch = Callable[[], Awaitable[Any]]


class Ems(msgspec.Struct, frozen=True):
    """The calls of the order path that a chart needs; the tests have their own."""

    open: OpenEms
    stop_all: Switch
    arm: Switch
    read_ledger: Load  # blocks


def real_ems(loglevel: str | None) -> Ems:
    """Return the order path of the run."""
    # loaded when first used: a chart that only looks needs none of it
    from piker import accounting, clearing

    def open_client(fqme: str, mode: Mode) -> Any:
        return clearing.open_ems(fqme, mode=mode, loglevel=loglevel or "error")

    def read_ledger(broker: str, account: str) -> Any:
        return accounting.read_ledger(broker, account)

    return Ems(open_client, lambda: clearing.stop_all(), lambda: clearing.arm(), read_ledger)
