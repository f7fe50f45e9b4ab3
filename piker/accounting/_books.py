"""
The books of accounts on this machine: which there are, and what they say.

Reading takes no lock: an account is its ledger file and what the journal has beyond it, so it is
whole also while `emsd` writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from piker import config
from piker.accounting import _audit
from piker.accounting._account import load_account
from piker.accounting._account_text import Holding
from piker.accounting._ledger import ZERO, Transaction, iter_by_dt
from piker.accounting._position import fold, minimise
from piker.accounting._tables import Normaliser, Tables
from piker.accounting._views import Holdings, plain
from piker.accounting._writer import moment_of
from piker.accounting.files import (
    ledger_path,
    read_tables,
)
from piker.errors import ConfigError, PikerError
from piker.storage.journal import (
    Report,
    read_records,
)

if TYPE_CHECKING:
    from piker.clearing import JournalView


class Account(msgspec.Struct, frozen=True):
    """One account: `home` is the folder that holds its broker's journals and ledgers."""

    broker: str
    account: str
    home: Path
    local: str = ""

    @property
    def name(self) -> str:
        """The account as a person types it."""
        return f"{self.broker}.{self.label}"

    @property
    def label(self) -> str:
        """Its name within the broker's accounts."""
        return self.account.removeprefix(f"{self.broker}.")

    @property
    def accounting(self) -> Path:
        """The folder of its account file."""
        return self.home / "accounting"

    @property
    def ledger(self) -> Path:
        """Its ledger file."""
        return ledger_path(self.broker, self.account, self.accounting / "ledgers")

    @property
    def journal(self) -> Path:
        """Its journal's folder."""
        return self.home / "journal" / self.name

    @property
    def exists(self) -> bool:
        """Whether anything was ever written for it."""
        return self.ledger.exists() or self.journal.is_dir()


class Books(msgspec.Struct, kw_only=True):
    """What is known of one account, and which of it a file does not say yet."""

    account: Account
    holdings: Holdings
    orders: tuple[Any, ...] = ()  # dialogs that the journal still knows
    quotes: dict[str, str] = {}  # quote asset by fqme
    warnings: tuple[str, ...] = ()
    found: _audit.Outcome = _audit.Outcome()


# ---- which accounts there are


def accounts_of(broker: str) -> list[Account]:
    """
    Return the accounts of a broker, paper first: of the run's venue, or, where no venue is set and
    the broker's own has none, of every local venue that was used.
    """
    venue = config.venue_for(broker)
    found = _accounts_in(broker, config.broker_dir(broker), venue.name if venue.is_local else "")
    is_free = config.run_vars().get("venues") is None and not venue.is_local
    if not any(account.exists for account in found) and is_free:
        homes = sorted((config.config_dir() / "venues").glob("*"))
        local = [each for home in homes for each in _accounts_in(broker, home, home.name)]
        found = [each for each in local if each.exists] or found
    return found


def _accounts_in(broker: str, home: Path, local: str) -> list[Account]:
    labels = {"paper"}
    for folder in (home / "journal").glob(f"{broker}.*"):
        labels.add(folder.name.removeprefix(f"{broker}."))
    prefix = f"trades_{broker}_"
    for path in (home / "accounting" / "ledgers").glob(f"{prefix}*.toml"):
        label = path.stem.removeprefix(prefix)
        if "." not in label:  # one that was put aside has its time in its name
            labels.add(label)
    labels |= set(config.broker_settings(broker).get("accounts") or {})
    ordered = sorted(labels, key=lambda label: (label != "paper", label))
    return [
        Account(broker, label if label == "paper" else f"{broker}.{label}", home, local)
        for label in ordered
    ]


def choose(broker: str, label: str) -> list[Account]:
    """
    Return a broker's accounts, or the one that is named.

    Raises:
      PikerError: there is no such account.
    """
    found = accounts_of(broker)
    if not label:
        return found
    chosen = [account for account in found if account.label == label]
    if not chosen:
        known = ", ".join(account.name for account in found)
        raise PikerError(f"{broker}.{label}: no such account, expected one of {known}")
    return [account for account in chosen if account.exists] or chosen[:1]


