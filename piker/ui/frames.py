"""
Every message between the chart actor and its page: JSON control records and binary frames.

Pure. The layout of the 40-byte header and of each kind is the table of `docs/reference`; numbers
are little-endian, columns 8-byte aligned, times float64 epoch seconds of the run's clock. Field
names are short because the page reads them; their meaning stands here and nowhere else.
"""

from __future__ import annotations

import struct
from typing import Any, Final, Literal

import msgspec
import numpy as np

PROTO: Final = 1
BLOCK, TAIL, TICKS = 1, 2, 3
COMPLETE, LOADING, HAS_GAP = 1, 2, 4
HEADER: Final = struct.Struct("<BBHIIIIIdII")
TAIL_HEAD: Final = 8  # last size t_last bid bid_size ask ask_size session_open
TAIL_ROW: Final = 8  # rung t o h l c v ver
TICKS_MAX: Final = 512
WANT_MAX: Final = 64
MESSAGE_MAX: Final = 16 * 1024

assert HEADER.size == 40


# ---- page to actor


class Hello(msgspec.Struct, tag_field="op", tag="hello"):
    """First message: `code` of the opened address, or the `secret` that `welcome` gave before."""

    v: int
    page: str = ""
    dpr: float = 1.0
    code: str = ""
    secret: str = ""
    have: dict[str, tuple[int, int]] = {}  # fqme -> (gen, rev) still held by the page


class Open(msgspec.Struct, tag_field="op", tag="open"):
    """Follow a market; the page picks the number of the channel."""

    chan: int
    fqme: str


class Close(msgspec.Struct, tag_field="op", tag="close"):
    """Stop following."""

    chan: int


class Want(msgspec.Struct, tag_field="op", tag="want"):
    """Blocks `ks` of the rung that (period, t0, t1, px) implies; replaces an unsent older one."""

    chan: int
    id: int
    period: int
    t0: float
    t1: float
    px: float
    ks: list[int]


class Live(msgspec.Struct, tag_field="op", tag="live"):
    """Stream the newest bars of `rungs`, and single ticks when `ticks`."""

    chan: int
    rungs: list[int]
    ticks: bool = False
    l2: int = 0


class Ack(msgspec.Struct, tag_field="op", tag="ack"):
    """Credit back: every TAIL up to `seq` has arrived."""

    seq: int


class Vis(msgspec.Struct, tag_field="op", tag="vis"):
    """The page is hidden (no deltas) or shown again (one TAIL at once)."""

    hidden: bool


class Search(msgspec.Struct, tag_field="op", tag="search"):
    """Look for markets; a newer one replaces the older."""

    id: int
    text: str


class Pick(msgspec.Struct, tag_field="op", tag="pick"):
    """The trader chose a hit; remembered as last used."""

    fqme: str
    overlay: bool = False


class Ping(msgspec.Struct, tag_field="op", tag="ping"):
    """Latency probe."""

    t: float


class NewCode(msgspec.Struct, tag_field="op", tag="code"):
    """Ask for a single-use code, for another window."""


Request = Hello | Open | Close | Want | Live | Ack | Vis | Search | Pick | Ping | NewCode


# ---- actor to page


class Welcome(msgspec.Struct, tag_field="op", tag="welcome"):
    """The answer to a valid `hello`; `secret` is this tab's own, given once, for its code."""

    v: int
    secret: str | None
    build: str
    charts: list[str]  # the first owns candles, volume and L1, the others are overlays
    prefs: dict[str, Any]
    now: float
    speed: float = 1.0  # market seconds that pass in a real one
    debug: bool = False


class Gap(msgspec.Struct):
    """A stretch without data: `feed` (down), `lost` (`n` records) or `closed`."""

    t0: float
    t1: float
    kind: Literal["feed", "lost", "closed"]
    n: int = 0
    filled: bool = False


BaseMap = dict[str, float | None]  # keyed by base period: "1", "60"


