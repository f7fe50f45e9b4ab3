"""
Account files as scripts use them: positions by market, folded from fills.

A file is a projection that the ledger's writer makes; `load_account_from_ledger` needs no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from piker import clock
from piker.accounting import _account_text
from piker.accounting._account_text import Holding
from piker.accounting._ledger import Transaction, iter_by_dt
from piker.accounting._places import replace_file
from piker.accounting._position import Position, fold, minimise
from piker.accounting.files import (
    TransactionLedger,
    account_name,
    accounting_dir,
    label_of,
    read_ledger,
)
from piker.errors import ConfigError
from piker.log import get_logger
from piker.model.market import MktPair
from piker.storage.disk import FolderDisk

log = get_logger(__name__)

COST_SCALAR = 2  # the price per unit of an account file holds each fee twice, see `_position`


class Account:
    """
    The positions of one account: `pps` by the broker's id of the market.

    `mod` is the broker's name or its module. `conf` is what the file held.
    """

    def __init__(
        self,
        mod: Any,
        acctid: str,
        pps: dict[str, Position],
        conf_path: Path,
        conf: dict[str, Holding],
    ) -> None:
        self.mod = mod
        self.acctid = acctid
        self.pps = pps
        self.conf_path = conf_path
        self.conf = conf
        self._fills: dict[str, dict[str, Transaction]] = {}
        for holding in conf.values():
            for clear in holding.clears:
                self._fills.setdefault(clear.market, {})[clear.tid] = clear

    @property
    def broker(self) -> str:
        """The broker's name."""
        return self.mod if isinstance(self.mod, str) else self.mod.__name__.rpartition(".")[2]

    def update_from_ledger(
        self,
        ledger: TransactionLedger | Mapping[str, Transaction] | Iterable[Transaction],
        cost_scalar: int = COST_SCALAR,
        symcache: Any = None,
        _mktmap_table: Mapping[str, MktPair] | None = None,
    ) -> dict[str, Position]:
        """
        Fold transactions in, each once by its tid, and return the positions that changed.

        With `symcache` or `_mktmap_table` every market must be in it: their `MktPair`s give the
        file its ticks.

        Raises:
          KeyError: a market is not in the tables that were given.
          ValueError: `cost_scalar` is not the one that files are written with.
        """
        if cost_scalar != COST_SCALAR:
            raise ValueError(f"cost_scalar: was {cost_scalar}, expected {COST_SCALAR}")
        changed: set[str] = set()
        for record in _transactions_of(ledger):
            self._learn_market(record, symcache, _mktmap_table)
            known = self._fills.setdefault(record.market, {})
            if known.get(record.tid) not in (None, record):
                log.warning("fill told otherwise tid=%s market=%s", record.tid, record.market)
            known[record.tid] = record
            changed.add(record.market)
        for market in changed:
            [self.pps[market]] = fold(iter_by_dt(self._fills[market].values())).values()
        return {market: self.pps[market] for market in sorted(changed)}

    def _learn_market(
        self, record: Transaction, symcache: Any, table: Mapping[str, MktPair] | None
    ) -> None:
        tables = [] if table is None else [table]
        if symcache is not None:
            tables.append(symcache.mktmaps)
        if not tables:
            return
        mkt = next((each[record.fqme] for each in tables if record.fqme in each), None)
        if mkt is None:
            raise KeyError(f"{record.fqme}: is in no table of markets that was given")
        holding = self.conf.get(record.fqme, Holding(fqme=record.fqme))
        self.conf[record.fqme] = holding.known_as(mkt)

    def dump_active(self) -> tuple[dict[str, Position], dict[str, Position]]:
        """Return the open positions and the closed ones, by the broker's id of the market."""
        now = datetime.fromtimestamp(clock.now_s(), UTC)
        active = {
            market: position
            for market, position in self.pps.items()
            if position.size and not self._is_expired(position, now)
        }
        return active, {m: position for m, position in self.pps.items() if m not in active}

    def _is_expired(self, position: Position, now: datetime) -> bool:
        known = self.conf.get(position.fqme)
        fills = self._fills.get(position.market, {}).values()
        expiries = [known.expiry if known else None, *(fill.expiry for fill in fills)]
        return any(_account_text.is_expired(expiry, now) for expiry in expiries)

    def prep_toml(self) -> str:
        """Return the account file's text: open positions, and their fills since they opened."""
        active, _ = self.dump_active()
        holdings = []
        for market, position in sorted(active.items()):
            known = self.conf.get(position.fqme, Holding(fqme=position.fqme))
            clears = minimise(iter_by_dt(self._fills[market].values()))
            expiry = next((clear.expiry for clear in clears if clear.expiry), known.expiry)
            holdings.append(
                msgspec.structs.replace(known, bs_mktid=market, expiry=expiry, clears=tuple(clears))
            )
        return _account_text.render(holdings)

    def write_config(self) -> None:
        """Write the file atomically."""
        self.conf_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        data = self.prep_toml().encode()
        replace_file(FolderDisk(self.conf_path.parent), self.conf_path.name, data)


def _transactions_of(ledger: Any) -> list[Transaction]:
    if isinstance(ledger, TransactionLedger):
        return list(ledger.iter_txns())
    return list(ledger.values() if isinstance(ledger, Mapping) else ledger)


def load_account(
    broker: str, acct: str, dirpath: Path | None = None
) -> tuple[dict[str, Holding], Path]:
    """
    Return the positions of an account file by fqme, and its path.

    A file under the older name `pps.<broker>.<account>.toml` is read when there is no other.

    Raises:
      ConfigError: the file is damaged or of another format; names file, table and key.
    """
    folder = dirpath or accounting_dir(broker)
    path = folder / account_name(broker, acct)
    legacy = folder / f"pps.{broker}.{label_of(broker, acct)}.toml"
    source = path
    if not path.exists() and legacy.exists():
        log.warning("account file has an older name from=%s to=%s", legacy.name, path.name)
        source = legacy
    try:
        data = source.read_bytes()
    except FileNotFoundError:
        return {}, path
    except OSError as err:
        raise ConfigError(f"{source}: cannot be read ({err.strerror})") from None
    holdings = _account_text.parse(data, source.name, broker, acct)
    return {holding.fqme: holding for holding in holdings}, path


@contextmanager
def open_account(
    broker: str, acct: str, write_on_exit: bool = False, _fp: Path | None = None
) -> Iterator[Account]:
    """Yield the account that its file holds; `_fp` is its folder."""
    conf, path = load_account(broker, acct, _fp)
    account = Account(broker, acct, {}, path, conf)
    account.update_from_ledger([clear for holding in conf.values() for clear in holding.clears])
    yield account
    if write_on_exit:
        account.write_config()


def load_account_from_ledger(
    broker: str,
    acct: str,
    filter_by_ids: Iterable[str] | None = None,
    ledger: TransactionLedger | None = None,
    **files: Any,
) -> dict[str, Position]:
    """
    Return the positions that a ledger amounts to, by the broker's id of the market.

    `filter_by_ids`: only these tids. `files` are options of `read_ledger`.
    """
    records = list(ledger.iter_txns()) if ledger else read_ledger(broker, acct, **files)
    if filter_by_ids is not None:
        wanted = set(filter_by_ids)
        records = [record for record in records if record.tid in wanted]
    return {position.market: position for position in fold(records).values()}
