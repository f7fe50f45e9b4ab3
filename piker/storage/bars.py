"""
The bar store: history on disk by market, period and month.

    <root>/<fqme>/<period>s/2024-07.parquet        a month that is over
    <root>/<fqme>/<period>s/2024-08-09.parquet     a day of the running month

Rules:
1. The newest month of a series is kept as daily parts, so that an append writes one day; they are
   merged into the month's file when a later month begins. A crash between the two leaves both,
   which read the same.
2. Appends may come in any order and twice. Of two rows of one time the newer stands, but a
   PARTIAL one never replaces a whole one.
3. A damaged file is set aside with a warning and its rows are missing; it is never a crash and
   never silently half a file. A file of another format is refused.
4. One writer at a time per series, held by a lock on its folder. All calls block: from trio, use
   a worker thread.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec
import numpy as np

from piker.errors import ConfigError, PikerError
from piker.log import get_logger
from piker.model.bars import PERIOD_NAMES
from piker.storage._parquet import (
    NOTHING,
    TEMPORARY,
    Certificate,
    DamagedFile,
    Piece,
    UnknownFormat,
    from_source,
    merge,
    read_certificates,
    read_file,
    sync_folder,
    write_file,
)
from piker.tsp._gaps import dedupe

__all__ = [
    "BarStore",
    "Certificate",
    "StorageConnectionError",
    "StoredSeries",
    "TimeseriesNotFound",
    "UnknownFormat",
    "open_bar_store",
]

log = get_logger(__name__)

_END = 1 << 62
_SIMILAR_MAX = 8


class TimeseriesNotFound(PikerError):
    """Nothing is stored under this market and period; lists the keys that are like it."""


class StorageConnectionError(PikerError):
    """The disk refused: full, read-only or gone; the rows are not stored."""

    is_transient = True


class StoredSeries(msgspec.Struct, frozen=True):
    """One entry of the index: a market, a period, and the first and last bar's open time."""

    fqme: str
    period_s: int
    first_s: int
    last_s: int


