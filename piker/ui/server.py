"""
The page's edge: fixed files over HTTP, one WebSocket per tab, nothing without the door's consent.

Reading order: `Answers` (what the edge asks of the chart), `load_page`, `PageServer`. Every answer
carries the door's headers; a request is looked up in a table made at start, never on disk. It
must never hold market data: `Session` says what to send, this module writes it.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Final, Protocol

import msgspec
import trio

from piker import clock
from piker.errors import leaves
from piker.log import get_logger
from piker.ui import messages
from piker.ui.door import CODE_LIFE_S, HEADERS, Door, refusal
from piker.ui.messages import Code, Err, Hello, NewCode, Open, Pick, Search, Welcome
from piker.ui.order_messages import OrderRequest
from piker.ui.session import Session, SessionOver
from piker.web.server import (
    Request,
    Response,
    Server,
    SocketClosed,
    Upgrade,
    WebSocket,
    open_server,
)

log = get_logger(__name__)

HELLO_WITHIN_S: Final = 2.0
ANSWER_PING_WITHIN_S: Final = 5.0
SOCKET_PATH: Final = "/ws"
_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
}
_DEBUG_FILE: Final = "debug.js"
_BAD_CODE: Final = (
    "This address was used, is too old or belongs to an earlier run. "
    "Press Enter where piker chart runs to get a new one."
)


class Answers(Protocol):
    """What the edge asks of the chart; each call runs in a task of the connection."""

    def welcome(self) -> Welcome:
        """Return the record that greets a page; the edge adds secret and build."""

    def join(self, session: Session) -> None:
        """A page is connected."""

    def leave(self, session: Session) -> None:
        """It has gone."""

    async def open_market(self, session: Session, request: Open) -> None:
        """Attach the market to the session's channel, or refuse it with a sentence."""

    async def search(self, session: Session, request: Search) -> None:
        """Answer with `hits`, section by section."""

    def pick(self, request: Pick) -> None:
        """Remember what was chosen."""

    def order(self, session: Session, request: OrderRequest) -> None:
        """Do what the page asks of the order path; answered with messages."""


class PageFile(msgspec.Struct, frozen=True):
    """One file of the page: bytes, content type and the tag of its content."""

    body: bytes
    content_type: str
    etag: str


def load_page(is_debug: bool = False) -> dict[str, PageFile]:
    """Return the page's files by path; `debug.js` only when asked for."""
    table: dict[str, PageFile] = {}
    for item in files("piker.ui").joinpath("page").iterdir():
        kind = item.name.rpartition(".")[2]
        if kind not in _TYPES or (item.name == _DEBUG_FILE and not is_debug):
            continue
        body = item.read_bytes()
        etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        table[f"/{item.name}"] = PageFile(body, _TYPES[kind], etag)
    for alias, name in (("/", "/index.html"), ("/favicon.ico", "/favicon.svg")):
        if name in table:
            table[alias] = table[name]
    return table


