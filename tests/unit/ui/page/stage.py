"""
A stage for the page: its real files in a real Chromium, with the real session on the other end.

No server runs: the browser's requests are answered from `piker/ui/page`, and its WebSocket ends in
`Stage`, which drives `piker.ui.session.Session` over `piker.ui.picture.Picture`. Time stands still
at `NOW` unless a test moves it, so every picture is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from piker.ui import messages
from piker.ui.door import HEADERS
from piker.ui.picture import Facts, Picture
from piker.ui.session import Session

FILES = Path(__file__).parents[4] / "piker" / "ui" / "page"
ORIGIN = "http://127.0.0.1:9"
CODE = "00112233445566778899aabbccddeeff"
FQME = "btcusdt.spot.binance"
NOW = 1_732_147_237.0  # 2024-11-21 00:00:37 UTC
TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
DAEMONS = tuple(messages.Daemon(name, "up") for name in ("pikerd", "samplerd", "datad.binance"))


def bars(n: int, period: int, seed: int = 5) -> np.ndarray:
    """Return (6, n) columns `t o h l c v` of a seeded walk on a 0.1 grid that ends at `NOW`."""
    rng = np.random.default_rng(seed)
    end = NOW // period * period
    close = np.round(61_250 + np.cumsum(rng.normal(0, 12, n)), 1)
    first = np.concatenate(([close[0]], close[:-1]))
    spread = np.round(np.abs(rng.normal(0, 9, (2, n))), 1)
    return np.array(
        [
            end - period * np.arange(n)[::-1],
            first,
            np.maximum(first, close) + spread[0],
            np.minimum(first, close) - spread[1],
            close,
            np.round(rng.lognormal(2, 1, n), 5),
        ]
    )


def picture_of(fqme: str = FQME, n: int = 3000, **facts: Any) -> Picture:
    """Return a market with `n` 1 m bars and 600 1 s bars that end at `NOW`, live."""
    name = fqme.split(".")[0].upper()
    base = {"unit": name[:3], "price_tick": "0.1", "size_tick": "0.00001", "venue_name": "demo"}
    made = Picture(Facts(fqme=fqme, name=name, venue="binance · spot", **{**base, **facts}), 7)
    if n:
        minutes, seconds = bars(n, 60), bars(600, 1, seed=6)
        seconds[1:5] += minutes[4, -1] - seconds[4, -1]
        made.merge(60, minutes)
        made.merge(1, seconds)
        last = minutes[4, -1]
        made.l1[:] = (last, 0.5, NOW, last - 0.1, 1.0, last + 0.1, 2.0, minutes[1, 0])
    made.status = status("live")
    return made


def status(feed: Any, **fields: Any) -> messages.Status:
    """Return a status as the chart actor sends it."""
    base = {"age": 0.2, "expected": 0.4, "latency_ms": 3.0, "daemons": DAEMONS}
    return messages.Status(0, feed, **{**base, **fields})


class Stage:
    """One tab and the actor behind it."""

    def __init__(self, page: Any, markets: dict[str, Picture], charts: list[str]) -> None:
        self.page = page
        self.markets = markets
        self.charts = charts
        self.prefs: dict[str, Any] = {"timezone": "market", "theme": "auto", "keys": {}}
        self.has_debug = True
        self.session: Session | None = None
        self.socket: Any = None
        self.heard: list[Any] = []
        self.desk: Callable[[Any], None] = lambda request: None
        self.filter: Callable[[str | bytes], bool] = lambda frame: True
        self.is_down = False
        self.is_slow = False
        page.route("**/*", self._serve)
        page.route_web_socket("**/ws", self._connect)

    def open(self, code: str = CODE) -> None:
        """Load the page and wait until it shows bars."""
        self.page.goto(f"{ORIGIN}/#c={code}")
        if self.charts and self.has_debug and code == CODE:
            self.until("window.piker && piker.debug.facts().bars_in_view > 0")

    def until(self, claim: str, seconds: float = 5) -> None:
        """Wait until an expression is true; asked from outside, as the CSP bars `eval`."""
        for _ in range(int(seconds * 100)):
            if self.page.evaluate(claim):
                return
            self.page.wait_for_timeout(10)
        raise AssertionError(f"not within {seconds} s: {claim}")

    def until_written(self) -> None:
        """Wait until the bars above and below the chart say what the page knows."""
        self.until("!piker.debug.facts().words_due")

    def facts(self) -> dict[str, Any]:
        """Return what the page says of itself, after the next paint."""
        facts: dict[str, Any] = self.page.evaluate(
            "piker.debug.painted().then(() => piker.debug.facts())"
        )
        return facts

    def js(self, script: str, argument: Any = None) -> Any:
        """Return what a script yields in the page."""
        return self.page.evaluate(script, argument)

    def pump(self) -> None:
        """Send all that is due."""
        while self.session and (frame := self.session.next_frame(0.0, NOW)) is not None:
            if self.filter(frame):
                self.socket.send(frame)

    def say(self, answer: messages.Answer) -> None:
        """Send one control message."""
        assert self.session
        self.session.send(answer)
        self.pump()

    def trade(self, price: float, fqme: str = FQME, at: float = NOW) -> None:
        """Let one trade at `price` move the newest bars."""
        market = self.markets[fqme]
        for base in (1, 60):
            row = market.block(base, int(at // base) // 1024)[0][:, -1].copy()
            if row[0] < at // base * base:
                row = np.array([at // base * base, row[4], row[4], row[4], row[4], 0.0])
            row[2:5] = max(row[2], price), min(row[3], price), price
            row[5] += 0.5
            market.merge(base, row[:, None])
        market.l1[0], market.l1[2] = price, at
        market.touch(at // 60 * 60)
        self.pump()

    def drop(self, code: int = 1001) -> None:
        """Close the connection from the actor's side."""
        socket, self.session, self.socket = self.socket, None, None
        socket.close(code=code)

    def _serve(self, route: Any) -> None:
        name = route.request.url.removeprefix(ORIGIN).split("#")[0].lstrip("/") or "index.html"
        path = FILES / name
        if not path.is_file() or (name == "debug.js" and not self.has_debug):
            route.fulfill(status=404, body="no such file")
            return
        kind = TYPES[path.suffix[1:]]
        route.fulfill(body=path.read_bytes(), headers={**dict(HEADERS), "content-type": kind})

    def _connect(self, socket: Any) -> None:
        if self.is_down:
            socket.close(code=1001)
            return
        self.socket, self.session = socket, Session()
        socket.on_message(self._receive)

    def _receive(self, message: str | bytes) -> None:
        if self.session is None:
            return
        request = self.session.receive(message, 0.0, NOW)
        self.heard.append(messages.parse_request(message))
        self.desk(request)
        match request:
            case messages.Hello(code=code, secret=secret, have=have):
                if code != CODE and secret != "secret":
                    self.drop(4401)
                    return
                self.session.have = have
                self.session.send(
                    messages.Welcome(
                        1, "secret", "build", self.charts, self.prefs, NOW, 1.0, self.has_debug
                    )
                )
            case messages.Open() if self.is_slow:
                pass
            case messages.Open(chan, fqme) if fqme in self.markets:
                self.session.attach(chan, self.markets[fqme])
            case messages.Open(chan, fqme):
                text = f'No market "{fqme}".'
                self.session.refuse(
                    chan, messages.Err("open", "unknown_market", text, chan, 0, [*self.markets])
                )
            case messages.Search(id_, text):
                rows = [messages.Hit(fqme, fqme) for fqme in self.markets if text in fqme]
                self.session.send(messages.Hits(id_, "binance", "done", rows, 3.0, len(rows)))
        self.pump()