class BarStore:
    """Bars of all markets below one folder; made by `open_bar_store`."""

    name = "nativedb"
    cardinality = 1

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def address(self) -> str:
        """Where the bars are."""
        return self.root.as_uri()

    # ---- writing --------------------------------------------------------------------------

    def append(self, fqme: str, period_s: int, rows: np.ndarray, source: str = "live") -> int:
        """
        Store `rows` of `BAR_DTYPE` that came from `source`; return how many times they cover.

        Raises:
          ValueError: the period is below one second, or a time is not a multiple of it.
          StorageConnectionError: the disk refused; what was stored before still is.
          UnknownFormat: a file to be changed is of another version.
        """
        folder = self._folder(fqme, period_s)
        rows, _ = dedupe(rows)
        if not len(rows):
            return 0
        if rows["time"][0] <= 0 or np.any(rows["time"] % period_s):
            raise ValueError(f"{fqme}: a bar's time is not a positive multiple of {period_s} s")
        try:
            with _locked(folder):
                for month, part in _split(rows, "M"):
                    self._append_month(folder, month, part, source)
                self._merge_finished(folder)
        except OSError as error:
            raise StorageConnectionError(
                f"{folder}: bars cannot be written ({error.strerror or error}); make room there or "
                "make it writable"
            ) from None
        return len(rows)

    def write_ohlcv(self, fqme: str, ohlcv: np.ndarray, timeframe: int) -> Path:
        """Store `ohlcv` and return the folder of its series."""
        self.append(fqme, timeframe, ohlcv, "import")
        return self._folder(fqme, timeframe)

    def delete_ts(self, key: str, timeframe: int) -> None:
        """
        Remove all bars of one market and period.

        Raises:
          TimeseriesNotFound: there are none.
        """
        folder = self._folder(key, timeframe)
        if not _parts(folder):
            raise self._not_found(key, timeframe)
        shutil.rmtree(folder)

    def _append_month(self, folder: Path, month: str, rows: np.ndarray, source: str) -> None:
        newest = max((part.name[:7] for part in _parts(folder)), default="")
        whole = folder / f"{month}.parquet"
        if month < newest or (whole.exists() and not _days(folder, month)):
            _update(whole, rows, source)
            return
        for day, part in _split(rows, "D"):
            _update(folder / f"{day}.parquet", part, source)

    def _merge_finished(self, folder: Path) -> None:
        """Put the daily parts of every month but the newest into the month's file."""
        months = sorted({part.name[:7] for part in _parts(folder)})
        for month in months[:-1]:
            days = _days(folder, month)
            if not days:
                continue
            pieces = [_read_or_set_aside(path) for path in (folder / f"{month}.parquet", *days)]
            piece = merge(pieces)
            if len(piece.rows):
                write_file(folder / f"{month}.parquet", piece)
            for day in days:
                day.unlink(missing_ok=True)
            sync_folder(folder)

    # ---- reading --------------------------------------------------------------------------

    def load(
        self,
        fqme: str,
        period_s: int,
        start_s: int | None = None,
        end_s: int | None = None,
    ) -> np.ndarray:
        """
        Return the stored bars with times in `[start_s, end_s)`, ascending, as `BAR_DTYPE`.

        Raises:
          TimeseriesNotFound: nothing at all is stored of this market and period.
          UnknownFormat: a file is of another version.
        """
        folder = self._folder(fqme, period_s)
        start, stop = start_s or 0, _END if end_s is None else end_s
        with _shared(folder):
            parts = _parts(folder)
            if not parts:
                raise self._not_found(fqme, period_s)
            wanted = [part for part in parts if _may_hold(part, start, stop)]
            return merge([_read_or_set_aside(part, start, stop) for part in wanted]).rows

    def read_ohlcv(self, fqme: str, timeframe: int, end: int | None = None) -> np.ndarray:
        """Return all bars before `end`; see `load`."""
        return self.load(fqme, timeframe, end_s=end)

    def first_time(self, fqme: str, period_s: int) -> int | None:
        """Return the open time of the oldest stored bar, or None when there is none."""
        for part in _parts(self._folder(fqme, period_s)):
            if certificates := _certificates(part):
                return min(c.first_s for c in certificates)
        return None

    def last_time(self, fqme: str, period_s: int) -> int | None:
        """Return the open time of the newest stored bar, or None when there is none."""
        for part in reversed(_parts(self._folder(fqme, period_s))):
            if certificates := _certificates(part):
                return max(c.last_s for c in certificates)
        return None

    def certificates(self, fqme: str, period_s: int) -> list[Certificate]:
        """Return what vouches for each stored range of a series, ascending."""
        parts = _parts(self._folder(fqme, period_s))
        return [certificate for part in parts for certificate in _certificates(part)]

    def index(self) -> list[StoredSeries]:
        """Return what is stored, by market and period."""
        out: list[StoredSeries] = []
        for folder in sorted(self.root.glob("*/*s")):
            fqme, period_s = unquote(folder.parent.name), _period_of(folder)
            if period_s is None:
                continue
            first, last = self.first_time(fqme, period_s), self.last_time(fqme, period_s)
            if first is not None and last is not None:
                out.append(StoredSeries(fqme, period_s, first, last))
        return out

    def list_keys(self) -> list[str]:
        """Return the markets that have bars of any period."""
        folders = self.root.glob("*/*s")
        return sorted({unquote(folder.parent.name) for folder in folders if _parts(folder)})

    def search_keys(self, pattern: str) -> list[str]:
        """Return the markets whose address contains `pattern`."""
        return [key for key in self.list_keys() if pattern.lower() in key]

    # ---- names ----------------------------------------------------------------------------

    def _folder(self, fqme: str, period_s: int) -> Path:
        if period_s < 1:
            raise ValueError(f"{fqme}: period was {period_s} s, expected at least 1")
        if not fqme.strip("."):
            raise ValueError(f"storage: market was {fqme!r}, expected a name")
        return self.root / quote(fqme.lower(), safe="") / f"{period_s}s"

    def _not_found(self, fqme: str, period_s: int) -> TimeseriesNotFound:
        period = PERIOD_NAMES.get(period_s, f"{period_s}s")
        similar = [key for key in self.list_keys() if key.split(".")[0] in fqme or fqme in key]
        hint = "\n".join(similar[:_SIMILAR_MAX])
        text = f"{fqme}: no {period} bars are stored"
        if hint:
            text += f". Maybe you need a more specific fqme-key like:\n{hint}"
        return TimeseriesNotFound(text)


