"""
One file of bars: Parquet with a format number and a certificate per range, written atomically.

Rules:
1. A file appears whole or not at all: temporary file, fsync, rename, fsync of the folder.
2. The hash of its bytes stands in its footer (counted as zeros while hashing) and is checked
   before any parser sees the file: a flipped bit in Parquet can panic inside polars. A file that
   fails raises `DamagedFile`; a sound one of another format raises `UnknownFormat`.
3. Every range (one source, one UTC day) has a certificate: where it came from, its first and last
   time, its number of rows and the BLAKE2b hash of their values.
4. Nothing of polars leaves this module.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
import polars as pl

from piker.errors import ConfigError, PikerError
from piker.model.bars import BAR_DTYPE, empty_bars
from piker.tsp._gaps import dedupe

FORMAT: Final = 1
_SEAL_KEY = "piker.bars"
_SEAL = "piker bars format {} blake2b {}"  # the same in every format
_SEAL_PATTERN = re.compile(rb"piker bars format (\d+) blake2b ([0-9a-f]{32})")
_NO_DIGEST = "0" * 32
_CERTIFICATES_KEY = "piker.certificates"
COLUMNS: Final = tuple(name for name in BAR_DTYPE.names or () if name not in ("index", "rev"))
_STORED_DTYPE: Final = np.dtype([(name, BAR_DTYPE[name]) for name in COLUMNS])
DAY_S: Final = 86_400
TEMPORARY = ".new-"
_FOOTER_BYTES_MAX = 1 << 24


class DamagedFile(PikerError):
    """The file is torn or does not hold what its certificates say."""


class UnknownFormat(ConfigError):
    """The file was written by another version of piker."""


class Certificate(msgspec.Struct, frozen=True):
    """What one range of a file is: `rows` bars from `first_s` to `last_s`, out of `source`."""

    source: str
    first_s: int
    last_s: int
    rows: int
    blake2b: str


class Piece(NamedTuple):
    """Bars with the source of each: row `i` came from `names[codes[i]]`."""

    rows: np.ndarray
    codes: np.ndarray
    names: tuple[str, ...]


def from_source(rows: np.ndarray, source: str) -> Piece:
    """Return `rows`, all of one source."""
    return Piece(rows, np.zeros(len(rows), np.uint8), (source,))


NOTHING: Final = Piece(empty_bars(), np.zeros(0, np.uint8), ())


def merge(pieces: list[Piece]) -> Piece:
    """Join pieces; of equal times the later piece's row stands, unless it is PARTIAL."""
    if not pieces:
        return NOTHING
    names = tuple(dict.fromkeys(name for piece in pieces for name in piece.names))
    rows = np.concatenate([piece.rows for piece in pieces])
    codes = np.concatenate(
        [np.array([*map(names.index, p.names), 0], np.uint8)[p.codes] for p in pieces]
    )
    rows["index"] = np.arange(len(rows))  # carries each row's source through the sort
    rows, _ = dedupe(rows)
    codes = codes[rows["index"]]
    rows["index"] = 0
    return Piece(rows, codes, names)


