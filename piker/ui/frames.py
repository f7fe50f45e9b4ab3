"""
The binary frames that carry bars, newest values and ticks to the page (`messages` has the rest).

Pure. A 40-byte header (`HEADER`, fields in `Header`), then columns; numbers are little-endian,
columns 8-byte aligned, times float64 epoch seconds of the run's clock.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec
import numpy as np

from piker.ui.messages import PROTO

BLOCK, TAIL, TICKS = 1, 2, 3
COMPLETE, LOADING, HAS_GAP = 1, 2, 4
HEADER: Final = struct.Struct("<BBHIIIIIdII")
TAIL_HEAD: Final = 8  # last size t_last bid bid_size ask ask_size session_open
TAIL_ROW: Final = 8  # rung t o h l c v ver
TICKS_MAX: Final = 512

assert HEADER.size == 40


class Header(msgspec.Struct, frozen=True):
    """The 40 bytes before every binary frame; `extra` is `rev` (BLOCK) or `lost` (TICKS)."""

    kind: int
    proto: int
    flags: int
    chan: int
    seq: int
    gen: int
    n: int
    rung: int
    key: float
    ver: int
    extra: int

    def pack(self) -> bytes:
        """Return the header's bytes; counters wrap at 32 bits."""
        mask = 0xFFFFFFFF
        return HEADER.pack(
            self.kind, self.proto, self.flags, self.chan, self.seq & mask, self.gen & mask,
            self.n, self.rung, self.key, self.ver & mask, self.extra & mask,
        )  # fmt: skip


def pack_block(
    columns: np.ndarray, *, chan: int, seq: int, gen: int, rung: int, key: int, ver: int,
    rev: int, flags: int,
) -> bytes:  # fmt: skip
    """Return a BLOCK of `columns` (6, n): `t o h l c v`, each n × f64."""
    n = columns.shape[1]
    head = Header(BLOCK, PROTO, flags, chan, seq, gen, n, rung, float(key), ver, rev)
    return head.pack() + np.ascontiguousarray(columns, "<f8").tobytes()


def pack_tail(
    l1: np.ndarray, rows: np.ndarray, *, chan: int, seq: int, gen: int, ver: int, sent_at: float
) -> bytes:
    """Return a TAIL: 8 × f64 of the market's newest values, then `rows` (n, 8)."""
    head = Header(TAIL, PROTO, 0, chan, seq, gen, len(rows), 0, sent_at, ver, 0)
    return (
        head.pack()
        + np.ascontiguousarray(l1, "<f8").tobytes()
        + np.ascontiguousarray(rows, "<f8").tobytes()
    )


def pack_ticks(
    columns: np.ndarray, flags: np.ndarray, *, chan: int, seq: int, gen: int, ver: int,
    sent_at: float, lost: int,
) -> bytes:  # fmt: skip
    """Return TICKS of `columns` (3, n): `t p s`, then `flags` n × u32 (type, bit 8: taker sold)."""
    head = Header(TICKS, PROTO, 0, chan, seq, gen, columns.shape[1], 0, sent_at, ver, lost)
    return (
        head.pack()
        + np.ascontiguousarray(columns, "<f8").tobytes()
        + np.ascontiguousarray(flags, "<u4").tobytes()
    )


def unpack_frame(data: bytes) -> tuple[Header, np.ndarray, np.ndarray]:
    """
    Return header, body and rows of a frame.

    BLOCK: (6, n) and nothing. TAIL: the 8 values and rows (n, 8). TICKS: (3, n) and n flags.

    Raises:
      ValueError: another protocol, an unknown kind, or a length that does not fit `n`.
    """
    if len(data) < HEADER.size:
        raise ValueError(f"frame: length was {len(data)}, expected at least {HEADER.size}")
    head = Header(*HEADER.unpack_from(data))
    sizes = {BLOCK: 48 * head.n, TAIL: 64 + 64 * head.n, TICKS: 28 * head.n}
    if head.proto != PROTO or head.kind not in sizes:
        raise ValueError(f"frame: kind was {head.kind} of protocol {head.proto}, expected 1 to 3")
    body = memoryview(data)[HEADER.size :]
    if len(body) != sizes[head.kind]:
        raise ValueError(f"frame: body was {len(body)} bytes, expected {sizes[head.kind]}")
    if head.kind == BLOCK:
        return head, np.frombuffer(body, "<f8").reshape(6, head.n), np.empty(0)
    if head.kind == TAIL:
        values = np.frombuffer(body, "<f8")
        return head, values[:TAIL_HEAD], values[TAIL_HEAD:].reshape(head.n, TAIL_ROW)
    return (
        head,
        np.frombuffer(body[: 24 * head.n], "<f8").reshape(3, head.n),
        np.frombuffer(body[24 * head.n :], "<u4"),
    )
