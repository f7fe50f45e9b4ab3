"""
Order routing: from a client's request to the venue's word and back, never lost, never doubled.

Reading order: `_messages` (what travels), `_ids` (how an order is found again at a venue),
`_dialog` (what is known of an order), `_book_events` (what can happen to it), `_book` (what that
does: the one transition table), `_dialogs` (all orders of a daemon).

Names load on first use (PEP 562), since this package spans layers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from piker.clearing._messages import (
        TERMINAL_RESPS,
        Action,
        BrokerdFill,
        BrokerdPosition,
        Cancel,
        Mode,
        Order,
        OrderType,
        Resp,
        Status,
        TimeInForce,
        exact,
        parse_trail,
    )

__all__ = [
    "TERMINAL_RESPS",
    "Action",
    "BrokerdFill",
    "BrokerdPosition",
    "Cancel",
    "Mode",
    "Order",
    "OrderType",
    "Resp",
    "Status",
    "TimeInForce",
    "exact",
    "parse_trail",
]

_HOMES = {
    "TERMINAL_RESPS": "piker.clearing._messages",
    "Action": "piker.clearing._messages",
    "BrokerdFill": "piker.clearing._messages",
    "BrokerdPosition": "piker.clearing._messages",
    "Cancel": "piker.clearing._messages",
    "Mode": "piker.clearing._messages",
    "Order": "piker.clearing._messages",
    "OrderType": "piker.clearing._messages",
    "Resp": "piker.clearing._messages",
    "Status": "piker.clearing._messages",
    "TimeInForce": "piker.clearing._messages",
    "exact": "piker.clearing._messages",
    "parse_trail": "piker.clearing._messages",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
