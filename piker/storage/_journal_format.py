"""
The bytes of the order journal: frames, the first record of a segment, the head mark. No I/O.

A segment is a run of frames, then zeros to its preallocated end:

    magic 4 | check 4 | length 4 | sequence 8 | time_ns 8 | kind 1 | link 16 | payload | 0xA5

Rules:
1. `check` is the CRC-32 of everything after it, so every byte of a frame is covered.
2. `link` is the BLAKE2b hash of the frame before and of this one: no record can be taken out, put
   in or moved unseen. Sequence numbers count every frame, across segments, from 1.
3. The last byte of a frame is never zero: where the zeros begin tells how much was written.
4. The first frame of a segment says format, account and what it follows. Its layout and the
   frame's are the same in every format, so that another version's journal is known as one.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from hashlib import blake2b
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

FORMAT: Final = 1
MAGIC: Final = b"PKJ\x01"
LINK_BYTES: Final = 16
NO_LINK: Final = bytes(LINK_BYTES)
RECORD_BYTES_MAX: Final = 1 << 18  # as a message of the tree: what is larger is paged
_FIELDS = struct.Struct("<IQqB")  # length, sequence, time_ns, kind
_END = b"\xa5"
_BODY = len(MAGIC) + 4
_PAYLOAD = _BODY + _FIELDS.size + LINK_BYTES
FRAME_BYTES: Final = _PAYLOAD + len(_END)

_MARK = struct.Struct("<4sIQQ16sqII")  # magic, format, count, sequence, link, time, first, flags
_MARK_MAGIC = b"PKJH"
_CLOSED = 1
SLOT_BYTES: Final = 4096  # a page: writing one slot cannot tear the other
MARK_BYTES: Final = 2 * SLOT_BYTES


class Kind(IntEnum):
    """What a frame is."""

    HEADER = 1
    RECORD = 2
    SNAPSHOT = 3


class Frame(NamedTuple):
    """One whole frame; `stop` is where the next one begins."""

    kind: int
    sequence: int
    time_ns: int
    link: bytes
    payload: bytes
    stop: int


class SegmentHeader(msgspec.Struct, frozen=True):
    """The first record of a segment: what it is, and the record that it follows."""

    format: int
    account: str
    number: int
    previous_sequence: int
    previous_link: str
    snapshot_records: int


class Mark(msgspec.Struct, frozen=True):
    """The head mark: the last durable record, and the oldest segment that must be there."""

    count: int
    sequence: int
    link: bytes
    time_ns: int
    first_segment: int
    is_closed: bool


class MarkReading(msgspec.Struct, frozen=True):
    """What the mark's file holds: the newest mark, None when unreadable; `flaws` in its bytes."""

    mark: Mark | None
    flaws: int


def encode_frame(
    kind: Kind, sequence: int, time_ns: int, payload: bytes, previous: bytes
) -> tuple[bytes, bytes]:
    """Return the bytes of a frame that follows `previous`, and its link."""
    fields = _FIELDS.pack(len(payload), sequence, time_ns, kind)
    link = _link(previous, fields, payload)
    body = b"".join((fields, link, payload, _END))
    return b"".join((MAGIC, crc32(body).to_bytes(4, "little"), body)), link


def decode_frame(data: bytes, offset: int) -> Frame | None:
    """Return the whole, undamaged frame at `offset`; None when there is none."""
    if data[offset : offset + 4] != MAGIC or len(data) < offset + FRAME_BYTES:
        return None
    length, sequence, time_ns, kind = _FIELDS.unpack_from(data, offset + _BODY)
    stop = offset + FRAME_BYTES + length
    if length > RECORD_BYTES_MAX or stop > len(data):
        return None
    if crc32(data[offset + _BODY : stop]) != int.from_bytes(
        data[offset + 4 : offset + 8], "little"
    ):
        return None
    start = offset + _PAYLOAD
    link = data[start - LINK_BYTES : start]
    return Frame(kind, sequence, time_ns, link, data[start : stop - len(_END)], stop)


def find_frame(data: bytes, offset: int, after: int) -> tuple[int, Frame] | None:
    """Return the first whole frame at or past `offset` of a sequence above `after`, and where."""
    while (offset := data.find(MAGIC, offset)) >= 0:
        frame = decode_frame(data, offset)
        if frame is not None and frame.sequence > after:
            return offset, frame
        offset += 1
    return None


def follows(frame: Frame, previous: bytes) -> bool:
    """Whether a frame's link says that it was written after `previous`."""
    fields = _FIELDS.pack(len(frame.payload), frame.sequence, frame.time_ns, frame.kind)
    return frame.link == _link(previous, fields, frame.payload)


def is_cut_short(data: bytes, offset: int) -> bool:
    """Whether the bytes at `offset`, which are no whole frame, end before the frame should."""
    written = len(data.rstrip(b"\0"))
    if written < offset + _BODY + 4:
        return True
    (length,) = struct.unpack_from("<I", data, offset + _BODY)
    return written < offset + FRAME_BYTES + int(length)


def encode_mark(mark: Mark) -> bytes:
    """Return one slot of the mark's file; it goes to `mark_offset(mark)`."""
    body = _MARK.pack(
        _MARK_MAGIC, FORMAT, mark.count, mark.sequence, mark.link,
        mark.time_ns, mark.first_segment, _CLOSED if mark.is_closed else 0,
    )  # fmt: skip
    return body + crc32(body).to_bytes(4, "little")


def mark_offset(mark: Mark) -> int:
    """Return where a mark goes: the slots take turns, so one of them is always whole."""
    return mark.count % 2 * SLOT_BYTES


def decode_marks(data: bytes) -> MarkReading:
    """Return the newest whole mark of a mark's file."""
    marks, flaws = [], 0 if len(data) == MARK_BYTES else 1
    for slot in (data[:SLOT_BYTES], data[SLOT_BYTES:]):
        mark = _decode_slot(slot)
        if mark is not None:
            marks.append(mark)
        elif slot.strip(b"\0"):
            flaws += 1
    return MarkReading(max(marks, key=lambda mark: mark.count, default=None), flaws)


def _decode_slot(slot: bytes) -> Mark | None:
    body, check = slot[: _MARK.size], slot[_MARK.size : _MARK.size + 4]
    if len(body) < _MARK.size or int.from_bytes(check, "little") != crc32(body):
        return None
    magic, _format, count, sequence, link, time_ns, first, flags = _MARK.unpack(body)
    if magic != _MARK_MAGIC or slot[_MARK.size + 4 :].strip(b"\0"):
        return None
    return Mark(count, sequence, link, time_ns, first, bool(flags & _CLOSED))


def _link(previous: bytes, fields: bytes, payload: bytes) -> bytes:
    return blake2b(previous + fields + payload, digest_size=LINK_BYTES).digest()
