"""Live data: shared memory, the feed bus, bars, `datad` and `samplerd`."""

from piker.data._daemon import maybe_spawn_datad, spawn_datad
from piker.data._sampling import maybe_open_samplerd, open_sample_stream
from piker.data.feed import Feed, Flume, install_datad_search, maybe_open_feed, open_feed
from piker.data.ticktools import frame_ticks, iterticks

__all__ = [
    "Feed",
    "Flume",
    "frame_ticks",
    "install_datad_search",
    "iterticks",
    "maybe_open_feed",
    "maybe_open_samplerd",
    "maybe_spawn_datad",
    "open_feed",
    "open_sample_stream",
    "spawn_datad",
]
