"""A small WebSocket client for tests, on the sans-IO protocol; it is not piker's own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri


class Client:
    """A WebSocket client on the sans-IO protocol, as small as a test needs."""

    def __init__(self, stream: trio.SocketStream, url: str) -> None:
        self.stream = stream
        self.protocol = ClientProtocol(parse_uri(url))
        self.frames: list[Frame] = []

    async def flush(self) -> None:
        """Write what the protocol has to say."""
        await self.stream.send_all(b"".join(self.protocol.data_to_send()))

    async def read(self) -> None:
        """Read once."""
        try:
            data = await self.stream.receive_some(65536)
        except trio.BrokenResourceError:
            data = b""
        self.protocol.receive_data(data) if data else self.protocol.receive_eof()
        self.frames += [
            event
            for event in self.protocol.events_received()
            if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY)
        ]
        if reply := b"".join(self.protocol.data_to_send()):
            await self.stream.send_all(reply)

    async def send(self, text: str) -> None:
        """Send one text message."""
        self.protocol.send_text(text.encode())
        await self.flush()

    async def next_json(self) -> Any:
        """Return the next data frame as JSON."""
        return msgspec.json.decode(await self.next())

    async def ask(self, method: str, *params: str, id: int = 1) -> Any:
        """Send one control request and return its reply; frames of streams on the way are kept."""
        await self.send(json.dumps({"method": method, "params": list(params), "id": id}))
        kept = []
        while True:
            frame = await self.next()
            reply = msgspec.json.decode(frame)
            if isinstance(reply, dict) and reply.get("id") == id:
                self.frames[:0] = kept
                return reply
            kept.append(Frame(Opcode.TEXT, frame))

    async def next(self) -> bytes:
        """Return the payload of the next data frame, b'' at the end of the connection."""
        with trio.fail_after(30):
            while not self.frames and self.protocol.state is not State.CLOSED:
                await self.read()
        return bytes(self.frames.pop(0).data) if self.frames else b""

    async def end(self) -> int:
        """Return the close code once the server has ended the connection."""
        with trio.fail_after(30):
            while self.protocol.state is not State.CLOSED:
                await self.read()
        assert self.protocol.close_code is not None
        return self.protocol.close_code


@asynccontextmanager
async def connect(origin: str, path: str, early: bytes = b"") -> AsyncIterator[Client]:
    """Connect and shake hands; `early` bytes go out in the same packet."""
    url = origin.replace("http", "ws", 1) + path
    where = parse_uri(url)
    async with await trio.open_tcp_stream(where.host, where.port) as stream:
        client = Client(stream, url)
        client.protocol.send_request(client.protocol.connect())
        await stream.send_all(b"".join(client.protocol.data_to_send()) + early)
        await client.read()
        assert client.protocol.handshake_exc is None
        yield client
