"""What a paper market is asked to do with our orders, and what comes back; all in ticks."""

from __future__ import annotations

from hashlib import blake2b
from typing import Final

import msgspec

from piker.clearing._queue import Resting


def fill_tid(reqid: str, entered_ns: int, number: int) -> str:
    """Return the trade id of an order's fill `number` (from 1): 16 hex characters."""
    return blake2b(f"{reqid}:{entered_ns}:{number}".encode(), digest_size=8).hexdigest()


# ---- what comes back


class Output(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Base of what happened to an order of ours."""

    key: str
    time_ns: int


class Opened(Output, frozen=True, kw_only=True):
    """Request `number` is in force."""

    number: int


class Fired(Output, frozen=True, kw_only=True):
    """The trigger of a stop or take-profit was true."""

    gapped: bool


class Traded(Output, frozen=True, kw_only=True):
    """It filled by `size` at `price`."""

    price: int
    size: int
    is_maker: bool
    gapped: bool = False


class Closed(Output, frozen=True, kw_only=True):
    """It is filled whole."""


class Ended(Output, frozen=True, kw_only=True):
    """It is canceled; `filled` stays, `remaining` will not trade."""

    filled: int
    remaining: int
    reason: str = ""


class Refused(Output, frozen=True, kw_only=True):
    """A request had no effect."""

    request: str  # entry, amend or cancel
    number: int
    reason: str


NOTHING: Final[tuple[Output, ...]] = ()


class Change(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """New values of a resting order, all of them."""

    key: str
    number: int
    price: int
    size: int
    trigger: int = 0
    expire_ns: int = 0


class Withdrawal(msgspec.Struct, frozen=True, gc=False):
    """A request to cancel."""

    key: str


Request = Resting | Change | Withdrawal