def open_bar_store(root: Path | str) -> BarStore:
    """
    Return the store below `root`, which is made when missing.

    Raises:
      ConfigError: it cannot be made or read.
    """
    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        os.listdir(root)
    except OSError as error:
        raise ConfigError(
            f"{root}: the folder of stored bars cannot be used ({error.strerror}); make it "
            "readable or set PIKER_CONFIG_DIR"
        ) from None
    return BarStore(root)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the series against other writers; what a dead one left half written goes."""
    folder.mkdir(parents=True, exist_ok=True)
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        for half in folder.glob(f"*{TEMPORARY}*"):
            half.unlink(missing_ok=True)
        yield
    finally:
        os.close(fd)


@contextmanager
def _shared(folder: Path) -> Iterator[None]:
    """Hold the series while it is read, so that no file moves away; without a lock file, go on."""
    try:
        fd = os.open(folder / ".lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


def _parts(folder: Path) -> list[Path]:
    """Return the files of a series, oldest first; a month stands before its days."""
    return sorted(folder.glob("[0-9][0-9][0-9][0-9]-[0-9][0-9]*.parquet"), key=lambda p: p.stem)


def _days(folder: Path, month: str) -> list[Path]:
    return sorted(folder.glob(f"{month}-[0-9][0-9].parquet"))


def _period_of(folder: Path) -> int | None:
    text = folder.name.removesuffix("s")
    return int(text) if text.isdecimal() else None


def _split(rows: np.ndarray, unit: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the UTC months (`M`) or days (`D`) of ascending `rows` as names with their rows."""
    names = rows["time"].astype("M8[s]").astype(f"M8[{unit}]")
    starts = np.flatnonzero(np.append(True, names[1:] != names[:-1])).tolist()
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        yield str(names[start]), rows[start:stop]


def _may_hold(part: Path, start_s: int, stop_s: int) -> bool:
    """Whether the file's month or day touches the range; decided by its name alone."""
    year, month, *day = map(int, part.stem.split("-"))
    try:
        first = datetime(year, month, day[0] if day else 1, tzinfo=UTC).timestamp()
    except ValueError:
        return False
    length = 86_400 if day else 31 * 86_400
    return first < stop_s and first + length > start_s


def _update(path: Path, rows: np.ndarray, source: str) -> None:
    """Merge `rows` into the file at `path`; leave it alone when that changes nothing."""
    old = _read_or_set_aside(path)
    rows = rows.copy()
    rows["rev"] = 0
    merged = merge([old, from_source(rows, source)])
    if not np.array_equal(merged.rows, old.rows):
        write_file(path, merged)


def _read_or_set_aside(path: Path, start_s: int = 0, stop_s: int = _END) -> Piece:
    if not path.exists():
        return NOTHING
    try:
        return read_file(path, start_s, stop_s)
    except DamagedFile as error:
        _set_aside(path, error)
        return NOTHING


def _certificates(path: Path) -> tuple[Certificate, ...]:
    try:
        return read_certificates(path)
    except DamagedFile as error:
        _set_aside(path, error)
        return ()


def _set_aside(path: Path, error: DamagedFile) -> None:
    """Rename a damaged file so that it is kept but not read, and say so."""
    number = sum(1 for _ in path.parent.glob(f"{path.name}.damaged-*")) + 1
    aside = path.with_name(f"{path.name}.damaged-{number}")
    try:
        path.rename(aside)
        log.warning("damaged bar file set aside as %s cause=%s", aside, error)
    except OSError:
        log.warning("damaged bar file left out cause=%s", error)
