"""
What the clients of an account have been told: the newest word of every order, and of what is held.

Only what is durable is told, so this is also what may be relied on. Those who come later are told
from here, and so is what a full disk had kept from being said.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from logging import DEBUG, INFO
from typing import Any

from msgspec.structs import replace

from piker.clearing._account_book import AccountBook
from piker.clearing._book import status_of
from piker.clearing._dialog import Dialog
from piker.clearing._messages import BrokerdPosition, Status
from piker.log import get_logger

log = get_logger(__name__)

SAID_MAX = 256  # lines that the log may be behind


class Told:
    """The words of the account `name`: `keep` each before it is said."""

    def __init__(self, name: str) -> None:
        self.orders: dict[str, Status] = {}
        self.fills: dict[str, int] = {}  # how many of each order
        self._positions: dict[str, BrokerdPosition] = {}
        self._name = name
        self._said: list[Status] = []  # and not in the log yet

    def take_over(self, book: AccountBook) -> None:
        """Begin with what a journal has led to: all of it was told, or is told at attaching."""
        for dialog in book.dialogs:
            self.orders[dialog.oid] = status_of(dialog, dialog.told_ns)
            self.fills[dialog.oid] = len(dialog.fills)
        for position in book.held_positions():
            self._positions[position.symbol] = position

    def keep(self, status: Status) -> None:
        """Keep a word for those who come later."""
        if status.resp == "fill":
            self.fills[status.oid] = self.fills.get(status.oid, 0) + 1
            kept = replace(status, resp=_resp_of(status.state), brokerd_msg={})
        else:
            kept = status
        if kept.refused:
            kept = replace(kept, refused="", reason="")
        self.orders[status.oid] = kept
        self._said.append(status)
        if len(self._said) >= SAID_MAX:
            self.write_log()

    def keep_position(self, position: BrokerdPosition) -> None:
        """Keep what is held of a market now."""
        self._positions[position.symbol] = position

    def is_durable(self, dialog: Dialog) -> bool:
        """Whether an order's newest request is on the disk."""
        told = self.orders.get(dialog.oid)
        return (
            told is not None
            and told.revision >= dialog.sent_number
            and (told.state != "dark_open" or dialog.state == "dark_open")
        )

    def positions(self) -> list[BrokerdPosition]:
        """Return what clients know to be held."""
        return [each for each in self._positions.values() if each.size]

    def forget(self, known: Container[str]) -> None:
        """Drop the words of orders that are not `known` any more."""
        for oid in [oid for oid in self.orders if oid not in known]:
            del self.orders[oid]
            self.fills.pop(oid, None)

    def missing(self, book: AccountBook) -> Iterator[Status | BrokerdPosition]:
        """Yield what has happened in `book` and was not told, in the order of the orders."""
        for dialog in book.dialogs:
            now = status_of(dialog, dialog.told_ns)
            told = self.orders.get(dialog.oid)
            for fill in dialog.fills[self.fills.get(dialog.oid, 0) :]:
                yield replace(now, resp="fill", brokerd_msg=fill.to_dict())
            if told is None or (told.state, told.revision) != (now.state, now.revision):
                yield now
        for position in book.held_positions():
            if self._positions.get(position.symbol) != position:
                yield position

    def write_log(self) -> None:
        """Write down what was said since the last time; for when nobody waits."""
        said, self._said = self._said, []
        for status in said:
            log.log(
                DEBUG if status.resp == "pending" else INFO,
                "order %s oid=%s account=%s revision=%d%s",
                status.resp, status.oid, self._name, status.revision,
                f" {status.reason}" if status.reason else "",
            )  # fmt: skip


def _resp_of(state: str) -> Any:
    """Return the `resp` of an order that was filled, by its state."""
    if state in ("closed", "canceled", "error"):
        return state
    return "pending" if state == "amend_in_flight" else "open"
