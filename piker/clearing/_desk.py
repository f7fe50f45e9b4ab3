"""
Who stands around an account: its market, its clients, its broker, as the keeper needs them.

The router is the one `Desk`; a session is an `Asker`, a market watch a `Market`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from msgspec.structs import replace

from piker.clearing import _book_events as on
from piker.clearing._book import status_of
from piker.clearing._dialog import Dialog
from piker.clearing._messages import (
    BrokerdPosition,
    Cancel,
    ClientMsg,
    Mode,
    Order,
    Requested,
    Status,
)

if TYPE_CHECKING:
    from piker.clearing._keeper import AccountKeeper


class Market(Protocol):
    """A watched market, as the gate sees it."""

    @property
    def mkt(self) -> Any: ...

    @property
    def last(self) -> Decimal | None: ...

    def is_stale(self) -> str: ...


class Desk(Protocol):
    """Who listens to an account: its clients, and the broker's relay."""

    def tell(self, keeper: AccountKeeper, status: Status) -> None:
        """Tell the clients of the market."""

    def hold(self, position: BrokerdPosition) -> None:
        """Tell every client of every market."""

    def send(self, keeper: AccountKeeper, output: on.Send | on.SendCancel | on.Withdraw) -> None:
        """Hand a request to the broker's relay, or take it back."""

    def changed(self, keeper: AccountKeeper) -> None:
        """Say that the account's gate has opened or closed, or what it holds has changed."""

    def lose_broker(self, keeper: AccountKeeper, cause: str) -> None:
        """End the dialog with the paper engine: what it does can no longer be recorded."""

    def mended(self, keeper: AccountKeeper) -> None:
        """Go on with the paper engine: what it does can be recorded again."""

    def account_reset(self, keeper: AccountKeeper) -> None:
        """Have the paper engine begin anew, with the account as it is now."""

    def last_of(self, fqme: str) -> Decimal | None:
        """Return the last price of a market that is watched."""


class Asker(Protocol):
    """A client that gets a refusal of its own."""

    def refuse(self, status: Status) -> None:
        """Tell this client alone."""


def refusal(
    request: ClientMsg,
    known: Dialog | None,
    reason: str,
    time_ns: int,
    account: str = "",
    mode: Mode = "paper",
) -> Status:
    """Return the answer to a request that was not taken: nothing has changed."""
    what: Requested = "cancel" if isinstance(request, Cancel) else "amend" if known else ""
    if known is not None:
        now = status_of(known, time_ns)
        return replace(now, refused=what, reason=reason)
    order = request if isinstance(request, Order) else None
    return Status(
        time_ns=time_ns,
        oid=request.oid,
        resp="error",
        req=order,
        src="emsd",
        account=order.account if order else account,
        mode=mode,
        reason=reason,
        refused=what,
        client_ref=order.client_ref if order else "",
        state="error",
    )
