"""
What an account's journal still holds, for the ledger and for `piker ledger`.

The same replay as that of a starting `emsd`, with every transaction kept. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from piker.accounting import Transaction
from piker.clearing import _records as rec
from piker.clearing._account_book import AccountBook
from piker.clearing._dialog import Dialog
from piker.storage.journal import Record


class JournalView:
    """
    A replay: feed it the records in order, then read.

    `book` is the state after them; `transactions` are those that the journal still holds, in its
    order; `since` is from when on it holds all (None: from the beginning).
    """

    def __init__(self, broker: str, account: str) -> None:
        self.book = AccountBook(broker, account)
        self.since: datetime | None = None
        self._transactions: dict[tuple[str, ...], Transaction] = {}
        self._is_first = True
        self._taken = 0

    def feed(self, record: Record) -> None:
        """
        Take the next record of the journal.

        Raises:
          BadPayload: another version wrote it.
        """
        if self._is_first and (record.is_snapshot or record.segment > 1):
            self.since = datetime.fromtimestamp(record.time_ns // 1000 / 1e6, UTC)
        self._is_first = False
        book = self.book
        since_ns = book.since_ns
        book.replay(record.payload)
        if book.since_ns != since_ns:  # the account was reset: its ledger was put aside
            self._transactions = {}
            self._taken = 0
        self._taken = min(self._taken, len(book.unsynced))
        for transaction in book.unsynced[self._taken :]:
            self._transactions.setdefault(transaction.key, transaction)
        self._taken = len(book.unsynced)

    def finish(self) -> None:
        """Make the book whole after the last record."""
        self.book.end_snapshot()

    @property
    def transactions(self) -> list[Transaction]:
        """Every transaction that the journal still holds."""
        return list(self._transactions.values())

    @property
    def dialogs(self) -> list[Dialog]:
        """Every order that the journal still knows, ended ones included."""
        return list(self.book.dialogs)


def read_journal(records: Iterable[Record], broker: str, account: str) -> JournalView:
    """
    Return what an account's records amount to.

    Raises:
      BadPayload: another version wrote one of them.
    """
    view = JournalView(broker, account)
    for record in records:
        view.feed(record)
    view.finish()
    return view


def import_record(transactions: Sequence[Transaction], source: str, time_ns: int) -> bytes:
    """Return a record that makes fills from elsewhere part of the journal."""
    return rec.encode(
        rec.Imported(time_ns=time_ns, transactions=tuple(transactions), source=source)
    )
