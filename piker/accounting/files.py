"""
Ledger files as other code uses them: read one, change one, or be its writer.

    <broker's folder>/accounting/ledgers/trades_<broker>_<account>.toml
    <broker's folder>/accounting/account.<broker>.<account>.toml

The order journal is the truth; these are its projections. `open_ledger_writer` is how `emsd` and
`piker ledger` write them; `read_ledger` reads one at any time, also while it is written.
`TransactionLedger` is the same as a table that scripts may change. Reading order: `_tables` (the
text), `_audit` (file beside journal), `_writer`, `_account`.
"""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from piker.accounting import _tables, _tables_read
from piker.accounting._audit import Difference, Outcome, fields_of
from piker.accounting._ledger import Transaction, iter_by_dt
from piker.accounting._places import (
    LedgerLocked,
    account_name,
    accounting_dir,
    label_of,
    ledger_name,
    lock_path,
    replace_file,
)
from piker.accounting._tables import Normaliser, Tables, Unexplained
from piker.accounting._writer import LedgerWriter, open_ledger_writer
from piker.storage.disk import FolderDisk, Lock

__all__ = [
    "Difference",
    "LedgerLocked",
    "LedgerWriter",
    "Outcome",
    "TransactionLedger",
    "Unexplained",
    "account_name",
    "accounting_dir",
    "label_of",
    "ledger_path",
    "load_ledger",
    "open_ledger_writer",
    "open_trade_ledger",
    "read_ledger",
    "read_tables",
]


def ledger_path(broker: str, account: str, folder: Path | None = None) -> Path:
    """Return where an account's ledger is, whether or not it exists."""
    return (folder or accounting_dir(broker) / "ledgers") / ledger_name(broker, account)


def read_tables(
    broker: str,
    account: str,
    *,
    folder: Path | None = None,
    normalise: Normaliser | None = None,
) -> Tables:
    """
    Return the content of an account's ledger; empty without a file. Takes no lock.

    Raises:
      ConfigError: it is damaged or of another format; names file, line and key.
    """
    path = ledger_path(broker, account, folder)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Tables()
    if not data:
        return Tables()
    return _tables_read.parse(data, str(path), broker, account, normalise)


def read_ledger(
    broker: str,
    account: str,
    *,
    folder: Path | None = None,
    normalise: Normaliser | None = None,
) -> list[Transaction]:
    """Return the transactions of an account's ledger, oldest first; see `read_tables`."""
    return read_tables(broker, account, folder=folder, normalise=normalise).transactions()


def load_ledger(
    broker: str, acct: str, dirpath: Path | None = None
) -> tuple[dict[str, dict[str, Any]], Path]:
    """
    Return a ledger file's tables as they stand in it, and its path; made empty when missing.

    Raises:
      ConfigError: it is no TOML; names file and line.
    """
    path = ledger_path(broker, acct, dirpath)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
    text, _ = _tables_read.decode(path.read_bytes(), str(path))
    return _tables_read.load_toml(text, str(path)), path


class TransactionLedger(UserDict[str, dict[str, Any]]):
    """
    A ledger file's tables by name, to read and to change; `write_config` puts them back.

    `symcache` is kept for the normaliser of its owner; nothing here reads it.
    """

    def __init__(
        self,
        content: dict[str, dict[str, Any]],
        path: Path,
        broker: str,
        account: str,
        *,
        normalise: Normaliser | None = None,
        tx_sort: Callable[[Iterable[Transaction]], list[Transaction]] = iter_by_dt,
        symcache: Any = None,
    ) -> None:
        super().__init__(content)
        self.file_path = path
        self.broker = broker
        self.account = account
        self.symcache = symcache
        self._normalise = normalise
        self._sort = tx_sort

    def update_from_t(self, t: Transaction) -> None:
        """Put a transaction into the ledger; one that is there is written over."""
        self.data[_tables.table_key(t)] = fields_of(t)

    def tables(self) -> Tables:
        """
        Return the content as a file's.

        Raises:
          ConfigError: a table is no transaction; names the table and key.
        """
        text = "\n".join(_tables.render_fields(key, fields) for key, fields in self.data.items())
        data = (_tables.head("ledger") + text).encode()
        return _tables_read.parse(
            data, str(self.file_path), self.broker, self.account, self._normalise
        )

    def iter_txns(self) -> Iterator[Transaction]:
        """Yield the transactions, oldest first."""
        yield from self._sort(self.tables().transactions())

    def to_txns(self) -> dict[str, Transaction]:
        """Return the transactions by tid, oldest first."""
        return {record.tid: record for record in self.iter_txns()}

    def write_config(self) -> None:
        """Write the file, in order and atomically."""
        data = _tables.render(self.tables()).encode()
        self.file_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(FolderDisk(self.file_path.parent), self.file_path.name, data)


@contextmanager
def open_trade_ledger(
    broker: str,
    account: str,
    allow_from_sync_code: bool = False,
    symcache: Any = None,
    tx_sort: Callable[[Iterable[Transaction]], list[Transaction]] = iter_by_dt,
    rewrite: bool = False,
    _fp: Path | None = None,
    normalise: Normaliser | None = None,
) -> Iterator[TransactionLedger]:
    """
    Hold an account's ledger for this process and yield it; written at the end when it changed.

    `_fp` is the folder of the file. Files block, so a program without an event loop, where nothing
    can be held up, says so with `allow_from_sync_code`.

    Raises:
      RuntimeError: called outside of an event loop without `allow_from_sync_code`.
      LedgerLocked: another process writes the ledger.
      ConfigError: the file is damaged; it is left as it is.
    """
    if not allow_from_sync_code and not _is_in_event_loop():
        raise RuntimeError(
            "open_trade_ledger: was called outside of an event loop, expected one;"
            " pass allow_from_sync_code=True"
        )
    folder = _fp.parent if _fp else accounting_dir(broker)
    lock = Lock(lock_path(folder, broker, account))
    holder = lock.take()
    path = ledger_path(broker, account, _fp)
    if holder is not None:
        raise LedgerLocked(f"{path}: is written by {holder}; stop that one first")
    try:
        tables = read_tables(broker, account, folder=_fp, normalise=normalise)
        content = {name: fields_of(record) for name, record in tables.records.items()}
        content |= {each.key: each.fields for each in tables.natives}
        content |= {each.key: each.fields for each in tables.unexplained}
        ledger = TransactionLedger(
            content, path, broker, account, normalise=normalise, tx_sort=tx_sort, symcache=symcache
        )
        before = {name: dict(fields) for name, fields in ledger.items()}
        yield ledger
        if rewrite or ledger.data != before:
            ledger.write_config()
    finally:
        lock.release()


def _is_in_event_loop() -> bool:
    try:
        trio.lowlevel.current_trio_token()
    except RuntimeError:
        return False
    return True
