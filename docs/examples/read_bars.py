"""Read the newest closed one-minute bars of a market as a numpy array, and sum one up."""

import sys

import trio

from piker import _entry as _entry  # silences warnings of the pinned trio
from piker.data.feed import open_feed
from piker.model.bars import PARTIAL
from piker.service import open_piker_runtime
from piker.service.private import ensure_pikerd

FQME = sys.argv[1] if len(sys.argv) > 1 else "btcusdt.spot.binance"


async def main() -> None:
    await ensure_pikerd()  # joins the run of PIKER_CONFIG_DIR, or starts a private one
    async with open_piker_runtime("read_bars"), open_feed([FQME]) as feed:
        flume = feed.flumes[FQME]
        async for message in flume.events():  # history loads behind us: wait until it is there
            if message["event"] == "load" and message["period_s"] == 60 and message["done"]:
                break
        bars = flume.hist_shm.last(61)[:-1]  # the newest row is still forming
        whole = bars[bars["flags"] & PARTIAL == 0]
        print(len(bars), "bars,", len(whole), "of them whole")
        print("high", bars["high"].max(), "low", bars["low"].min(), "volume", bars["volume"].sum())


if __name__ == "__main__":  # tractor loads this file again in processes that it starts
    trio.run(main)
