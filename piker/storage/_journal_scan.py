"""
What a journal's bytes say: its records in order, and a report of every damage. No I/O.

Rules:
1. Every whole record before a damage is given; those found behind one are given too, flagged.
2. A record counts as durable once when the head mark names it or a later one, or when anything
   follows it. Bytes behind the last whole record that were never durable are a torn tail: the
   process died while it wrote them, and nobody was told that they are safe.
3. What cannot be told apart is said: after a crash of the machine the mark may be up to
   `DOUBT_S` old, and a cut on a record's boundary within that time leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Final

import msgspec

from piker.errors import ConfigError
from piker.storage._journal_format import (
    FORMAT,
    NO_LINK,
    Frame,
    Kind,
    Mark,
    MarkReading,
    SegmentHeader,
    decode_frame,
    find_frame,
    follows,
    is_cut_short,
)

DOUBT_S: Final = 1.0
DAMAGES_MAX: Final = 1000  # listed one by one; more are counted


class UnknownFormat(ConfigError):
    """The journal was written by another version of piker."""


class DamageKind(Enum):
    """The shape of a damage."""

    FLIPPED = "flipped"  # a record was written whole and its bytes have changed since
    TORN = "torn"  # the last write ends within a record
    CUT = "cut"  # records that the head mark, or a later segment, knows of are not there
    STRAY = "stray"  # bytes that belong to no record; nothing is missing
    MARK = "mark"  # the head mark's own bytes


class Damage(msgspec.Struct, frozen=True):
    """One damage; `lost` is the first and last sequence number that was durable and is gone."""

    kind: DamageKind
    segment: int
    offset: int
    text: str
    lost: tuple[int, int] | None = None
    is_grave: bool = False


class Record(msgspec.Struct, frozen=True):
    """
    One record, or one part of a snapshot, as it was appended.

    `is_after_damage`: records before it are lost; a snapshot ends that, it holds all that stood.
    """

    sequence: int
    time_ns: int
    payload: bytes
    segment: int
    is_snapshot: bool
    is_after_damage: bool


class Report(msgspec.Struct, frozen=True):
    """
    What was found in a journal.

    `doubt_s`: a cut on a record's boundary within so many seconds after `mark_time_ns` would
    leave no trace; 0 after a clean stop, None when there is no mark to tell by.
    """

    account: str
    segments: tuple[int, ...]
    records: int
    last_sequence: int
    mark_sequence: int
    mark_time_ns: int
    is_closed: bool
    doubt_s: float | None
    damages: tuple[Damage, ...]
    damages_unlisted: int = 0
    snapshot_segment: int = 0

    @property
    def is_sound(self) -> bool:
        """Whether nothing that was durable is missing."""
        return not any(damage.is_grave for damage in self.damages)

    @property
    def is_state_sound(self) -> bool:
        """Whether nothing is missing from the last snapshot on."""
        return not any(
            damage.is_grave
            and (damage.kind is DamageKind.MARK or damage.segment >= self.snapshot_segment)
            for damage in self.damages
        )

    def lines(self) -> list[str]:
        """Return the report as sentences, one a line."""
        out = [
            f"{self.records} records in {len(self.segments)} segments of account"
            f" {self.account or 'unknown'}, last sequence {self.last_sequence}"
        ]
        out += [f"{damage.kind.value}: {damage.text}" for damage in self.damages]
        if self.damages_unlisted:
            out.append(f"and {self.damages_unlisted} more damages")
        if self.doubt_s is None:
            out.append("no head mark: a cut on a record's boundary cannot be told")
        elif self.doubt_s:
            out.append(
                "not stopped cleanly: if the machine itself went down, a cut on a record's boundary"
                f" within {self.doubt_s:g} s after record {self.mark_sequence} cannot be told"
            )
        return out


class Scanner:
    """
    Reads the segments of one journal in ascending order: `feed` each, then `finish`.

    After `finish`, `segment_ends` maps each segment to its last sequence, `offset` is where the
    next frame of the last segment would go, and `is_clean_end` says whether it may go there.
    """

    def __init__(self, reading: MarkReading) -> None:
        self.mark: Mark | None = reading.mark
        self.sequence = 0
        self.link = NO_LINK
        self.offset = 0
        self.is_clean_end = False
        self.segment_ends: dict[int, int] = {}
        self.snapshot_segment = 0
        self._account = ""
        self._records = 0
        self._damages: list[Damage] = []
        self._damages_unlisted = 0
        self._is_after_damage = False
        self._is_link_known = True
        self._tail: tuple[int, int, bool] | None = None  # segment, offset, ends too early
        for _ in range(reading.flaws):
            self._note(DamageKind.MARK, 0, 0, "one of the head mark's two copies is damaged")

    @property
    def first_segment(self) -> int:
        """The oldest segment that counts; what is older was released and may be gone or not."""
        return 0 if self.mark is None else self.mark.first_segment

    def feed(self, number: int, data: bytes) -> Iterator[Record]:
        """
        Yield the records of segment `number`, whose bytes are `data`.

        Raises:
          UnknownFormat: another version wrote it.
          ConfigError: it is another account's than the segments before.
        """
        is_first, offset = not self.segment_ends, 0
        while True:
            frame = decode_frame(data, offset)
            if frame is None:
                found = find_frame(data, offset + 1, self.sequence)
                if found is None:
                    break
                where, frame = found
                self._skip(number, offset, where, frame, is_first)
            if frame.kind == Kind.HEADER:
                self._enter(number, offset, frame, is_first)
            else:
                yield self._take(number, offset, frame)
            is_first, offset = False, frame.stop
            self.segment_ends[number] = self.sequence
        self.segment_ends.setdefault(number, self.sequence)
        self.offset, self._tail = offset, None
        if data[offset:].strip(b"\0"):
            self._tail = number, offset, is_cut_short(data, offset)

    def finish(self) -> Report:
        """Return the report; the mark has the last word about what must be there."""
        last, mark = self.sequence, self.mark
        self.is_clean_end = self._tail is None and bool(self.segment_ends) and self.offset > 0
        if mark is None and self.segment_ends:
            text = "the head mark is missing or unreadable"
            self._note(DamageKind.MARK, 0, 0, text, is_grave=True)
        if mark is not None and (self._tail is not None or mark.sequence > last):
            self._note_end(mark)
        elif self._tail is not None:
            number, offset, _ = self._tail
            text = f"segment {number} ends within a record at byte {offset}"
            self._note(DamageKind.TORN, number, offset, text)
        if mark is not None and mark.sequence > last:
            self.sequence, self.link = mark.sequence, mark.link
            self.is_clean_end = False
        is_closed = mark is not None and mark.is_closed and mark.sequence >= last
        return Report(
            account=self._account,
            segments=tuple(self.segment_ends),
            records=self._records,
            last_sequence=last,
            mark_sequence=0 if mark is None else mark.sequence,
            mark_time_ns=0 if mark is None else mark.time_ns,
            is_closed=is_closed,
            doubt_s=self._doubt_s(is_closed),
            damages=tuple(self._damages),
            damages_unlisted=self._damages_unlisted,
            snapshot_segment=self.snapshot_segment,
        )

    def _doubt_s(self, is_closed: bool) -> float | None:
        if is_closed or (self.mark is None and not self.segment_ends):
            return 0.0
        return None if self.mark is None else DOUBT_S

    def _note_end(self, mark: Mark) -> None:
        """Say what is wrong behind the last whole record."""
        last = self.sequence
        lost = (last + 1, mark.sequence) if mark.sequence > last else None
        missing = f"; records {lost[0]} to {lost[1]} were durable and are lost" if lost else ""
        if self._tail is None:
            number = max(self.segment_ends, default=0)
            text = f"the journal ends at record {last}{missing}"
            self._note(DamageKind.CUT, number, self.offset, text, lost)
            return
        number, offset, is_short = self._tail
        if lost is None and mark.is_closed and mark.sequence == last:
            text = (
                f"segment {number} holds bytes of no record from byte {offset}; nothing is missing"
            )
            self._note(DamageKind.STRAY, number, offset, text)
        elif lost is None or is_short:
            text = f"segment {number} ends within a record at byte {offset}{missing}"
            self._note(DamageKind.TORN, number, offset, text, lost)
        else:
            text = f"the last record of segment {number}, at byte {offset}, has changed{missing}"
            self._note(DamageKind.FLIPPED, number, offset, text, lost)

    def _skip(self, number: int, offset: int, where: int, frame: Frame, is_first: bool) -> None:
        """Note what stands between two whole frames and is none."""
        first = frame.sequence - 1 if is_first and number != 1 else self.sequence + 1
        lost = (first, frame.sequence - 1)
        text = f"bytes {offset} to {where - 1} of segment {number} have changed; "
        if first > frame.sequence - 1:
            self._note(DamageKind.STRAY, number, offset, f"{text}nothing is missing")
            return
        text += f"records {lost[0]} to {lost[1]} are lost"
        self._note(DamageKind.FLIPPED, number, offset, text, lost)
        self.sequence, self._is_link_known = frame.sequence - 1, False

    def _enter(self, number: int, offset: int, frame: Frame, is_first: bool) -> None:
        """Begin a segment: check that it is ours and follows the one before."""
        header = _decode_header(number, frame)
        self._account = self._account or header.account
        if header.account != self._account:
            raise ConfigError(
                f"journal: account of segment {number} was {header.account!r}, expected"
                f" {self._account!r}; move the segment out of the folder"
            )
        if is_first:
            self._note_missing_start(number, header.previous_sequence)
            self.sequence = header.previous_sequence
        elif header.previous_sequence > self.sequence:
            self._note_hole(number, header.previous_sequence)
        elif self._is_link_known and header.previous_link != self.link.hex():
            text = f"segment {number} does not follow the record before it"
            self._note(DamageKind.FLIPPED, number, offset, text, is_grave=True)
        elif self._tail is not None:
            before, start, _ = self._tail
            text = f"segment {before} ends in a torn record at byte {start}; nothing is missing"
            self._note(DamageKind.STRAY, before, start, text)
        self.link, self._is_link_known = bytes.fromhex(header.previous_link), True
        if header.snapshot_records:
            self.snapshot_segment, self._is_after_damage = number, False
        self._follow(number, offset, frame)

    def _note_missing_start(self, number: int, previous: int) -> None:
        """Note segments that the mark says were never removed and that are not there."""
        first = self.first_segment
        if self.mark is not None and number > first:
            text = f"segments {first} to {number - 1}, up to record {previous}, are not there"
            self._note(DamageKind.CUT, first, 0, text, is_grave=True)

    def _note_hole(self, number: int, previous: int) -> None:
        """Note records that a later segment follows and that are not there."""
        lost = (self.sequence + 1, previous)
        before, offset, is_short = self._tail or (number - 1, self.offset, False)
        kind = DamageKind.CUT
        if self._tail is not None:
            kind = DamageKind.TORN if is_short else DamageKind.FLIPPED
        text = f"records {lost[0]} to {lost[1]} before segment {number} are lost"
        self._note(kind, before, offset, text, lost)
        self.sequence = previous

    def _take(self, number: int, offset: int, frame: Frame) -> Record:
        self._follow(number, offset, frame)
        self._records += 1
        is_snapshot = frame.kind == Kind.SNAPSHOT
        return Record(
            frame.sequence, frame.time_ns, frame.payload, number, is_snapshot, self._is_after_damage
        )

    def _follow(self, number: int, offset: int, frame: Frame) -> None:
        """Check a frame against the one before it, and against the mark."""
        is_next = frame.sequence == self.sequence + 1
        if not is_next or (self._is_link_known and not follows(frame, self.link)):
            text = f"record {frame.sequence} of segment {number} does not follow the one before it"
            self._note(DamageKind.FLIPPED, number, offset, text, is_grave=True)
        self.sequence, self.link, self._is_link_known = frame.sequence, frame.link, True
        mark = self.mark
        if mark is not None and mark.sequence == frame.sequence and mark.link != frame.link:
            text = f"record {frame.sequence} is not the one that the head mark names"
            self._note(DamageKind.FLIPPED, number, offset, text, is_grave=True)

    def _note(
        self,
        kind: DamageKind,
        segment: int,
        offset: int,
        text: str,
        lost: tuple[int, int] | None = None,
        *,
        is_grave: bool = False,
    ) -> None:
        is_grave = is_grave or lost is not None
        self._is_after_damage |= is_grave
        if len(self._damages) < DAMAGES_MAX:
            self._damages.append(Damage(kind, segment, offset, text, lost, is_grave))
        else:
            self._damages_unlisted += 1


def _decode_header(number: int, frame: Frame) -> SegmentHeader:
    """Return the first record of a segment, of this format."""
    try:
        found = msgspec.json.decode(frame.payload, type=dict[str, object]).get("format")
        if found == FORMAT:
            return msgspec.json.decode(frame.payload, type=SegmentHeader)
    except msgspec.DecodeError:
        found = "unreadable"
    raise UnknownFormat(
        f"journal: format of segment {number} was {found}, expected {FORMAT}; it was written by"
        " another version of piker: use that one, or move the folder away"
    )
