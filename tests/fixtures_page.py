"""A chart without a browser: the desk and edge of `piker chart` here, pages over real sockets."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.uri import parse_uri

from piker.ui.desk import Desk, Options
from piker.ui.order_lines import Line
from piker.ui.server import PageServer, open_page_server


class PageTab:
    """One tab: what it says goes out at once, what it hears is kept until asked for."""

    def __init__(self, stream: trio.SocketStream, port: int) -> None:
        self._stream = stream
        uri = parse_uri(f"ws://127.0.0.1:{port}/ws")
        origin: Any = f"http://127.0.0.1:{port}"
        self._protocol = ClientProtocol(uri, origin=origin, max_size=None)
        self._news = trio.Event()
        self._id = 0
        self.heard: list[dict[str, Any]] = []
        self.newest: dict[str, dict[str, Any]] = {}  # the last message of each kind

    async def join(self, code: str, fqme: str) -> None:
        """Shake hands, show the address's code and follow a market on channel 1."""
        self._protocol.send_request(self._protocol.connect())
        await self._flush()
        self._protocol.receive_data(await self._stream.receive_some())
        assert self._protocol.handshake_exc is None
        await self.say("hello", v=1, code=code)
        await self.say("open", chan=1, fqme=fqme)

    async def listen(self) -> None:
        """Take in what the actor says, until it is gone."""
        async with self._stream:
            while True:
                for event in self._protocol.events_received():
                    if getattr(event, "opcode", None) is Opcode.TEXT:
                        said = json.loads(event.data)
                        self.heard.append(said)
                        self.newest[said["op"]] = said
                await self._flush()
                self._news.set()
                data = await self._stream.receive_some()
                if not data:
                    return
                self._protocol.receive_data(data)

    async def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                await self._stream.send_all(data)

    async def say(self, op: str, **fields: Any) -> None:
        """Send a message."""
        self._protocol.send_text(json.dumps({"op": op, **fields}).encode())
        await self._flush()

    async def ask(self, op: str, **fields: Any) -> int:
        """Send a request about channel 1 and return its number."""
        self._id += 1
        await self.say(op, id=self._id, chan=1, **fields)
        return self._id

    async def order(self, **fields: Any) -> str:
        """Ask for an order and return its oid."""
        oid = secrets.token_hex(16)
        base = {"action": "buy", "exec_mode": "live"}
        await self.ask("order", oid=oid, **base | fields)
        return oid

    async def until(self, op: str, seconds: float = 8, **claims: Any) -> dict[str, Any]:
        """Return the next message of this kind of which the claims hold; older ones are let go."""
        with trio.move_on_after(seconds):
            while True:
                while self.heard:
                    said = self.heard.pop(0)
                    if said["op"] == op and all(said[key] == claims[key] for key in claims):
                        return said
                self._news = trio.Event()
                await self._news.wait()
        raise AssertionError(f"not within {seconds:g} s: {op} {claims}")


class Chart:
    """The desk of a chart of one market, and tabs on it."""

    def __init__(self, desk: Desk, edge: PageServer, nursery: trio.Nursery, fqme: str) -> None:
        self.desk, self._edge, self._nursery, self._fqme = desk, edge, nursery, fqme

    def lines(self) -> list[Line]:
        """Return the orders that the desk shows as working."""
        assert self.desk.orders is not None
        return self.desk.orders.market(self._fqme).lines["paper"].working()

    async def new_tab(self) -> PageTab:
        """Return a tab that follows the market, once its orders may be sent."""
        stream = await trio.open_tcp_stream("127.0.0.1", self._edge.port)
        tab = PageTab(stream, self._edge.port)
        code = self._edge.address(is_printed=True).rpartition("#c=")[2]
        await tab.join(code, self._fqme)
        self._nursery.start_soon(tab.listen)
        if (await tab.until("desk", 20))["state"] != "ready":
            await tab.ask("trade")
            await tab.until("desk", 30, state="ready")
        return tab


@asynccontextmanager
async def open_chart(fqme: str) -> AsyncIterator[Chart]:
    """Open a chart in this process, which has joined a run."""
    desk = Desk(Options((fqme,)))
    async with open_page_server(desk) as edge, trio.open_nursery() as nursery:
        desk.join_run(nursery)
        nursery.start_soon(desk.watch_tree, False)
        yield Chart(desk, edge, nursery, fqme)
        nursery.cancel_scope.cancel()
