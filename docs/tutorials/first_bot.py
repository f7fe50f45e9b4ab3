"""Buy a little on paper, wait until it is filled, and say what is held then."""

import sys

import trio

from piker import _entry as _entry  # silences warnings of the pinned trio
from piker.clearing import open_ems
from piker.data.feed import open_feed
from piker.service import open_piker_runtime
from piker.service.private import ensure_pikerd

FQME = sys.argv[1] if len(sys.argv) > 1 else "btcusdt.spot.binance"


async def main() -> None:
    await ensure_pikerd()  # joins the run of PIKER_CONFIG_DIR, or starts a private one
    async with open_piker_runtime("first_bot"), open_feed([FQME]) as feed:
        quote = await anext(feed.streams["binance"])
        ask = quote[FQME]["ask"]
        async with open_ems(FQME, client_ref="first_bot") as (ems, trades, _, _, _):
            limit = ems.mkt.quantize(ask * 1.001, "price")  # 0.1 % above the best offer
            order = ems.order("buy", limit, "0.001", time_in_force="ioc")
            await ems.send(order)
            async for told in trades:
                if told.name == "status" and told.oid == order.oid:
                    print(told.resp, told.brokerd_msg.get("size", ""), told.reason)
                    if told.is_terminal:
                        break
                elif told.name == "position":
                    print("position", told.size, "at", told.avg_price)


if __name__ == "__main__":  # tractor loads this file again in processes that it starts
    trio.run(main)
