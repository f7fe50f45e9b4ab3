"""The table of endpoints, and what a feed must say first."""

from __future__ import annotations

from decimal import Decimal
from types import ModuleType
from typing import Any

import msgspec
import pytest

from piker.brokers import get_brokermod, iter_brokermods
from piker.data.validate import (
    FeedInit,
    FeedInitializationError,
    _eps,
    get_eps,
    missing_eps,
    validate_backend,
)
from piker.model.market import Asset, MktPair

MKT = MktPair(
    dst=Asset("btc", "crypto_currency", Decimal("1E-8")),
    src=Asset("usdt", "crypto_currency", Decimal("1E-8")),
    price_tick=Decimal("0.01"),
    size_tick=Decimal("0.00001"),
    bs_mktid="BTCUSDT",
    broker="some",
    venue="spot",
)


def backend(**endpoints: Any) -> ModuleType:
    mod = ModuleType("piker.brokers.some")
    vars(mod).update(name="some", **endpoints)
    return mod


def test_table_of_endpoints_is_the_contract() -> None:
    assert _eps == {
        "middleware": ["get_client"],
        "datad": ["get_mkt_info", "open_history_client", "open_symbol_search", "stream_quotes"],
        "brokerd": ["open_trade_dialog", "norm_trade"],
    }


def test_get_eps_leaves_out_what_a_backend_lacks() -> None:
    mod = backend(stream_quotes=len, get_mkt_info=5, open_trade_dialog=len)
    assert get_eps(mod, "datad") == {"stream_quotes": len}
    assert list(get_eps(mod, "brokerd")) == ["open_trade_dialog"]
    assert missing_eps(mod, "middleware") == ["get_client"]


def test_an_unknown_kind_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError):
        get_eps(backend(), "webd")


@pytest.mark.parametrize("name", ["btcusdt.spot.some", "btcusdt.some", "BTCUSDT", "btcusdt.spot"])
def test_one_init_of_the_market_asked_for_is_accepted(name: str) -> None:
    init = FeedInit(MKT)
    assert validate_backend(backend(), [name], [init]) is init
    assert init.shm_write_opts == {"has_vlm": True, "sum_tick_vlm": True}


@pytest.mark.parametrize(
    ("inits", "word"),
    [
        ([], "0 init messages"),
        ([FeedInit(MKT), FeedInit(MKT)], "2 init messages"),
        ([{"symbol_info": {}, "fqsn": "btcusdt"}], "a dict, expected a FeedInit"),
    ],
)
def test_no_or_too_many_or_other_inits_are_refused(inits: list[Any], word: str) -> None:
    with pytest.raises(FeedInitializationError, match=word):
        validate_backend(backend(), ["btcusdt.some"], inits)


def test_a_feed_of_another_market_is_refused() -> None:
    with pytest.raises(FeedInitializationError, match="expected ethusdt"):
        validate_backend(backend(), ["ethusdt.spot.some"], [FeedInit(MKT)])


def test_a_market_of_unknown_kind_is_refused() -> None:
    guessed = MktPair.from_fqme("btcusdt.spot.some", "0.01", "1", "BTCUSDT")
    for mkt in (guessed, msgspec.structs.replace(guessed, dst="btc")):
        with pytest.raises(FeedInitializationError, match="asset type"):
            validate_backend(backend(), ["btcusdt.spot.some"], [FeedInit(mkt)])


@pytest.mark.parametrize(
    "name", ["doggy", "core", "data", "os", "binance.api", "../x", "", "Binance"]
)
def test_a_name_that_is_no_backend_is_never_imported(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="no backend is named"):
        get_brokermod(name)


def test_every_backend_says_its_name() -> None:
    for mod in iter_brokermods():
        assert mod.name == mod.__name__.rpartition(".")[2]
        assert missing_eps(mod, "middleware") == []