def write_file(path: Path, piece: Piece) -> None:
    """
    Write ascending bars and their sources, in place of what is at `path`.

    Raises:
      OSError: the disk is full, the folder cannot be written; the old file stands.
    """
    frame = pl.DataFrame({name: piece.rows[name] for name in COLUMNS})
    names = pl.Series(piece.names, dtype=pl.String)
    frame = frame.with_columns(source=names.gather(pl.Series(piece.codes)))
    metadata = {
        _SEAL_KEY: _SEAL.format(FORMAT, _NO_DIGEST),
        _CERTIFICATES_KEY: msgspec.json.encode(_certify(piece)).decode(),
    }
    buffer = BytesIO()
    frame.write_parquet(buffer, compression="zstd", row_group_size=DAY_S, metadata=metadata)
    data = bytearray(buffer.getbuffer())
    slot, digest = _digest(data)
    data[slot] = digest
    temporary = path.with_name(f"{path.name}{TEMPORARY}{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in `folder` last."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_certificates(path: Path) -> tuple[Certificate, ...]:
    """
    Return the certificates of the file at `path`, ascending; its bytes are checked once.

    Raises:
      UnknownFormat, DamagedFile.
    """
    try:
        status = path.stat()
        return _checked(path, status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise DamagedFile(f"{path}: {error.strerror}") from None


def read_file(path: Path, start_s: int, stop_s: int) -> Piece:
    """
    Return the bars of `path` with times in `[start_s, stop_s)`, ascending.

    Raises:
      UnknownFormat, DamagedFile.
    """
    if not any(c.first_s < stop_s and c.last_s >= start_s for c in read_certificates(path)):
        return NOTHING
    is_wanted = (pl.col("time") >= start_s) & (pl.col("time") < stop_s)
    try:
        return _piece_of(pl.scan_parquet(path, glob=False).filter(is_wanted).collect())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DamagedFile(f"{path}: {error}") from None


@lru_cache(maxsize=1024)
def _checked(path: Path, inode: int, size: int, mtime_ns: int) -> tuple[Certificate, ...]:
    """Check the bytes of a file in the state that the arguments name; return its certificates."""
    del inode, size, mtime_ns  # they make a changed file another call
    data = path.read_bytes()
    slot, digest = _digest(data)
    if data[slot] != digest:
        raise DamagedFile(f"{path}: its bytes are not those that were written")
    seal = _SEAL_PATTERN.search(data, slot.start - 64)
    if seal is None or int(seal[1]) != FORMAT:
        raise UnknownFormat(
            f"{path}: format was {seal and int(seal[1])}, expected {FORMAT}; it was written by "
            "another version of piker: use that one, or move the file away"
        )
    metadata = pl.read_parquet_metadata(BytesIO(data))
    return tuple(msgspec.json.decode(metadata[_CERTIFICATES_KEY], type=list[Certificate]))


def _digest(data: bytes | bytearray) -> tuple[slice, bytes]:
    """Return where in a file its digest stands, and what it must be; an empty place if nowhere."""
    seals = [*_SEAL_PATTERN.finditer(data, max(0, len(data) - _FOOTER_BYTES_MAX))]
    if not seals:
        return slice(0, 0), b"none"
    found = seals[-1]  # the footer's, whatever a column may hold
    view = memoryview(data)
    digest = hashlib.blake2b(view[: found.start(2)], digest_size=16)
    digest.update(_NO_DIGEST.encode())
    digest.update(view[found.end(2) :])
    return slice(*found.span(2)), digest.hexdigest().encode()


def _piece_of(frame: pl.DataFrame) -> Piece:
    rows = empty_bars(len(frame))
    for name in COLUMNS:
        rows[name] = frame[name].to_numpy()
    sources = frame["source"]
    names = tuple(sources.unique(maintain_order=True).to_list())
    codes: np.ndarray = np.zeros(len(frame), np.uint8)
    for code, name in enumerate(names):
        codes[(sources == name).to_numpy()] = code
    return Piece(rows, codes, names)


def _check_ends(path: Path) -> None:
    """Refuse what is plainly no Parquet file before a parser sees it."""
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(-4, os.SEEK_END)
        if head != b"PAR1" or file.read(4) != b"PAR1":
            raise DamagedFile(f"{path}: is cut off or no Parquet file")


def _certify(piece: Piece) -> list[Certificate]:
    days = piece.rows["time"] // DAY_S
    starts = np.flatnonzero(np.diff(days, prepend=-1)).tolist()
    out: list[Certificate] = []
    for start, stop in zip(starts, [*starts[1:], len(days)], strict=True):
        stored: np.ndarray = np.zeros(stop - start, _STORED_DTYPE)
        for name in COLUMNS:
            stored[name] = piece.rows[name][start:stop]
        for code, source in enumerate(piece.names):
            mine = stored[piece.codes[start:stop] == code]
            if len(mine):
                digest = hashlib.blake2b(mine.tobytes(), digest_size=16).hexdigest()
                first, last = int(mine["time"][0]), int(mine["time"][-1])
                out.append(Certificate(source, first, last, len(mine), digest))
    return out
