"""
Bringing an account's ledger and account file to what its journal says.

That is `emsd`'s work while one runs; else the journal's lock and the ledger's are taken for the
moment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from piker import clock, config
from piker.accounting import _audit
from piker.accounting._books import Account, normaliser_of, sizes_of
from piker.accounting.files import open_ledger_writer
from piker.storage.disk import FolderDisk
from piker.storage.journal import Journal, JournalLocked, open_journal

if TYPE_CHECKING:
    from piker.clearing import JournalView

IMPORT_FILLS_MAX = 500  # a record; one of the journal holds a limited number of bytes
Tell = Callable[[str], None]


class Synced(msgspec.Struct, frozen=True):
    """What bringing one account's files up to date came to."""

    account: str
    written: int = 0
    is_changed: bool = False
    differences: tuple[str, ...] = ()
    imported: int = 0
    by: str = "piker ledger"


async def sync_books(account: Account, tell: Tell = lambda text: None) -> Synced:
    """
    Bring an account's ledger and account file to what its journal says; see the rules above.

    Raises:
      ConfigError: a file is damaged beyond reading, or cannot be written.
    """
    if not account.exists:
        return Synced(account.name)
    from piker.clearing import JournalView

    tell(f"{account.name}: reading the journal")
    view = JournalView(account.broker, account.account)
    try:
        async with open_journal(
            FolderDisk(account.journal), account.name, fold=view.feed, now_ns=clock.now_ns
        ) as journal:
            view.finish()
            tell(f"{account.name}: writing {len(view.transactions)} fills")
            return await _write_books(account, view, journal)
    except JournalLocked as err:
        tell(f"{account.name}: emsd writes its files")
        return await _ask_emsd(account, err)


async def _write_books(account: Account, view: JournalView, journal: Journal) -> Synced:
    from piker.clearing import import_record

    writer = open_ledger_writer(
        account.broker,
        account.account,
        folder=account.accounting,
        normalise=normaliser_of(account),
    )
    try:
        known = view.transactions
        writer.begin_at(view.book.since_ns)
        if not journal.report.is_state_sound:
            outcome = writer.append(known)
        else:
            outcome = writer.reconcile(known, view.since, sizes_of(view))
        for start in range(0, len(outcome.imports), IMPORT_FILLS_MAX):
            part = outcome.imports[start : start + IMPORT_FILLS_MAX]
            await journal.append(import_record(part, str(writer.place), clock.now_ns()))
        again = _audit.Outcome()
        if outcome.imports:
            again = writer.reconcile([*known, *outcome.imports], view.since)
        is_changed = writer.rewrite() or bool(outcome.written or outcome.differences)
        is_changed |= writer.write_account(view.book.markets)
    finally:
        writer.close()
    differences = (*outcome.differences, *again.differences)
    return Synced(
        account.name,
        outcome.written,
        is_changed or bool(outcome.imports),
        tuple(map(str, differences)),
        len(outcome.imports),
    )


async def _ask_emsd(account: Account, locked: JournalLocked) -> Synced:
    """Let the `emsd` that holds the journal write the files."""
    from piker.clearing import sync_ledger

    if config.run_vars().get("venues") is None:
        raise locked
    answer = await sync_ledger(account.broker, account.account)
    return Synced(
        account.name,
        int(answer.get("written", 0)),
        bool(answer.get("written", 0)),
        tuple(answer.get("differences", ())),
        by="emsd",
    )
