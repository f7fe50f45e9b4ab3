"""
The symbology cache: every asset and market of a broker, in one file, searchable.

File `<broker_dir>/_cache/<broker>.symcache.toml`: a format number, `pair_ns_path` (where the
backend's own pair record is defined), `assets` by name, `pairs` by bs_mktid, `mktmaps` by fqme.
A local venue's file lies with its other files, apart. A missing, unreadable or differently
formatted file is built again from the venue; it is a copy, nothing is lost with it.

Backends with `_no_symcache` have none: callers ask `get_mkt_info`.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import msgspec
import tomli_w
import trio
from rapidfuzz import fuzz, process

from piker import config
from piker.brokers import get_brokermod
from piker.errors import BrokerError, ConfigError, PikerError
from piker.log import get_logger
from piker.model.market import Asset, MktPair

log = get_logger(__name__)

FORMAT = 1
SCORE_MIN = 50
PROGRESS_EVERY = 200  # markets between two calls of the progress hook

_T = TypeVar("_T")
Progress = Callable[[int, int], None]  # markets done, markets in all


def match_from_pairs(
    pairs: dict[str, _T], query: str, score_cutoff: float = SCORE_MIN, limit: int | None = 30
) -> dict[str, _T]:
    """
    Return the entries whose key is most like `query`, best first.

    Case does not count; a blank query matches nothing. Equal scores go by length, then name.
    """
    wanted = query.strip().lower()
    if not wanted:
        return {}
    keys = {key: key.lower() for key in pairs}
    hits = process.extract(wanted, keys, scorer=fuzz.WRatio, score_cutoff=score_cutoff, limit=None)
    hits.sort(key=lambda hit: (not hit[0].startswith(wanted), -hit[1], len(hit[0]), hit[0]))
    return {key: pairs[key] for _, _, key in hits[:limit]}


class SymbologyCache:
    """One broker's assets and markets; made by `open_symcache`."""

    def __init__(self, mod: ModuleType, path: Path) -> None:
        self.mod = mod
        self.path = path
        self.assets: dict[str, Asset] = {}
        self.pairs: dict[str, dict[str, Any]] = {}
        self.mktmaps: dict[str, MktPair] = {}
        self.pair_ns_path = ""

    @property
    def broker(self) -> str:
        """The broker's name."""
        return str(self.mod.name)

    async def load(self, *, reload: bool = False, progress: Progress | None = None) -> None:
        """
        Fill the cache from its file, or from the venue when there is none or `reload` is set.

        Raises:
          PikerError: the venue was needed and does not answer.
        """
        if not reload and await trio.to_thread.run_sync(self._read):
            return
        await self.from_scratch(progress)
        await trio.to_thread.run_sync(self.write_config)

    async def from_scratch(self, progress: Progress | None = None) -> None:
        """Build the cache from the venue; pairs whose market is unsupported are left out."""
        async with self.mod.get_client() as client:
            self.assets = await client.get_assets()
            pairs = list((await client.get_mkt_pairs()).values())
            self.pairs, self.mktmaps = {}, {}
            for done, pair in enumerate(pairs, 1):
                self._add(pair, await self._market_of(pair))
                if progress is not None and (done % PROGRESS_EVERY == 0 or done == len(pairs)):
                    progress(done, len(pairs))

    async def _market_of(self, pair: Any) -> MktPair | None:
        try:
            found = await self.mod.get_mkt_info(pair.bs_fqme)
        except BrokerError as err:
            if err.is_transient:
                raise
            log.debug("no market for pair=%s cause=%s", pair.bs_mktid, err)
            return None
        return found[0] if found else None

    def _add(self, pair: Any, mkt: MktPair | None) -> None:
        if mkt is None:
            return
        self.pair_ns_path = pair.ns_path
        self.pairs[pair.bs_mktid] = msgspec.to_builtins(pair)
        self.mktmaps[mkt.fqme] = mkt

    def from_dict(self, content: dict[str, Any]) -> None:
        """
        Fill the cache from the form that `to_dict` wrote.

        Raises:
          ConfigError: another format, or content that does not fit it.
        """
        if content.get("format") != FORMAT:
            raise ConfigError(
                f"{self.path}: format was {content.get('format')!r}, expected {FORMAT}; "
                "remove the file, it is built again"
            )
        try:
            assets = msgspec.convert(content.get("assets", {}), dict[str, Asset])
            mktmaps = msgspec.convert(content.get("mktmaps", {}), dict[str, MktPair])
            pairs = msgspec.convert(content.get("pairs", {}), dict[str, dict[str, Any]])
        except msgspec.ValidationError as err:
            raise ConfigError(f"{self.path}: {err}; remove the file, it is built again") from err
        self.assets, self.mktmaps, self.pairs = assets, mktmaps, pairs
        self.pair_ns_path = str(content.get("pair_ns_path", ""))

    def to_dict(self) -> dict[str, Any]:
        """Return the content of the file."""
        return {
            "format": FORMAT,
            "pair_ns_path": self.pair_ns_path,
            "assets": {name: asset.to_dict() for name, asset in self.assets.items()},
            "pairs": self.pairs,
            "mktmaps": {fqme: mkt.to_dict() for fqme, mkt in self.mktmaps.items()},
        }

    def write_config(self) -> None:
        """
        Write the file whole or not at all.

        Raises:
          ConfigError: the folder cannot be written.
        """
        try:
            _write_atomically(self.path, tomli_w.dumps(self.to_dict()).encode())
        except OSError as err:
            raise ConfigError(
                f"{self.path}: cannot be written ({err.strerror}); make the folder writable"
            ) from err

    def search(
        self, pattern: str, score_cutoff: float = SCORE_MIN, limit: int | None = 30
    ) -> dict[str, MktPair]:
        """Return the markets most like `pattern` by fqme, best first; blank finds nothing."""
        names = {fqme.removesuffix(f".{self.broker}"): fqme for fqme in self.mktmaps}
        hits = match_from_pairs(names, pattern, score_cutoff, limit)
        return {fqme: self.mktmaps[fqme] for fqme in hits.values()}

    def _read(self) -> bool:
        """Read the file; return whether the cache is filled now."""
        try:
            self.from_dict(tomllib.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return False
        except (ConfigError, OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as err:
            log.warning("symbology cache is built again path=%s cause=%s", self.path, err)
            return False
        return bool(self.mktmaps)


def _write_atomically(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class _Shelf:
    """This actor's caches by file, and a lock per file so that two tasks build one once."""

    def __init__(self) -> None:
        self.caches: dict[Path, SymbologyCache] = {}
        self.locks: dict[Path, trio.Lock] = {}


_shelf: trio.lowlevel.RunVar[_Shelf] = trio.lowlevel.RunVar("symbology caches")


def _get_shelf() -> _Shelf:
    try:
        return _shelf.get()
    except LookupError:
        _shelf.set(_Shelf())
        return _shelf.get()


@asynccontextmanager
async def open_symcache(
    mod_or_name: ModuleType | str,
    reload: bool = False,
    only_from_memcache: bool = False,
    progress: Progress | None = None,
) -> AsyncIterator[SymbologyCache]:
    """
    Yield the broker's symbology cache, loaded once per actor.

    `reload` builds it from the venue; `only_from_memcache` never reads a file nor asks the venue.
    A backend with `_no_symcache` gets an empty one.

    Raises:
      ModuleNotFoundError: no such backend.
      PikerError: the venue was needed and does not answer; or `only_from_memcache` and not loaded.
    """
    mod = get_brokermod(mod_or_name) if isinstance(mod_or_name, str) else mod_or_name
    name = str(mod.name)
    path = config.broker_dir(name) / "_cache" / f"{name}.symcache.toml"
    shelf = _get_shelf()
    async with shelf.locks.setdefault(path, trio.Lock()):
        cache = shelf.caches.get(path)
        if cache is None and only_from_memcache:
            raise PikerError(f"{name}: its symbology cache is not loaded in this process")
        if cache is None or reload:
            cache = SymbologyCache(mod, path)
            if not getattr(mod, "_no_symcache", False):
                await cache.load(reload=reload, progress=progress)
            shelf.caches[path] = cache
    yield cache


async def get_symcache(provider: str, force_reload: bool = False) -> SymbologyCache:
    """Return the broker's symbology cache; raises as `open_symcache` does."""
    async with open_symcache(provider, reload=force_reload) as cache:
        return cache
