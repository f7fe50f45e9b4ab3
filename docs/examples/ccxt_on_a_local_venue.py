"""Point ccxt at a local venue: python docs/examples/ccxt_on_a_local_venue.py URL"""

import sys

import ccxt

URL = sys.argv[1]

exchange = ccxt.binance({"options": {"fetchMarkets": {"types": ["spot"]}}})
exchange.session.trust_env = False  # a proxy of the environment has no business on loopback
exchange.urls["api"] = {
    name: address.replace("https://api.binance.com", URL)
    for name, address in exchange.urls["api"].items()
}

print(sorted(exchange.load_markets()))
book = exchange.fetch_order_book("BTC/USDT", limit=5)
print("best bid", book["bids"][0], "best ask", book["asks"][0])
for time_ms, *prices, volume in exchange.fetch_ohlcv("BTC/USDT", "1m", limit=3):
    print(time_ms, prices, volume)
