"""
A consumer as an algo developer writes it, in a process of its own: what the tests stop and resume.

Reads one market with an eager tick reader and with a throttled stream, and prints a JSON line
whenever either learns that it missed something, plus one a second with what it has.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import trio

from piker import _entry as _entry  # silences the pinned trio's deprecation warnings
from piker.data.feed import Feed, Flume, open_feed
from piker.model.ticks import GAP
from piker.service import open_piker_runtime

counts: dict[str, Any] = {"ticks": 0, "lost": 0, "next_seq": -1, "holes": 0, "quotes": 0}


def say(**facts: Any) -> None:
    """Print one line for the test that watches."""
    print(json.dumps(facts), flush=True)


async def read_ticks(flume: Flume) -> None:
    """Follow every record; count holes in the sequence that no gap record explains."""
    async with flume.open_ticks() as ticks:
        async for batch in ticks:
            for row in batch:
                if row["type"] == GAP:
                    counts["lost"] += int(row["tid"])
                    counts["next_seq"] += int(row["tid"])
                    say(gap=int(row["tid"]))
                    continue
                if counts["next_seq"] not in (-1, int(row["seq"])):
                    counts["holes"] += 1
                counts["next_seq"] = int(row["seq"]) + 1
                counts["ticks"] += 1


async def read_quotes(feed: Feed) -> None:
    """Follow the throttled stream."""
    async with feed.open_multi_stream() as stream:
        async for quotes in stream:
            for quote in quotes.values():
                counts["quotes"] += 1
                counts["last"] = quote["last"]
                if quote.get("resumed"):
                    say(resumed=True, last=quote["last"], lost=quote.get("lost"))


async def main(fqme: str) -> None:
    """Consume `fqme` until the process is ended."""
    async with (
        open_piker_runtime("consumer"),
        open_feed([fqme], tick_throttle=10) as feed,
        trio.open_nursery() as nursery,
    ):
        flume = feed.flumes[fqme]
        nursery.start_soon(read_ticks, flume)
        nursery.start_soon(read_quotes, feed)
        say(ready=True)
        while True:
            await trio.sleep(1)
            rows = flume.hist_shm.last(10)
            say(**counts, bars=[[int(row["time"]), float(row["close"])] for row in rows])


if __name__ == "__main__":
    trio.run(main, sys.argv[1])
