"""
The one writer of an account's ledger and account file.

    writer = open_ledger_writer("kraken", "paper")
    writer.append(fills)            # durable when it returns
    writer.rewrite(); writer.close()

Rules:
1. One process at a time: a lock per (broker, account).
2. A new fill is appended and synced. The whole file is written again, atomically, only for what
   is older than its end, for what has changed, and when asked for.
3. A fill is written once, by market and tid: giving the same fills again changes no byte.
4. After a failed write the file is as it was, or ends in a torn table, which the next call cuts.

All calls block and come one at a time: they belong into a worker thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec

from piker import clock
from piker.accounting import _account_text, _audit, _tables, _tables_read
from piker.accounting._audit import FillKey, Outcome, fill_key, says
from piker.accounting._ledger import ZERO, Transaction, find_faults, time_order
from piker.accounting._places import (
    LedgerLocked,
    account_name,
    accounting_dir,
    ledger_name,
    lock_path,
    read_or_empty,
    replace_file,
)
from piker.accounting._position import Position, PositionKey, fold, keep_open
from piker.accounting._tables import Normaliser, Tables, Unexplained
from piker.errors import ConfigError
from piker.log import get_logger
from piker.model.market import MktPair
from piker.storage.disk import Disk, FolderDisk, Lock

log = get_logger(__name__)


class LedgerWriter:
    """
    The files of one account, open for writing; see the rules above.

    `ledgers` and `accounts` are the folders of the two files; without a `lock` nobody else may
    use them (simulation).
    """

    def __init__(
        self,
        broker: str,
        account: str,
        *,
        ledgers: Disk,
        accounts: Disk,
        lock: Lock | None = None,
        normalise: Normaliser | None = None,
        now_ns: Callable[[], int] = clock.now_ns,
    ) -> None:
        self.broker = broker
        self.account = account
        self._ledgers = ledgers
        self._accounts = accounts
        self._lock = lock
        self._normalise = normalise
        self._now_ns = now_ns
        self._name = ledger_name(broker, account)
        self._is_open = False
        self._forget()

    def _forget(self) -> None:
        """Hold nothing of the file: the next call reads it again."""
        self._is_known = False
        self._fills: dict[FillKey, int] = {}  # what each fill says, as a hash
        self._newest: tuple[object, ...] | None = None
        self._size = 0
        self._unexplained: tuple[Unexplained, ...] = ()
        self._open: dict[str, list[Transaction]] = {}  # a market's fills since it last opened
        self._positions: dict[PositionKey, Position] = {}

    @property
    def place(self) -> str:
        """Where the ledger is, for messages."""
        return f"{self._ledgers.place}/{self._name}"

    @property
    def unexplained(self) -> tuple[Unexplained, ...]:
        """What is booked as unexplained."""
        return self._unexplained

    def open(self) -> None:
        """
        Take the ledger and read it; a torn last table is cut off.

        Raises:
          LedgerLocked: another process has it.
          ConfigError: the file is damaged, or of another format; it is left as it is.
        """
        holder = self._lock.take() if self._lock else None
        if holder is not None:
            raise LedgerLocked(f"{self.place}: is written by {holder}; stop that one first")
        try:
            self._load()
        except BaseException:
            self.close()
            raise
        self._is_open = True

    def close(self) -> None:
        """Give the files back; writes nothing."""
        self._is_open = False
        self._forget()
        if self._lock:
            self._lock.release()

    # ---- what is there --------------------------------------------------------------------

    def transactions(self) -> list[Transaction]:
        """Return every transaction of the file, oldest first."""
        return self._read().transactions()

    def positions(self) -> dict[PositionKey, Position]:
        """Return the positions that the file amounts to, flat ones too."""
        self._ensure_known()
        return dict(self._positions)

    # ---- writing --------------------------------------------------------------------------

    def append(self, records: Sequence[Transaction]) -> Outcome:
        """Write the fills that the file lacks; they are durable when it returns."""
        if not self._is_as_known():
            self._forget()  # somebody has edited it
        self._ensure_known()
        lacking = [each for each in records if self._fills.get(fill_key(each)) != hash(says(each))]
        if not lacking:
            return Outcome()
        ordered = sorted(lacking, key=time_order)
        if self._is_plain(ordered):
            self._append(ordered)
            return Outcome(len(ordered))
        tables = self._read()
        outcome = _audit.add_fills(tables, ordered)
        self._replace(tables)
        return outcome

    def reconcile(
        self,
        records: Sequence[Transaction],
        since: datetime | None = None,
        sizes: Mapping[str, Decimal] | None = None,
    ) -> Outcome:
        """
        Bring the file to what the journal says; what differs is booked as unexplained.

        `records` are all the transactions that the journal still holds; it holds each that it was
        told of from `since` on (None: from its beginning). `sizes`: what it holds of each market,
        by the broker's id, older fills included. `imports` of the answer are to be journalled and
        given again: until then an older file stays one.
        """
        tables = self._read()
        was_legacy = tables.is_legacy
        outcomes = [
            _audit.add_fills(tables, records),
            _audit.take_out_unknown(tables, records, since),
        ]
        if not outcomes[1].imports:
            tables.is_legacy = False
            if sizes is not None:
                outcomes.append(_audit.compare_sizes(tables, sizes))
        outcome = _audit.join(outcomes)
        if outcome.written or outcome.differences or tables.is_legacy != was_legacy:
            self._replace(tables)
        return outcome

    def rewrite(self) -> bool:
        """Write the file again in order, atomically; False when it already is so."""
        tables = self._read()
        data = _tables.render(tables).encode()
        if read_or_empty(self._ledgers, self._name) == data:
            return False
        self._replace(tables)
        return True

    def write_account(self, markets: Mapping[str, MktPair] | None = None) -> bool:
        """
        Write the account file: open positions, and their fills since they opened.

        `markets`, by fqme, tell ticks and asset types; what is not among them is as in the file
        that is there. False when no byte changes.
        """
        self._ensure_known()
        name = account_name(self.broker, self.account)
        there = read_or_empty(self._accounts, name)
        markets = markets or {}
        has_all = all(each.fqme in markets for each in self._positions.values() if each.size)
        known = {} if has_all else self._known_holdings(there, name)
        now = moment_of(self._now_ns())
        holdings = []
        for key in sorted(self._positions):
            position, clears = self._positions[key], self._open.get(key[2], [])
            expiry = clears[-1].expiry if clears else None
            if position.size and not _account_text.is_expired(expiry, now):
                holding = known.get(position.fqme, _account_text.Holding(fqme=position.fqme))
                holding = msgspec.structs.replace(
                    holding,
                    bs_mktid=position.market,
                    expiry=expiry or holding.expiry,
                    clears=tuple(clears),
                )
                holdings.append(holding.known_as(markets.get(position.fqme)))
        data = _account_text.render(holdings).encode()
        if data == there:
            return False
        replace_file(self._accounts, name, data)
        return True

    def archive(self, label: str) -> None:
        """Put both files aside under `label` and begin empty; what they held stays readable."""
        for disk, name in (
            (self._ledgers, self._name),
            (self._accounts, account_name(self.broker, self.account)),
        ):
            if name in disk.names():
                disk.rename(name, f"{name.removesuffix('.toml')}.{label}.toml")
                disk.sync_folder()
        self._forget()

    def begin_at(self, time_ns: int) -> bool:
        """
        Put both files aside when they hold fills of before a reset of the account.

        False when there is nothing of the kind: it may be called at every start.
        """
        begin = moment_of(time_ns)
        if all(record.dt >= begin for record in self.transactions()):
            return False
        self.archive(f"{time_ns // 1_000_000_000}")
        return True

    # ---- inside ---------------------------------------------------------------------------

    def _ensure_known(self) -> None:
        if not self._is_known:
            self._load()

    def _is_as_known(self) -> bool:
        """Whether the file ends where the next table would go."""
        if not self._size:
            return True
        try:
            return self._ledgers.size(self._name) == self._size
        except FileNotFoundError:
            return False

    def _load(self) -> None:
        """Read the file; cut off what a write left behind when it was cut short."""
        tables = self._read()
        if tables.torn:
            log.warning("ledger torn place=%s cut=%r", self.place, tables.torn[:400])
            self._replace(tables)
        else:
            self._know(tables, len(read_or_empty(self._ledgers, self._name)))

    def _read(self) -> Tables:
        data = read_or_empty(self._ledgers, self._name)
        if not data:
            return Tables()
        return _tables_read.parse(data, self._name, self.broker, self.account, self._normalise)

    def _know(self, tables: Tables, size: int) -> None:
        """Hold what later calls need of the file's content."""
        self._forget()
        records = tables.transactions()
        self._learn(records)
        self._unexplained = tuple(tables.unexplained)
        self._size = 0 if tables.is_legacy else size  # 0: nothing is appended to such a file
        self._is_known = True

    def _learn(self, records: Iterable[Transaction]) -> None:
        """Fold transactions that are newer than all before."""
        groups: dict[str, list[Transaction]] = {}
        for record in records:
            self._fills[fill_key(record)] = hash(says(record))
            self._newest = time_order(record)
            groups.setdefault(record.market, []).append(record)
        for market, group in groups.items():
            key = (self.broker, self.account, market)
            known = self._positions.get(key)
            size = known.size if known else ZERO
            kept = self._open.setdefault(market, [])
            for record in group:
                size = keep_open(kept, size, record)
            self._positions[key] = known.extend(group) if known else fold(group)[key]

    def _is_plain(self, ordered: Sequence[Transaction]) -> bool:
        """Whether records can stand behind the end of the file, each a fill of its own."""
        is_new = all(fill_key(record) not in self._fills for record in ordered)
        is_unique = len({_tables.table_key(record) for record in ordered}) == len(ordered)
        is_fit = not any(find_faults(record) for record in ordered)
        is_late = self._newest is not None and time_order(ordered[0]) < self._newest
        is_named = all(each.tid.isdecimal() or self._is_only(each.tid) for each in ordered)
        return bool(self._size) and is_new and is_unique and is_fit and is_named and not is_late

    def _is_only(self, tid: str) -> bool:
        """Whether no other market of the account has a fill of this id."""
        return not any((market, tid) in self._fills for market in self._open)

    def _append(self, ordered: Sequence[Transaction]) -> None:
        text = "".join(f"\n{_tables.render_record(record)}" for record in ordered)
        data = text.encode()
        self._is_known = False  # until it is written: what a failed write left is read again
        file = self._ledgers.open(self._name)
        try:
            file.write(self._size, data)
            file.sync()
        finally:
            file.close()
        self._size += len(data)
        self._learn(ordered)
        self._is_known = True

    def _replace(self, tables: Tables) -> None:
        self._is_known = False
        tables.torn = ""
        data = _tables.render(tables).encode()
        replace_file(self._ledgers, self._name, data)
        self._know(tables, len(data))

    def _known_holdings(self, data: bytes, name: str) -> dict[str, _account_text.Holding]:
        """Return what the account file says of its markets; a damaged one says nothing."""
        try:
            holdings = _account_text.parse(data, name, self.broker, self.account) if data else []
        except ConfigError as err:
            log.warning("account file is written anew: %s", err)
            return {}
        return {each.fqme: each for each in holdings}


def moment_of(time_ns: int) -> datetime:
    """Return nanoseconds since the epoch as a moment, to the microsecond."""
    return datetime.fromtimestamp(time_ns // 1000 / 1e6, UTC)


def open_ledger_writer(
    broker: str,
    account: str,
    *,
    folder: Path | None = None,
    normalise: Normaliser | None = None,
) -> LedgerWriter:
    """
    Open the files of an account for writing; below `folder`, or where the run keeps them.

    Raises:
      LedgerLocked: another process writes them.
      ConfigError: the ledger is damaged or of another format, and is left as it is.
    """
    home = folder or accounting_dir(broker)
    (home / "ledgers").mkdir(parents=True, exist_ok=True, mode=0o700)
    writer = LedgerWriter(
        broker,
        account,
        ledgers=FolderDisk(home / "ledgers"),
        accounts=FolderDisk(home),
        lock=Lock(lock_path(home, broker, account)),
        normalise=normalise,
    )
    writer.open()
    return writer
