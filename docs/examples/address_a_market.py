"""Take a market's address apart, and snap a price to its increment. Needs no running tree."""

from decimal import Decimal

from piker.model.market import MktPair, snap, unpack_fqme

broker, pair, venue, suffix = unpack_fqme("mnq.cme.20261218.ib")
print(broker, pair, venue, suffix)

market = MktPair.from_fqme("mnq.cme.20261218.ib", "0.25", "1", bs_mktid="mnq-2026-12")
print(market.fqme, market.expiry, market.quantize("21000.4", "price"))

print(snap(Decimal("0.1234567"), Decimal("0.00001")))
