"""
Accounting: ledgers of transactions, and the positions, lots and profits folded from them.

The kernels (`_ledger`, `_position`, `_lots`, `_pnl`, `_alloc`, `_tables`, `_audit`) are pure:
records in, records out. `files` and what it re-exports read and write ledgers.
Names load on first use (PEP 562), since this package spans layers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from piker.accounting._account import (
        Account,
        load_account,
        load_account_from_ledger,
        open_account,
    )
    from piker.accounting._alloc import Allocator, OrderSize, mk_allocator
    from piker.accounting._ledger import Transaction, iter_by_dt, order_ledger
    from piker.accounting._lots import Gain, Lot, Lots, fold_lots
    from piker.accounting._pnl import humanize, pnl, position_pnl, puterize
    from piker.accounting._position import Position, fold, minimise, ppu
    from piker.accounting.files import (
        LedgerWriter,
        TransactionLedger,
        load_ledger,
        open_ledger_writer,
        open_trade_ledger,
        read_ledger,
    )
    from piker.model.market import Asset, MktPair, dec_digits, digits_to_dec, unpack_fqme

__all__ = [
    "Account",
    "Allocator",
    "Asset",
    "Gain",
    "LedgerWriter",
    "Lot",
    "Lots",
    "MktPair",
    "OrderSize",
    "Position",
    "Transaction",
    "TransactionLedger",
    "dec_digits",
    "digits_to_dec",
    "fold",
    "fold_lots",
    "humanize",
    "iter_by_dt",
    "load_account",
    "load_account_from_ledger",
    "load_ledger",
    "minimise",
    "mk_allocator",
    "open_account",
    "open_ledger_writer",
    "open_trade_ledger",
    "order_ledger",
    "pnl",
    "position_pnl",
    "ppu",
    "puterize",
    "read_ledger",
    "unpack_fqme",
]

_HOMES = {
    "Account": "piker.accounting._account",
    "load_account": "piker.accounting._account",
    "load_account_from_ledger": "piker.accounting._account",
    "open_account": "piker.accounting._account",
    "LedgerWriter": "piker.accounting.files",
    "TransactionLedger": "piker.accounting.files",
    "load_ledger": "piker.accounting.files",
    "open_ledger_writer": "piker.accounting.files",
    "open_trade_ledger": "piker.accounting.files",
    "read_ledger": "piker.accounting.files",
    "Allocator": "piker.accounting._alloc",
    "OrderSize": "piker.accounting._alloc",
    "mk_allocator": "piker.accounting._alloc",
    "Transaction": "piker.accounting._ledger",
    "iter_by_dt": "piker.accounting._ledger",
    "order_ledger": "piker.accounting._ledger",
    "Gain": "piker.accounting._lots",
    "Lot": "piker.accounting._lots",
    "Lots": "piker.accounting._lots",
    "fold_lots": "piker.accounting._lots",
    "humanize": "piker.accounting._pnl",
    "pnl": "piker.accounting._pnl",
    "position_pnl": "piker.accounting._pnl",
    "puterize": "piker.accounting._pnl",
    "Position": "piker.accounting._position",
    "fold": "piker.accounting._position",
    "minimise": "piker.accounting._position",
    "ppu": "piker.accounting._position",
    "Asset": "piker.model.market",
    "MktPair": "piker.model.market",
    "dec_digits": "piker.model.market",
    "digits_to_dec": "piker.model.market",
    "unpack_fqme": "piker.model.market",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
