"""The door: which path is REST, which a socket, which the venue's own; faults are played here."""

from __future__ import annotations

from typing import Any

import msgspec
import trio

from piker.venues._faults import Fault, Faults
from piker.venues.binance._exchange import Exchange
from piker.venues.binance._rest import HTML, Rest, too_many
from piker.venues.binance._streams import Session
from piker.web.server import Request, Reset, Response, Server, Upgrade

JSON = "application/json;charset=UTF-8"
MESSAGE_BYTES_MAX = 65_536


class Edge:
    """Answers every request that reaches the venue."""

    def __init__(self, exchange: Exchange, faults: Faults) -> None:
        self.server: Server | None = None
        self._exchange = exchange
        self._faults = faults
        self._rest = Rest(exchange)

    async def answer(self, request: Request) -> Response | Upgrade | Reset:
        """Answer one request or upgrade."""
        if request.path.startswith("/venue/"):
            return self._own(request)
        fault = self._faults.take(request.path)
        if fault is None:
            return await self._serve(request)
        return await self._play(fault, request)

    def stats(self) -> dict[str, Any]:
        """Return the counters of all parts."""
        hub = self._exchange.hub
        return {
            "time_ns": self._exchange.played_ns,
            "speed": self._exchange.clock.speed,
            "speed_played": round(self._exchange.speed_played(), 2),
            "clients": len(hub.sessions),
            "backlog_bytes": hub.backlog(),
            **self._exchange.counts,
            **hub.counts,
            **(self.server.statistics() if self.server else {}),
        }

    async def _serve(self, request: Request) -> Response | Upgrade:
        if request.path.startswith("/api/"):
            return await self._rest.answer(request)
        hub = self._exchange.hub
        if request.path == "/stream":
            streams = _names(request.query.get("streams", ""))
            return self._upgrade(Session(hub, streams, is_combined=True))
        if request.path == "/ws" or request.path.startswith("/ws/"):
            streams = _names(request.path.removeprefix("/ws").lstrip("/"))
            return self._upgrade(Session(hub, streams, is_combined=False))
        return Response(HTML, 404, "text/html")

    def _upgrade(self, session: Session) -> Upgrade:
        return Upgrade(session.run, message_bytes_max=MESSAGE_BYTES_MAX)

    async def _play(self, fault: Fault, request: Request) -> Response | Upgrade | Reset:
        match fault.kind:
            case "refuse":
                return Reset()
            case "html":
                return Response(HTML, fault.status if fault.status >= 500 else 502, "text/html")
            case "status" if fault.status in (418, 429):
                return too_many(fault.retry_after_s, status=fault.status)
            case "status":
                return Response(b'{"code":-1000,"msg":"fault"}', fault.status, JSON)
            case "rubbish":
                return Response(fault.text.encode(), 200, JSON)
            case "stall":
                await trio.sleep(fault.seconds)
                return Reset()
        answer = await self._serve(request)
        if isinstance(answer, Upgrade):
            return Reset()
        return msgspec.structs.replace(answer, cut_at=len(answer.body) // 2)

    def _own(self, request: Request) -> Response:
        if "origin" in request.headers:  # a web page that the user happens to visit
            return Response(b"not for browsers", 403)
        match request.method, request.path:
            case "GET", "/venue/stats":
                return Response(msgspec.json.encode(self.stats()), 200, JSON)
            case "GET", "/venue/faults":
                return Response(msgspec.json.encode(self._faults.armed()), 200, JSON)
            case "DELETE", "/venue/faults":
                self._faults.clear()
                return Response(b"[]", 200, JSON)
            case "POST", "/venue/faults":
                try:
                    self._faults.add(msgspec.json.decode(request.body, type=Fault))
                except (msgspec.DecodeError, ValueError) as error:
                    return Response(str(error).encode(), 400)
                return Response(msgspec.json.encode(self._faults.armed()), 200, JSON)
        return Response(b"no such path", 404)


def _names(text: str) -> list[str]:
    return [name for name in text.split("/") if name]
