"""
The end of a journal on its disk: where records are written, and the head mark beside them.

Everything here blocks and runs in a worker thread, one call at a time (but `sync_mark`).

Rules:
1. Nothing that was written is ever written over: an end that is not clean is left as it is, and
   the journal goes on in a new segment.
2. A segment appears whole, first record and snapshot included, or not at all: it is written under
   a temporary name, synced, renamed, and the folder is synced.
3. The mark never names a record that is not durable. It is written after each sync and itself
   synced by `sync_mark`: a killed process leaves it exact, or one group behind when it died
   between the two; a lost machine leaves it as old as its own last sync.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

import msgspec

from piker.storage._journal_format import (
    FORMAT,
    FRAME_BYTES,
    MARK_BYTES,
    Kind,
    Mark,
    MarkReading,
    SegmentHeader,
    decode_marks,
    encode_frame,
    encode_mark,
    mark_offset,
)
from piker.storage._journal_scan import Scanner
from piker.storage.disk import Disk, File

MARK_NAME: Final = "head"
_TEMPORARY: Final = ".new"


def segment_name(number: int) -> str:
    """Return the file name of a segment; names sort as their numbers do."""
    return f"journal-{number:08d}.log"


def segment_numbers(disk: Disk, first: int) -> list[int]:
    """Return the numbers, ascending, of the segments on a disk from `first` on."""
    middles = [
        name.removeprefix("journal-").removesuffix(".log")
        for name in disk.names()
        if name.startswith("journal-") and name.endswith(".log")
    ]
    numbers = (int(middle) for middle in middles if middle.isdecimal())
    return sorted(number for number in numbers if number >= first)


def read_mark(disk: Disk) -> MarkReading:
    """Return what the mark's file says; a missing one has no mark and no flaw."""
    try:
        return decode_marks(disk.read(MARK_NAME))
    except FileNotFoundError:
        return MarkReading(None, 0)


