"""
The control messages between the chart actor and its page: JSON, one object, `op` first.

Pure. Field names are short because the page reads them; their meaning stands here and nowhere
else. Times are epoch seconds of the run's clock. Reading order: `Request`, then `Answer`.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from piker.ui.order_messages import OrderAnswer, OrderRequest

PROTO: Final = 1
WANT_MAX: Final = 64  # blocks of one `want`
MESSAGE_MAX: Final = 16 * 1024  # bytes, page to actor


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


Request = (
    Hello | Open | Close | Want | Live | Ack | Vis | Search | Pick | Ping | NewCode | OrderRequest
)  # fmt: skip


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
    recent: list[str] = []  # last used markets, newest first


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
    oid: str = ""


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
    | OrderAnswer
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