def normaliser_of(account: Account) -> Normaliser | None:
    """Return how the broker's own records are read; None for paper and where it has no way."""
    if account.account == "paper":
        return None
    from piker.brokers import get_brokermod

    norm_trade = getattr(get_brokermod(account.broker), "norm_trade", None)
    if norm_trade is None:
        return None

    def normalise(tid: str, record: dict[str, Any]) -> Transaction | None:
        made: Transaction | None = norm_trade(tid, record, {})
        if made is None:
            return None
        return msgspec.structs.replace(made, broker=account.broker, account=account.account)

    return normalise


# ---- reading


def read_books(account: Account) -> Books:
    """
    Return what an account amounts to, and where its files differ; changes nothing.

    Raises:
      ConfigError: its ledger or journal is damaged beyond reading; names the file and place.
    """
    tables = read_tables(
        account.broker,
        account.account,
        folder=account.accounting / "ledgers",
        normalise=normaliser_of(account),
    )
    view, report = _read_journal(account)
    warnings = [] if report is None or report.is_state_sound else _damages(account, report)
    if tables.torn:
        warnings.append(f"{account.ledger}: its last table is torn; `sync` writes it again")
    found = _audit.Outcome()
    if account.exists:
        found = bring_up(tables, view, is_whole=report is None or report.is_state_sound)
    return Books(
        account=account,
        holdings=Holdings(
            broker=account.broker,
            account=account.account,
            transactions=tuple(iter_by_dt(tables.transactions())),
            unexplained=tuple(tables.unexplained),
            behind=found.written,
        ),
        orders=tuple(view.dialogs),
        quotes=_quotes_of(view),
        warnings=tuple(warnings),
        found=found,
    )


def bring_up(tables: Tables, view: JournalView, *, is_whole: bool) -> _audit.Outcome:
    """
    Bring a file's content to what the journal says.

    A journal that lacks records (`is_whole` false) adds to a file and never takes from it.
    """
    begin = moment_of(view.book.since_ns)  # what was before a reset is put aside
    tables.records = {name: record for name, record in tables.records.items() if record.dt >= begin}
    added = _audit.add_fills(tables, view.transactions)
    if not is_whole:
        return added
    unknown = _audit.take_out_unknown(tables, view.transactions, view.since)
    sizes = _audit.Outcome()
    if not unknown.imports:
        sizes = _audit.compare_sizes(tables, sizes_of(view))
    return _audit.join([added, unknown, sizes])


def sizes_of(view: JournalView) -> dict[str, Any]:
    """Return what the journal holds of each market, by the broker's id."""
    return {each.market: each.size for each in view.book.positions.values()}


def _read_journal(account: Account) -> tuple[JournalView, Report | None]:
    from piker.clearing import read_journal

    if not account.journal.is_dir():
        return read_journal([], account.broker, account.account), None
    records, report = read_records(account.journal)
    return read_journal(records, account.broker, account.account), report


def _damages(account: Account, report: Report) -> list[str]:
    return [f"{account.journal}: {line}" for line in report.lines()[1:]]


def _quotes_of(view: JournalView) -> dict[str, str]:
    return {mkt.fqme: str(mkt.src) for mkt in view.book.markets.values() if mkt.src}


def audit_account_file(account: Account, books: Books) -> list[str]:
    """Return where an account file says something else than the ledger amounts to."""
    try:
        conf, path = load_account(account.broker, account.account, account.accounting)
    except ConfigError as err:
        return [str(err)]
    if not path.exists() and not conf:
        return []
    found = []
    groups: dict[str, list[Transaction]] = {}
    for record in books.holdings.transactions:
        groups.setdefault(record.market, []).append(record)
    held = {position.market: position for position in books.holdings.positions()}
    said = {holding.bs_mktid or fqme: holding for fqme, holding in conf.items()}
    for market in sorted({*held, *said}):
        theirs, ours = said.get(market), held.get(market)
        size = ours.size if ours else ZERO
        told = _size_of(theirs)
        if told != size:
            found.append(f"{path.name}: {market}: it says {plain(told)}, the ledger {plain(size)}")
        elif theirs and [c.tid for c in theirs.clears] != [
            c.tid for c in minimise(groups.get(market, []))
        ]:
            found.append(f"{path.name}: {market}: its fills are not those of the ledger")
    return found


def _size_of(holding: Holding | None) -> Decimal:
    if holding is None or not holding.clears:
        return ZERO
    return sum((position.size for position in fold(holding.clears).values()), ZERO)


def quotes_of(books: Iterable[Books]) -> dict[str, str]:
    """Return every market's quote asset that is known, by fqme."""
    return {fqme: quote for each in books for fqme, quote in each.quotes.items()}
