"""
Recorded Binance spot streams: what was on the wire, and the market that it tells.

A tape file is gzipped text, one frame a line: `<local ns> <json>`, the JSON a combined-stream
message as received, or the REST depth snapshot that the recorder fetched (`lastUpdateId`).
Several files are one tape when each begins after the one before. Frames are played verbatim;
everything REST says is derived from them, up to the moment that has been played.
"""

from __future__ import annotations

import gzip
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from piker.errors import ConfigError
from piker.venues._tape_source import STREAM, Frame, Snapshot, TapeSource

TAPE_BYTES_MAX: Final = 1_000_000_000  # decompressed; a tape is held in memory
LOOP_PAUSE_NS: Final = 100_000_000  # between the last frame and the first of the next loop


class Tape:
    """
    All frames in order of arrival, and one `TapeSource` for each market on it.

    `start_again` moves every stamp and id on by the length of the tape, so that a looped tape is
    one market in time.
    """

    def __init__(self, frames: list[Frame], sources: dict[str, TapeSource]) -> None:
        self.frames = frames
        self.sources = sources
        self._local_ns = [frame.local_ns for frame in frames]
        length_ns = frames[-1].local_ns - frames[0].local_ns + LOOP_PAUSE_NS
        self._length_ms = -(-length_ns // 1_000_000)
        self._loops = 0

    def played(self, upto_ns: int) -> int:
        """Return how many frames of this loop arrived before `upto_ns`."""
        return bisect_left(self._local_ns, upto_ns - self._loops * self._length_ms * 1_000_000)

    def frame(self, index: int) -> Frame:
        """Return a frame of this loop; the recorded one, verbatim, in the first."""
        frame = self.frames[index]
        if not self._loops:
            return frame
        shift_ms = self._loops * self._length_ms
        source = self.sources[frame.stream.partition("@")[0].upper()]
        combined = source.shifted(frame.combined, shift_ms, self._loops)
        found = STREAM.match(combined)
        assert found is not None
        local_ns = frame.local_ns + shift_ms * 1_000_000
        return Frame(local_ns, frame.stream, combined, found.end())

    def start_again(self) -> None:
        """Begin the next loop."""
        self._loops += 1
        for source in self.sources.values():
            source.start_again(self._loops, self._loops * self._length_ms)


def load_tape(paths: Sequence[Path]) -> Tape:
    """
    Read tape files, in order.

    Raises:
      ConfigError: a file is missing, is no tape of Binance spot, or is out of order.
    """
    frames: list[Frame] = []
    snapshots: list[tuple[int, bytes]] = []
    for path in paths:
        before = frames[-1].local_ns if frames else 0
        for number, (local_ns, payload) in enumerate(_lines(path), 1):
            if local_ns < before:
                raise ConfigError(
                    f"{path}:{number}: time stamp was {local_ns}, expected at least {before}; "
                    "give the files in the order of their time"
                )
            before = local_ns
            found = STREAM.match(payload)
            if found:
                stream = f"{found[1].decode()}@{found[2].decode()}"
                frames.append(Frame(local_ns, stream, payload, found.end()))
            elif payload.startswith(b'{"lastUpdateId"'):
                snapshots.append((len(frames), payload))
    if not frames:
        raise ConfigError(f"{paths[0]}: no frame of a Binance stream in it; expected a spot tape")
    return Tape(frames, _sources(frames, snapshots))


def _lines(path: Path) -> Iterable[tuple[int, bytes]]:
    size = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                size += len(line)
                stamp, _, payload = line.rstrip(b"\r\n").partition(b" ")
                if not stamp.isdigit() or not payload.startswith(b"{") or size > TAPE_BYTES_MAX:
                    raise ConfigError(
                        f"{path}:{number}: was {line[:40]!r}, expected `<local ns> <json>` "
                        f"and at most {TAPE_BYTES_MAX} bytes"
                    )
                yield int(stamp), payload
    except (OSError, EOFError) as error:
        raise ConfigError(f"{path}: {error}; expected a readable tape file") from None


def _sources(frames: list[Frame], snapshots: list[tuple[int, bytes]]) -> dict[str, TapeSource]:
    by_symbol: dict[str, dict[str, list[Frame]]] = {}
    for frame in frames:
        name, _, kind = frame.stream.partition("@")
        by_symbol.setdefault(name.upper(), {}).setdefault(kind, []).append(frame)
    sources = {}
    for symbol, kinds in by_symbol.items():
        try:
            sources[symbol] = TapeSource(symbol, kinds)
        except msgspec.DecodeError as error:
            raise ConfigError(f"tape: {symbol}: {error}; expected frames of Binance spot") from None
    for index, payload in snapshots:
        # A snapshot does not name its market: it is that of the update which it interrupts.
        symbol = frames[max(0, index - 1)].stream.partition("@")[0].upper()
        sources[symbol].add_snapshot(msgspec.json.decode(payload, type=Snapshot))
    return sources
