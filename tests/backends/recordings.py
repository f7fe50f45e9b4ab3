"""Where the recorded market data lies, and how to read it; tests skip when it is absent."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def recordings() -> Path:
    """Return the folder of recordings; skips the test when there is none."""
    folder = Path(os.environ.get("PIKER_TEST_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}; set PIKER_TEST_DATA to their folder")
    return folder


@cache
def binance_spot_lines() -> list[tuple[int, bytes]]:
    """Return the two contiguous BTCUSDT captures as (local time ns, frame)."""
    lines = []
    for day in ("20240808", "20240809"):
        path = recordings() / f"hftbacktest/binance-spot/btcusdt_{day}.gz"
        with gzip.open(path) as file:
            for line in file:
                stamp, _, frame = line.rstrip(b"\n").partition(b" ")
                lines.append((int(stamp), frame))
    return lines


def cryptofeed_lines(name: str) -> Iterator[tuple[str, bytes]]:
    """Yield (what stands before the first `: `, JSON) of each received line of a capture."""
    with (recordings() / "cryptofeed" / name).open("rb") as file:
        for line in file:
            head, _, frame = line.rstrip(b"\n").partition(b": ")
            if frame.startswith((b"{", b"[")):
                yield head.decode(), frame