class Market(msgspec.Struct, tag_field="op", tag="market"):
    """All that is static about a market; sent again when `gen` changes."""

    chan: int
    fqme: str
    name: str
    venue: str
    mark: str  # "LOCAL" when the venue is a local one
    venue_name: str
    unit: str  # what volume counts
    price_tick: str
    size_tick: str
    tz: str
    sessions: list[tuple[float, float]]  # closed stretches; empty: always open
    rungs: list[int]
    first: BaseMap
    last: BaseMap
    bars: dict[str, int]
    gen: int
    rev: int
    dirty: list[tuple[float, float]]
    has_vlm: bool
    gaps: list[Gap]
    marks: list[dict[str, Any]]


class Done(msgspec.Struct, tag_field="op", tag="done"):
    """A `want` is answered with `sent` blocks; the `missing` ones hold no row."""

    chan: int
    id: int
    rung: int
    sent: int
    missing: list[int]


class Dirty(msgspec.Struct, tag_field="op", tag="dirty"):
    """History in [t0, t1) changed; `rev` went up."""

    chan: int
    t0: float
    t1: float
    rev: int
    gen: int
    first: BaseMap
    last: BaseMap
    bars: dict[str, int]


class GapNote(msgspec.Struct, tag_field="op", tag="gap"):
    """A gap appeared or was filled."""

    chan: int
    t0: float
    t1: float
    kind: str
    n: int
    filled: bool


class Daemon(msgspec.Struct, frozen=True):
    """One dot of the status bar; `none` is a daemon that was not started."""

    name: str
    state: Literal["up", "none", "degraded", "down"]
    text: str = ""


class Status(msgspec.Struct, tag_field="op", tag="status"):
    """Feed and tree as they are, on change and each second; chan 0: the tree alone."""

    chan: int
    feed: Literal["connecting", "live", "late", "stale", "refused", "down", "closed"]
    age: float | None = None
    expected: float | None = None
    cause: str = ""
    attempt: int = 0
    retry_in: float | None = None
    latency_ms: float | None = None
    gate: str | None = None
    opens: float | None = None
    local: str = ""
    daemons: tuple[Daemon, ...] = ()
    feed_info: dict[str, str] = {}


class Load(msgspec.Struct, tag_field="op", tag="load"):
    """Progress of history: `have` of `total` bars, share of the request budget, seconds left."""

    chan: int
    period: int
    have: int
    total: int
    source: str = ""
    budget: float | None = None
    eta: float | None = None


class Hit(msgspec.Struct):
    """One found market; last price and change since a day ago where they are known."""

    fqme: str
    name: str = ""
    last: float | None = None
    change: float | None = None


class Hits(msgspec.Struct, tag_field="op", tag="hits"):
    """Search results of one section."""

    id: int
    section: str
    state: Literal["searching", "done", "failed"]
    rows: list[Hit]
    ms: float | None = None
    total: int = 0
    text: str = ""


class Err(msgspec.Struct, tag_field="op", tag="err"):
    """A refused request; `text` is shown as it is."""

    re: str
    code: str
    text: str
    chan: int = 0
    id: int = 0
    closest: list[str] = []


class Pong(msgspec.Struct, tag_field="op", tag="pong"):
    """Echo of `ping` with the actor's clock."""

    t: float
    now: float


class Code(msgspec.Struct, tag_field="op", tag="code"):
    """A fresh single-use code and the address that carries it."""

    code: str
    url: str


Answer = (
    Welcome | Market | Done | Dirty | GapNote | Status | Load | Hits | Err | Pong | Code
)  # fmt: skip

_decoder: Final[msgspec.json.Decoder[Request]] = msgspec.json.Decoder(Request)
_encoder: Final = msgspec.json.Encoder()


def parse_request(text: str | bytes) -> Request:
    """
    Return the page's message.

    Raises:
      msgspec.DecodeError: not JSON, an unknown `op`, or a field of another type.
    """
    return _decoder.decode(text)


def pack_answer(answer: Answer) -> str:
    """Return the JSON text of a control message."""
    return _encoder.encode(answer).decode()


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