class Tail:
    """Made by `open_tail`; after an `OSError` of `append` or `start_segment` it is of no use."""

    def __init__(self, disk: Disk, account: str, segment_bytes: int, scanner: Scanner) -> None:
        self.sequence = scanner.sequence
        self.segment_ends = dict(scanner.segment_ends)
        self.snapshot_segment = scanner.snapshot_segment
        self._disk = disk
        self._account = account
        self._segment_bytes = segment_bytes
        self._link = scanner.link
        self._number = max(self.segment_ends, default=0)
        self._file: File | None = None
        self._offset = self._size = 0
        first = min(self.segment_ends, default=1)
        found = scanner.mark or Mark(0, self.sequence, self._link, 0, first, is_closed=False)
        self._mark = found
        self._mark_file: File | None = None
        self._mark_error: OSError | None = None
        self._unmarked_ns = 0  # when the last group was taken, which the mark does not name yet

    @property
    def room(self) -> int:
        """How many bytes of frames the segment still takes."""
        return self._size - self._offset

    @property
    def number(self) -> int:
        """The segment that is written."""
        return self._number

    def append(self, records: Sequence[tuple[int, bytes]]) -> None:
        """
        Write `(time_ns, payload)` records as one group and make them durable.

        `write_mark` comes after it, and need not be waited for.
        """
        assert self._file is not None
        self._check_mark()
        frames, link, sequence = [], self._link, self.sequence
        for time_ns, payload in records:
            sequence += 1
            frame, link = encode_frame(Kind.RECORD, sequence, time_ns, payload, link)
            frames.append(frame)
        data = b"".join(frames)
        assert len(data) <= self.room, "the caller asks for room first"
        self._file.write(self._offset, data)
        self._file.sync()
        self._offset += len(data)
        self._link, self.sequence = link, sequence
        self.segment_ends[self._number] = sequence
        self._unmarked_ns = records[-1][0]

    def write_mark(self) -> None:
        """Have the mark name the last group; what goes wrong is raised by the next call."""
        try:
            self._write_mark(self._unmarked_ns)
        except OSError as error:
            self._mark_error = error

    def start_segment(self, snapshot: Sequence[bytes], time_ns: int, room_min: int = 0) -> None:
        """
        Go on in a new segment that begins with `snapshot` and has room for `room_min` bytes.

        Raises:
          OSError: with no room on the disk, and only then, the old segment is still in use.
        """
        number = self._number + 1
        data, link, sequence = self._first_bytes(number, snapshot, time_ns)
        size = len(data) + max(self._segment_bytes, room_min)
        file = self._new_segment(segment_name(number), data, size)
        if self._file is not None:
            self._file.close()
        self._file, self._size, self._offset = file, size, len(data)
        self._number, self._link, self.sequence = number, link, sequence
        self.segment_ends[number] = sequence
        if snapshot:
            self.snapshot_segment = number
        with _never_full():
            self._write_mark(time_ns)
            self.sync_mark()

    def sync_mark(self) -> None:
        """Make the mark durable as it stands."""
        assert self._mark_file is not None
        self._check_mark()
        self._mark_file.sync()

    def remove(self, through_sequence: int, time_ns: int) -> int:
        """Remove the segments before the last snapshot that end by a sequence; return how many."""
        going = [
            number
            for number, end in self.segment_ends.items()
            if number < self.snapshot_segment and end <= through_sequence
        ]
        # Oldest first and without a hole: what stands must follow on from what is known.
        going = [number for at, number in enumerate(sorted(going)) if number == self._oldest(at)]
        if not going:
            return 0
        self._write_mark(time_ns, first_segment=going[-1] + 1)
        self.sync_mark()
        for number in going:
            self._disk.remove(segment_name(number))
            del self.segment_ends[number]
        self._disk.sync_folder()
        return len(going)

    def close(self, time_ns: int | None) -> None:
        """Let go of the files; with a time, mark the end as a clean one first."""
        try:
            if time_ns is not None:
                self._write_mark(time_ns, is_closed=True)
                self.sync_mark()
        finally:
            for file in (self._file, self._mark_file):
                if file is not None:
                    file.close()

    def prepare(self, is_clean_end: bool, offset: int, size: int, time_ns: int) -> None:
        """Make the folder ready to append to: see the rules above."""
        for name in self._disk.names():
            if name.endswith(_TEMPORARY):
                self._disk.remove(name)
        self._open_mark(time_ns)
        for number in segment_numbers(self._disk, 0):
            if number < self._mark.first_segment:
                self._disk.remove(segment_name(number))
        # What a killed process wrote may still be on its way to the disk: it counts from here on.
        if self.segment_ends:
            self._file = self._disk.open(segment_name(self._number))
            self._file.sync()
        self._disk.sync_folder()
        if not is_clean_end:
            self.start_segment((), time_ns)
            return
        self._offset, self._size = offset, size
        self._write_mark(time_ns)
        self.sync_mark()

    def _new_segment(self, name: str, data: bytes, size: int) -> File:
        """Return a new segment's file, durable under its name, that begins with `data`."""
        temporary = name + _TEMPORARY
        file = self._disk.create(temporary, size)
        try:
            try:
                file.write(0, data)
                file.sync()
            except OSError:
                with suppress(OSError):
                    self._disk.remove(temporary)
                raise
            with _never_full():
                self._disk.rename(temporary, name)
                self._disk.sync_folder()
        except OSError:
            file.close()
            raise
        return file

    def _oldest(self, at: int) -> int:
        return sorted(self.segment_ends)[at]

    def _first_bytes(
        self, number: int, snapshot: Sequence[bytes], time_ns: int
    ) -> tuple[bytes, bytes, int]:
        """Return how a segment begins, its last link and its last sequence."""
        header = SegmentHeader(
            FORMAT, self._account, number, self.sequence, self._link.hex(), len(snapshot)
        )
        payloads = [(Kind.HEADER, msgspec.json.encode(header))]
        payloads += [(Kind.SNAPSHOT, part) for part in snapshot]
        frames, link, sequence = [], self._link, self.sequence
        for kind, payload in payloads:
            sequence += 1
            frame, link = encode_frame(kind, sequence, time_ns, payload, link)
            frames.append(frame)
        return b"".join(frames), link, sequence

    def _open_mark(self, time_ns: int) -> None:
        if MARK_NAME in self._disk.names() and len(self._disk.read(MARK_NAME)) == MARK_BYTES:
            self._mark_file = self._disk.open(MARK_NAME)
            return
        temporary = MARK_NAME + _TEMPORARY
        self._mark_file = self._disk.create(temporary, MARK_BYTES)
        self._write_mark(time_ns)
        self.sync_mark()
        self._disk.rename(temporary, MARK_NAME)
        self._disk.sync_folder()

    def _check_mark(self) -> None:
        if self._mark_error is not None:
            raise self._mark_error

    def _write_mark(
        self, time_ns: int, *, first_segment: int | None = None, is_closed: bool = False
    ) -> None:
        assert self._mark_file is not None
        first = self._mark.first_segment if first_segment is None else first_segment
        count = self._mark.count + 1
        self._mark = Mark(count, self.sequence, self._link, time_ns, first, is_closed)
        self._mark_file.write(mark_offset(self._mark), encode_mark(self._mark))


@contextmanager
def _never_full() -> Iterator[None]:
    """Where a full disk would leave the folder in doubt, let it be an error like any other."""
    try:
        yield
    except OSError as error:
        raise OSError(errno.EIO, error.strerror or str(error)) from error


def frame_bytes(payload: bytes) -> int:
    """Return what a record takes of a segment."""
    return FRAME_BYTES + len(payload)
