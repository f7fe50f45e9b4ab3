"""
Order routing: from a client's request to the venue's word and back, never lost, never doubled.

Reading order: `_messages` (what travels), `_ids` (how an order is found again at a venue),
`_dialog` (what is known of an order), `_book_events` (what can happen to it), `_book` (what that
does: the one transition table), `_dialogs` (all orders of an account), `_triggers`, `_brackets` and
`_risk` (what holds, joins and refuses orders), `_records` and `_account_book` (what the journal
holds), `_journal_view` (the same, read by others), `_world` (what is outside), `_desk`,
`_commit_line`, `_ledger_desk`, `_watch_log` and `_keeper` (one account at work), `_relay`,
`_market_watch`, `_session`, `_router` (the daemon's heart), `_order_tables` and `_client`; actors
appear only in `_actor_world`, `_ems`, `_ems_client` and `_paper_engine`.

Names load on first use (PEP 562), since this package spans layers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from piker.clearing._client import OrderClient
    from piker.clearing._ems import open_brokerd_dialog
    from piker.clearing._ems_client import (
        OrdersView,
        arm,
        cancel_all,
        open_ems,
        order_book,
        reset_paper,
        stop_all,
        sync_ledger,
    )
    from piker.clearing._journal_view import JournalView, import_record, read_journal
    from piker.clearing._messages import (
        TERMINAL_RESPS,
        BrokerdFill,
        BrokerdPosition,
        Cancel,
        Order,
        Status,
        exact,
        parse_trail,
    )
    from piker.clearing._order_tables import TradesStream

__all__ = [
    "TERMINAL_RESPS",
    "BrokerdFill",
    "BrokerdPosition",
    "Cancel",
    "JournalView",
    "Order",
    "OrderClient",
    "OrdersView",
    "Status",
    "TradesStream",
    "arm",
    "cancel_all",
    "exact",
    "import_record",
    "open_brokerd_dialog",
    "open_ems",
    "order_book",
    "parse_trail",
    "read_journal",
    "reset_paper",
    "stop_all",
    "sync_ledger",
]

_HOMES = {
    **dict.fromkeys(
        (
            "TERMINAL_RESPS", "BrokerdFill", "BrokerdPosition", "Cancel", "Order", "Status",
            "exact", "parse_trail",
        ),
        "piker.clearing._messages",
    ),
    **dict.fromkeys(
        ("JournalView", "import_record", "read_journal"), "piker.clearing._journal_view"
    ),
    "OrderClient": "piker.clearing._client",
    "TradesStream": "piker.clearing._order_tables",
    **dict.fromkeys(
        (
            "OrdersView", "arm", "cancel_all", "open_ems", "order_book", "reset_paper",
            "stop_all", "sync_ledger",
        ),
        "piker.clearing._ems_client",
    ),
    "open_brokerd_dialog": "piker.clearing._ems",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
