"""The symbology cache: built, kept, found again and never trusted when broken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from piker.data.symcache import match_from_pairs, open_symcache
from piker.errors import ConnectionLost, PikerError, SymbolNotFound
from piker.model.market import Asset, MktPair


class Pair(msgspec.Struct, frozen=True):
    symbol: str
    ns_path: str = "tests:Pair"

    @property
    def bs_mktid(self) -> str:
        return f"{self.symbol}.SPOT"

    @property
    def bs_fqme(self) -> str:
        return f"{self.symbol}.spot".lower()


class Client:
    def __init__(self, mod: Backend) -> None:
        self._mod = mod

    async def get_assets(self) -> dict[str, Asset]:
        self._mod.listed += 1
        if self._mod.is_down:
            raise ConnectionLost("down")
        return {name: asset(name) for name in ("btc", "eth", "usdt")}

    async def get_mkt_pairs(self) -> dict[str, Pair]:
        return {name: Pair(name) for name in ("BTCUSDT", "ETHUSDT", "ETHBTC", "ODDONE", "NONEUSDT")}


def asset(name: str) -> Asset:
    return Asset(name, "crypto_currency", Decimal("1E-8"))


class Backend(ModuleType):
    """A backend of three markets, one the venue refuses and one it does not support."""

    def __init__(self) -> None:
        super().__init__("piker.brokers.some")
        self.name = "some"
        self.listed = 0
        self.is_down = False

    @asynccontextmanager
    async def get_client(self) -> AsyncIterator[Client]:
        yield Client(self)

    async def get_mkt_info(self, bs_fqme: str) -> tuple[MktPair, Pair] | None:
        symbol = bs_fqme.removesuffix(".spot").upper()
        if symbol == "ODDONE":
            raise SymbolNotFound("odd")
        if symbol == "NONEUSDT":
            return None
        mkt = MktPair(
            dst=asset(symbol[:3].lower()),
            src=asset(symbol[3:].lower()),
            price_tick=Decimal("0.01"),
            size_tick=Decimal("0.00001"),
            bs_mktid=symbol,
            broker="some",
            venue="spot",
        )
        return mkt, Pair(symbol)


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    monkeypatch.setenv("PIKER_CONFIG_DIR", str(tmp_path))
    return Backend()


def cache_file(tmp_path: Path) -> Path:
    return tmp_path / "_cache" / "some.symcache.toml"


async def test_cache_is_built_from_the_venue_without_unsupported_markets(
    backend: Backend, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    async with open_symcache(backend, progress=lambda done, n: seen.append((done, n))) as cache:
        assert set(cache.mktmaps) == {
            "btcusdt.spot.some",
            "ethusdt.spot.some",
            "ethbtc.spot.some",
        }
        assert cache.pairs["BTCUSDT.SPOT"]["symbol"] == "BTCUSDT"
        assert cache.pair_ns_path == "tests:Pair"
        assert cache.mktmaps["btcusdt.spot.some"].resolved
    assert seen == [(5, 5)]
    assert cache_file(tmp_path).exists()
    assert [path.name for path in cache_file(tmp_path).parent.iterdir()] == ["some.symcache.toml"]


async def test_memory_answers_the_second_time(backend: Backend) -> None:
    async with open_symcache(backend) as first, open_symcache(backend) as second:
        assert second is first
    async with open_symcache(backend, only_from_memcache=True) as third:
        assert third is first
    assert backend.listed == 1


async def test_only_memory_refuses_when_nothing_is_loaded(backend: Backend) -> None:
    with pytest.raises(PikerError, match="not loaded"):
        async with open_symcache(backend, only_from_memcache=True):
            pass


async def test_file_answers_a_new_process(backend: Backend) -> None:
    async with open_symcache(backend) as built:
        pass
    backend.is_down = True
    again = type(built)(backend, built.path)
    await again.load()
    assert again.mktmaps == built.mktmaps
    assert again.assets == built.assets
    assert again.pairs == built.pairs
    assert backend.listed == 1


async def test_reload_asks_the_venue(backend: Backend) -> None:
    async with open_symcache(backend):
        pass
    async with open_symcache(backend, reload=True):
        pass
    assert backend.listed == 2


@pytest.mark.parametrize(
    "content",
    [
        "",
        "rubbish [",
        "format = 99\n",
        'format = 1\n[mktmaps."a.b"]\ndst = 5\n',
        "\x00",
        "format = 1\n",
    ],
)
async def test_a_broken_file_is_built_again(backend: Backend, tmp_path: Path, content: str) -> None:
    cache_file(tmp_path).parent.mkdir()
    cache_file(tmp_path).write_text(content)
    async with open_symcache(backend) as cache:
        assert len(cache.mktmaps) == 3
    assert backend.listed == 1


async def test_a_venue_that_is_down_leaves_no_file(backend: Backend, tmp_path: Path) -> None:
    backend.is_down = True
    with pytest.raises(ConnectionLost):
        async with open_symcache(backend):
            pass
    assert not cache_file(tmp_path).exists()


async def test_a_backend_without_symbology_has_an_empty_cache(backend: Backend) -> None:
    backend._no_symcache = True
    async with open_symcache(backend) as cache:
        assert cache.mktmaps == {}
    assert backend.listed == 0


async def test_search_finds_the_closest_first(backend: Backend) -> None:
    async with open_symcache(backend) as cache:
        assert next(iter(cache.search("btcusdt"))) == "btcusdt.spot.some"
        assert next(iter(cache.search("ETHU"))) == "ethusdt.spot.some"
        assert cache.search("  ") == {}


def test_match_from_pairs_is_stable_and_bounded() -> None:
    pairs = {name: name for name in ("BTCUSDT", "BTCUSDC", "ETHBTC", "XRPUSDT")}
    assert list(match_from_pairs(pairs, "btcusdt"))[:2] == ["BTCUSDT", "BTCUSDC"]
    assert len(match_from_pairs(pairs, "usd", limit=2)) == 2
    assert match_from_pairs(pairs, "") == {}
