"""Names, increments and the wire form of markets."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from piker.model.market import (
    Asset,
    MktPair,
    dec_digits,
    digits_to_dec,
    plain_text,
    snap,
    unpack_fqme,
)

BTC = Asset("btc", "crypto_currency", Decimal("0.00000001"))
USDT = Asset("usdt", "crypto_currency", Decimal("0.00000001"))


def market(**changes: object) -> MktPair:
    fields = {
        "dst": BTC,
        "src": USDT,
        "price_tick": Decimal("0.01"),
        "size_tick": Decimal("0.00001"),
        "bs_mktid": "BTCUSDT",
        "broker": "binance",
        "venue": "spot",
    }
    return MktPair(**fields | changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fqme", "broker", "parts"),
    [
        ("xmrusdt.kucoin", None, ("kucoin", "xmrusdt", "", "")),
        ("btcusdt.spot.binance", None, ("binance", "btcusdt", "spot", "")),
        ("BTCUSDT.USDTM.PERP.BINANCE", None, ("binance", "btcusdt", "usdtm", "perp")),
        ("btcusdt.usdtm.perp", "binance", ("binance", "btcusdt", "usdtm", "perp")),
        ("btcusdt.spot.binance", "binance", ("binance", "btcusdt", "spot", "")),
        ("tsla.cboe.20230324.200c.ib", None, ("ib", "tsla", "cboe", "20230324.200c")),
        ("a.b.c.d.e.f.ib", None, ("ib", "a", "b", "c.d.e.f")),
        ("eur/usd.idealpro.ib", None, ("ib", "eur/usd", "idealpro", "")),
    ],
)
def test_an_address_splits_into_its_parts(
    fqme: str, broker: str | None, parts: tuple[str, ...]
) -> None:
    assert unpack_fqme(fqme, broker) == parts


@pytest.mark.parametrize("fqme", ["", "btcusdt", ".", "a..b", ".binance", "btcusdt."])
def test_an_address_with_too_few_or_empty_tokens_is_refused(fqme: str) -> None:
    with pytest.raises(ValueError, match="Invalid fqme"):
        unpack_fqme(fqme)


@pytest.mark.parametrize(
    ("value", "tick", "snapped"),
    [
        ("10.13", "0.25", "10.25"),
        ("10.124", "0.25", "10.00"),
        ("7", "5", "5"),
        ("12.5", "5", "10"),  # ties to even
        ("1.4", "1", "1"),
        ("0.123456789", "0.00001", "0.12346"),
        ("3.14159", "0", "3.14159"),
        ("100.005", "0.010", "100.00"),
        ("1e-7", "0.00000005", "0.00000010"),
    ],
)
def test_a_value_snaps_to_a_multiple_of_its_tick(value: str, tick: str, snapped: str) -> None:
    assert f"{snap(value, Decimal(tick)):f}" == snapped


def test_floats_are_read_by_their_shortest_form() -> None:
    assert snap(0.1 + 0.2, Decimal("0.1")) == Decimal("0.3")
    assert market().quantize(61837.63, "price") == Decimal("61837.63")


@pytest.mark.parametrize(
    ("value", "digits"), [("0.010", 2), ("0.25", 2), ("5", 0), ("1E+2", 0), ("0", 0), ("1E-8", 8)]
)
def test_digits_do_not_count_trailing_zeros(value: str, digits: int) -> None:
    assert dec_digits(Decimal(value)) == digits


def test_digits_make_an_increment() -> None:
    assert [str(digits_to_dec(n)) for n in (0, 1, 3)] == ["0", "0.1", "0.001"]


def test_an_address_is_built_from_what_is_there() -> None:
    assert market().fqme == "btcusdt.spot.binance"
    assert market().bs_fqme == "btcusdt.spot"
    assert market(venue="").fqme == "btcusdt.binance"
    future = market(venue="usdtm", expiry="perp")
    assert future.fqme == "btcusdt.usdtm.perp.binance"
    assert market().get_fqme(delim_char="/") == "btc/usdt.spot.binance"
    option = market(
        dst="tsla", src="", venue="cboe", expiry="20230324", contract_info=["200c"], broker="ib",
        _fqme_without_src=True,
    )  # fmt: skip
    assert option.fqme == "tsla.cboe.20230324.200c.ib"
    assert unpack_fqme(option.fqme) == ("ib", "tsla", "cboe", option.suffix)


@pytest.mark.parametrize(
    "changes", [{}, {"src": "usdt"}, {"dst": "btc", "src": ""}, {"size_tick": Decimal(0)}]
)
def test_the_wire_form_goes_there_and_back(changes: dict[str, object]) -> None:
    mkt = market(**changes)
    wire = msgspec.msgpack.decode(msgspec.msgpack.encode(mkt.to_dict()))
    assert MktPair.from_msg(wire) == mkt
    assert wire["price_tick"] == "0.01"
    assert None not in wire.values()


def test_a_market_read_from_its_address_is_of_unknown_kind() -> None:
    mkt = MktPair.from_fqme("btcusdt.spot", "0.01", "1", "BTCUSDT", broker="binance")
    assert mkt.fqme == "btcusdt.spot.binance"
    assert mkt.src == ""
    assert mkt.type_key == "unknown"
    with pytest.raises(ValueError, match="venue was 'margin', expected 'spot'"):
        MktPair.from_fqme("btcusdt.spot.binance", "0.01", "1", "BTCUSDT", venue="margin")


@pytest.mark.parametrize(
    ("value", "text"), [("1.50E-7", "0.00000015"), ("1E+3", "1000"), ("-2.10", "-2.1"), ("0", "0")]
)
def test_a_number_is_told_without_exponent_and_needless_zeros(value: str, text: str) -> None:
    assert plain_text(Decimal(value)) == text