class PageServer:
    """The edge of one chart process: the door, the files and the connected pages."""

    def __init__(self, server: Server | None, desk: Answers, page: dict[str, PageFile]) -> None:
        self.door = Door(lambda: f"{clock.rng().getrandbits(128):032x}")
        self._server = server
        self._desk = desk
        self._page = page
        self._build = hashlib.blake2b(
            "".join(f.etag for _, f in sorted(page.items())).encode(), digest_size=8
        ).hexdigest()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._server is not None
        return self._server.port

    def address(self, *, is_printed: bool) -> str:
        """Return an address with a fresh code; a printed one is good until used, else for 60 s."""
        code = self.door.mint(None if is_printed else trio.current_time() + CODE_LIFE_S)
        return f"http://127.0.0.1:{self.port}/#c={code}"

    async def handle(self, request: Request) -> Response | Upgrade:
        """Answer one HTTP request."""
        why = refusal(request.headers, self.port, request.is_upgrade)
        if why:
            log.warning("page request refused: %s", why[:200])
            return _plain(403, "forbidden")
        if request.method not in ("GET", "HEAD"):
            return _plain(405, "only GET and HEAD", (("Allow", "GET, HEAD"),))
        if request.path == SOCKET_PATH and request.is_upgrade:
            return Upgrade(self._run_socket, HEADERS, messages.MESSAGE_MAX)
        found = self._page.get(request.path)
        if found is None:
            return _plain(404, "no such file")
        headers = (*HEADERS, ("ETag", found.etag))
        if request.headers.get("if-none-match") == found.etag:
            return Response(b"", 304, found.content_type, headers)
        return Response(found.body, 200, found.content_type, headers)

    async def _run_socket(self, ws: WebSocket) -> None:
        wake = _Wake()
        session = Session(wake.set)
        try:
            if not await self._greet(ws, session):
                return
            self._desk.join(session)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read, ws, session, nursery)
                nursery.start_soon(_write, ws, session, wake)
                nursery.start_soon(_watch, ws, session)
        except* SessionOver as over:
            first = next(e for e in leaves(over) if isinstance(e, SessionOver))
            log.info("page closed code=%s cause=%s", first.code, str(first)[:200])
            await ws.close(first.code, str(first)[:100])
        except* SocketClosed:
            pass
        finally:
            self._desk.leave(session)
            session.close()

    async def _greet(self, ws: WebSocket, session: Session) -> bool:
        """Exchange `hello` for `welcome`; False when the socket was closed with 4401 instead."""
        hello, secret = None, None
        with trio.move_on_after(HELLO_WITHIN_S):
            hello = await _receive_hello(ws)
        if hello is not None:
            secret = self.door.redeem(hello.code, trio.current_time()) if hello.code else None
        if hello is None or not (secret or self.door.knows(hello.secret)):
            await ws.send_text(messages.pack_answer(Err("hello", "bad_code", _BAD_CODE)))
            await ws.close(4401, "no valid hello")
            return False
        session.have = hello.have
        session.send(
            msgspec.structs.replace(self._desk.welcome(), secret=secret, build=self._build)
        )
        return True

    async def _read(self, ws: WebSocket, session: Session, nursery: trio.Nursery) -> None:
        searching: trio.CancelScope | None = None
        try:
            while True:
                message = await ws.recv()
                match session.receive(message, trio.current_time(), clock.now_s()):
                    case Open() as request:
                        nursery.start_soon(self._desk.open_market, session, request)
                    case Search() as request:
                        if searching:
                            searching.cancel()
                        searching = trio.CancelScope()
                        nursery.start_soon(self._search, session, request, searching)
                    case Pick() as request:
                        self._desk.pick(request)
                    case request if isinstance(request, OrderRequest):
                        self._desk.order(session, request)
                    case NewCode():
                        url = self.address(is_printed=False)
                        session.send(Code(url.rpartition("=")[2], url))
        finally:
            nursery.cancel_scope.cancel()

    async def _search(self, session: Session, request: Search, scope: trio.CancelScope) -> None:
        with scope:
            await self._desk.search(session, request)


class _Wake:
    """An event that can be set again: says that there may be something to write."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = trio.Event()


async def _receive_hello(ws: WebSocket) -> Hello | None:
    try:
        request = messages.parse_request(await ws.recv())
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return request if isinstance(request, Hello) and request.v == messages.PROTO else None


async def _write(ws: WebSocket, session: Session, wake: _Wake) -> None:
    while True:
        frame = session.next_frame(trio.current_time(), clock.now_s())
        if frame is None:
            await wake.wait()
        elif isinstance(frame, str):
            await ws.send_text(frame)
        else:
            await ws.send_bytes(frame)


async def _watch(ws: WebSocket, session: Session) -> None:
    """End the connection of a page that owes acks and does not even answer a ping."""
    while True:
        await trio.sleep(1)
        if not session.is_quiet(trio.current_time()):
            continue
        asked_at = trio.current_time()
        await ws.ping()
        await trio.sleep(ANSWER_PING_WITHIN_S)
        if ws.heard_at < asked_at:
            log.info("page dropped: silent for %g s", trio.current_time() - ws.heard_at)
            ws.abort()
            return


def _plain(status: int, text: str, more: tuple[tuple[str, str], ...] = ()) -> Response:
    return Response(text.encode(), status, headers=(*HEADERS, *more))


@asynccontextmanager
async def open_page_server(
    desk: Answers, *, port: int = 0, is_debug: bool = False
) -> AsyncIterator[PageServer]:
    """
    Serve the page on 127.0.0.1 while the block runs; `port` 0 is a free one.

    Raises:
      ConfigError: the port is taken.
    """
    edge = PageServer(None, desk, load_page(is_debug))
    async with open_server(edge.handle, port=port) as server:
        edge._server = server
        yield edge
