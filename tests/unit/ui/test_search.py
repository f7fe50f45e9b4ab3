"""Every provider answers in its own section; one that fails holds no other one up."""

import trio

from piker.errors import ConnectionLost
from piker.ui.messages import Hit, Search
from piker.ui.search import hit_of, loaded_hits, search_providers


async def test_sections_come_as_their_providers_answer(autojump_clock):
    async def slow(text):
        await trio.sleep(3)
        return [{"fqme": "etheur.spot.slow", "base": "ETH", "quote": "EUR"}, {"fqme": "x.slow"}]

    async def quick(text):
        return [{"fqme": f"{text}.quick"}]

    async def broken(text):
        raise ConnectionLost("kraken: gone")

    async def stuck(text):
        await trio.sleep_forever()

    sent = []
    providers = {"slow": slow, "quick": quick, "broken": broken, "stuck": stuck}
    await search_providers(Search(7, " eth "), sent.append, providers, {"x.slow"})
    assert {hits.id for hits in sent} == {7}
    ended = {hits.section: hits for hits in sent if hits.state != "searching"}
    assert ended["quick"].rows[0].fqme == "eth.quick"
    assert ended["slow"].rows == [Hit("etheur.spot.slow", "ETH / EUR, spot")]
    assert ended["broken"].state == "failed"
    assert "kraken: gone" in ended["broken"].text
    assert "no answer" in ended["stuck"].text


async def test_an_empty_text_asks_nobody():
    sent = []
    await search_providers(Search(1, "  "), sent.append, {"x": None})
    assert sent == []


def test_loaded_markets_match_every_word():
    loaded = [("btcusdt.spot.binance", Hit("btcusdt.spot.binance", "BTCUSDT, binance · spot"))]
    assert loaded_hits(1, "btc SPOT", loaded).total == 1
    assert loaded_hits(1, "btc kraken", loaded).total == 0


def test_a_hit_names_what_is_bought_and_with_what():
    row = {"fqme": "btcusdt.spot.binance", "base": "btc", "quote": "usdt", "symbol": "BTCUSDT"}
    assert hit_of(row) == Hit("btcusdt.spot.binance", "BTC / USDT, spot")
    assert hit_of({"fqme": "a.b"}) == Hit("a.b", "")
