"""Print ten trades of a market as they happen, each read from shared memory."""

import sys

import trio

from piker import _entry as _entry  # silences warnings of the pinned trio
from piker.data.feed import open_feed
from piker.model.ticks import GAP, TAKER_SELL, TRADE
from piker.service import open_piker_runtime
from piker.service.private import ensure_pikerd

FQME = sys.argv[1] if len(sys.argv) > 1 else "btcusdt.spot.binance"


async def main() -> None:
    await ensure_pikerd()  # joins the run of PIKER_CONFIG_DIR, or starts a private one
    async with open_piker_runtime("watch_trades"), open_feed([FQME]) as feed:
        flume = feed.flumes[FQME]
        seen = 0
        async with flume.open_ticks() as batches:
            async for batch in batches:
                for tick in batch[batch["type"] == GAP]:
                    print("missed", tick["tid"], "records")
                for tick in batch[batch["type"] == TRADE]:
                    side = "sold" if tick["flags"] & TAKER_SELL else "bought"
                    print(tick["tid"], side, tick["size"], "at", tick["price"])
                    seen += 1
                if seen >= 10:
                    return


if __name__ == "__main__":  # tractor loads this file again in processes that it starts
    trio.run(main)
