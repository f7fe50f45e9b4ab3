"""
The listings of markets that were streamed, kept on disk, so that a market that was already open
comes back, with its stored bars, while the venue refuses to list it.

Only market data may use them: increments may have changed since, so nothing that is sent to the
venue is made from a kept listing. A file that cannot be read or written is as good as none.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from piker import clock
from piker.brokers.binance._symbols import BROKER, Pair
from piker.config import broker_dir
from piker.log import get_logger

log = get_logger(__name__)

KEPT_FOR_S = 24 * 3600
KEPT_MAX = 1000


class Kept(msgspec.Struct, frozen=True):
    """One listing and when the venue gave it, epoch seconds of the run's clock."""

    pair: Pair
    listed_s: float


def path_of_kept() -> Path:
    """Return the file of this run's venue."""
    return broker_dir(BROKER) / "_cache" / f"{BROKER}.listings.json"


def _read(path: Path) -> dict[str, Kept]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Kept])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as err:
        log.warning("kept listings are not readable path=%s cause=%s", path, err)
        return {}


def keep(path: Path, pair: Pair) -> None:
    """Keep a listing that the venue has just given; the oldest make room."""
    kept = {name: one for name, one in _read(path).items() if name != pair.symbol}
    newest = sorted(kept.items(), key=lambda item: item[1].listed_s)[-(KEPT_MAX - 1) :]
    found = dict(newest) | {pair.symbol: Kept(pair, clock.now_s())}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}")
        temporary.write_bytes(msgspec.json.encode(found))
        temporary.replace(path)
    except OSError as err:
        log.warning("listing not kept path=%s cause=%s", path, err)


def find_kept(path: Path, symbol: str) -> Pair | None:
    """Return the listing of `symbol` unless it is older than a day or there is none."""
    kept = _read(path).get(symbol)
    if kept is None or abs(clock.now_s() - kept.listed_s) > KEPT_FOR_S:
        return None
    return kept.pair
