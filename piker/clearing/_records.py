"""
What an order journal holds: the inputs that changed an account's state, and snapshots of it.

A record is an input as it was taken, in msgpack, named by its field `kind`; nothing is written
that follows from the inputs before it. Replaying them through `AccountBook.apply` gives the same
state, byte for byte. A snapshot is the whole state in parts that each fit a record.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from piker.accounting import Position, Transaction
from piker.clearing import _book_events as on
from piker.clearing._dialog import Dialog
from piker.clearing._messages import BrokerdFill, BrokerMsg, ClientMsg
from piker.errors import BadPayload

Left = tuple[tuple[str, int], ...]
PART_ITEMS = 64  # dialogs with their fills, or transactions, in one part of a snapshot


class Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    """
    Base of every input.

    `left` are the requests `(oid, number)` that left for the broker since the record before it;
    they count first.
    """

    time_ns: int
    left: Left = ()


class Asked(Record, frozen=True, kw_only=True, tag="asked"):
    """
    A client's request that was accepted.

    `last` is the last trade's price at that time, which fixes a trigger's side; `mkt` describes
    the market, with its first order and when it has changed.
    """

    request: ClientMsg
    last: Decimal | None = None
    mkt: dict[str, Any] | None = None


class Told(Record, frozen=True, kw_only=True, tag="told"):
    """A broker's word that changed something."""

    message: BrokerMsg


class Happened(Record, frozen=True, kw_only=True, tag="happened"):
    """What became of an order by us: a trigger, a deadline, a proof, a refusal."""

    oid: str
    event: on.Triggered | on.NeverSent | on.TimedOut | on.Found | on.Absent | on.Refused


class Trailed(Record, frozen=True, kw_only=True, tag="trailed"):
    """The best prices that trailing triggers have seen."""

    bests: dict[str, Decimal]


class Stopped(Record, frozen=True, kw_only=True, tag="stopped"):
    """The kill switch was thrown: no new risk until it is armed again."""

    reason: str


class Armed(Record, frozen=True, kw_only=True, tag="armed"):
    """Trading is allowed again."""


class Reset(Record, frozen=True, kw_only=True, tag="reset"):
    """A paper account begins anew: no positions, `balance` of each quote asset."""

    balance: Decimal


class Imported(Record, frozen=True, kw_only=True, tag="imported"):
    """Fills from a venue's history or a file."""

    transactions: tuple[Transaction, ...]
    source: str


class Part(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    """Base of a snapshot's parts; the part at 0 begins it."""

    at: int


class StatePart(Part, frozen=True, kw_only=True, tag="state"):
    """All that is not listed in the other parts."""

    markets: dict[str, dict[str, Any]]
    cash: dict[str, Decimal]
    start_balance: Decimal | None
    day: int
    day_result: dict[str, Decimal]
    stopped: str
    stopped_ns: int
    since_ns: int
    last_ns: int


class PositionsPart(Part, frozen=True, kw_only=True, tag="positions"):
    """What is held of each market."""

    positions: tuple[Position, ...]


class DialogsPart(Part, frozen=True, kw_only=True, tag="dialogs"):
    """Orders, ended ones included."""

    dialogs: tuple[Dialog, ...]


class FillsPart(Part, frozen=True, kw_only=True, tag="fills"):
    """More fills of one order than stand with it."""

    oid: str
    fills: tuple[BrokerdFill, ...]


class UnsyncedPart(Part, frozen=True, kw_only=True, tag="unsynced"):
    """Transactions that may not be in the ledger yet."""

    transactions: tuple[Transaction, ...]


Input = Asked | Told | Happened | Trailed | Stopped | Armed | Reset | Imported
AnyPart = StatePart | PositionsPart | DialogsPart | FillsPart | UnsyncedPart

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Input | AnyPart)


def encode(record: Input | AnyPart) -> bytes:
    """Return a record's bytes."""
    return _encoder.encode(record)


def decode(payload: bytes) -> Input | AnyPart:
    """
    Return the record that `encode` wrote.

    Raises:
      BadPayload: another version wrote it.
    """
    try:
        record: Input | AnyPart = _decoder.decode(payload)
    except (msgspec.DecodeError, ValueError) as err:
        raise BadPayload(f"journal: a record cannot be read ({err})", payload) from None
    return record
