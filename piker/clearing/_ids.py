"""
Client order ids: a pure function of the request, so that a lost answer can be looked up.

The id finds an order; it does not stop a second one: venues refuse a repeated id only while the
first order is open. How each venue wants the id written is one table, `VENUE_IDS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b
from uuid import UUID

import msgspec


def client_order_id(account: str, oid: str, number: int) -> str:
    """
    Return the id of request `number` (entry 1, amends above) of dialog `oid`: 32 hex characters.

    blake2b-128 over the three parts, each with its length before it, so that no two requests
    spell the same text.
    """
    digits = str(number)
    text = f"{len(account)}:{account}{len(oid)}:{oid}{len(digits)}:{digits}"
    return blake2b(text.encode(), digest_size=16).hexdigest()


class VenueId(msgspec.Struct, frozen=True):
    """How a venue takes our id: in which field, in which form, and what it accepts there."""

    field: str
    render: Callable[[str], str]
    pattern: re.Pattern[str]  # the venue's own rule for length and alphabet


def _as_is(plain: str) -> str:
    return plain


def _as_uuid(plain: str) -> str:
    return str(UUID(hex=plain))


_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

VENUE_IDS = {
    "binance": VenueId("newClientOrderId", _as_is, re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")),
    "kraken": VenueId("cl_ord_id", _as_uuid, _UUID),
    "deribit": VenueId("label", _as_is, re.compile(r"[ -~]{1,64}")),
    "kucoin": VenueId("clientOid", _as_is, re.compile(r"[A-Za-z0-9_-]{1,40}")),
    "robinhood": VenueId("ref_id", _as_uuid, _UUID),
    # TWS orders are numbered by an `orderId` of their own, which the journal hands out.
    "ib": VenueId("orderRef", _as_is, re.compile(r"[ -~]{1,128}")),
    "paper": VenueId("client_id", _as_is, re.compile(r"[0-9a-f]{32}")),
}


def render_id(broker: str, plain: str) -> str:
    """Return our id as `broker` takes it; a broker that is not in the table gets it as it is."""
    venue = VENUE_IDS.get(broker)
    return venue.render(plain) if venue else plain


def plain_id(rendered: str) -> str | None:
    """Return our id from a venue's rendering of it, or None when it is not one of ours."""
    plain = rendered.replace("-", "").lower()
    return plain if re.fullmatch(r"[0-9a-f]{32}", plain) else None
