"""The edge over a real loopback socket: what it serves, refuses and closes."""

import json

import pytest
import trio
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.uri import parse_uri

from piker.ui import messages
from piker.ui.messages import Hits, Welcome
from piker.ui.server import load_page, open_page_server


class Desk:
    """A chart without markets."""

    def __init__(self):
        self.here = 0

    def welcome(self):
        return Welcome(1, None, "", ["a.b"], {}, 5.0)

    def join(self, session):
        self.here += 1

    def leave(self, session):
        self.here -= 1

    async def open_market(self, session, request):
        session.refuse(request.chan, messages.Err("open", "unknown_market", "no", request.chan))

    async def search(self, session, request):
        session.send(Hits(request.id, "loaded", "searching", []))
        await trio.sleep_forever()

    def pick(self, request):
        pass

    def order(self, session, request):
        session.send(messages.Err("order", "gate", "no orders here", request.chan, request.id))


async def ask(port, path="/", method="GET", host=None, **headers):
    """Return status, headers and body of one request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        data = b"".join([part async for part in stream])
    head, _, body = data.partition(b"\r\n\r\n")
    status, *rest = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in rest), body


class Tab:
    """A browser tab: a WebSocket client of the test's own."""

    def __init__(self, stream, port, origin):
        self.stream = stream
        uri = parse_uri(f"ws://127.0.0.1:{port}/ws")
        self.protocol = ClientProtocol(uri, origin=origin, max_size=None)

    async def _flush(self):
        await self.stream.send_all(b"".join(self.protocol.data_to_send()))

    async def join(self):
        self.protocol.send_request(self.protocol.connect())
        await self._flush()
        self.protocol.receive_data(await self.stream.receive_some())
        self.inbox = [e for e in self.protocol.events_received() if hasattr(e, "opcode")]
        return self.protocol.handshake_exc

    async def say(self, op, **fields):
        self.protocol.send_text(json.dumps({"op": op, **fields}).encode())
        await self._flush()

    async def read(self):
        while not self.inbox:
            data = await self.stream.receive_some()
            if data:
                self.protocol.receive_data(data)
            else:
                self.protocol.receive_eof()
            self.inbox += [e for e in self.protocol.events_received()]
            await self._flush()
        frame = self.inbox.pop(0)
        if frame.opcode is Opcode.CLOSE:
            return self.protocol.close_rcvd.code
        return json.loads(frame.data)


@pytest.fixture
async def edge():
    async with open_page_server(Desk()) as served:
        served.streams = []
        yield served
        for stream in served.streams:
            await stream.aclose()


async def tab(edge, origin=None):
    stream = await trio.open_tcp_stream("127.0.0.1", edge.port)
    edge.streams.append(stream)
    made = Tab(stream, edge.port, origin or f"http://127.0.0.1:{edge.port}")
    return made, await made.join()


def code_of(address):
    return address.rpartition("#c=")[2]


async def test_what_a_page_asks_of_the_order_path_reaches_the_desk(edge):
    opened, _ = await tab(edge)
    await opened.say("hello", v=1, code=code_of(edge.address(is_printed=True)))
    await opened.read()
    await opened.say("cancel", id=7, chan=1, oid="a")
    said = await opened.read()
    assert (said["re"], said["code"], said["id"]) == ("order", "gate", 7)


@pytest.mark.parametrize("path", ["/", "/nothing", "/../server.py", "/%2e%2e/server.py", "/ws"])
async def test_every_answer_carries_the_headers(edge, path):
    status, headers, _ = await ask(edge.port, path)
    assert status == (200 if path == "/" else 404)
    assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-embedder-policy"] == "require-corp"
    assert headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "[::1]"])
async def test_another_host_is_forbidden_and_logged(edge, host, caplog):
    status, headers, _ = await ask(edge.port, host=host)
    assert status == 403
    assert "content-security-policy" in headers
    assert [r for r in caplog.records if "refused" in r.message]


async def test_a_file_that_is_known_is_not_sent_again(edge):
    status, headers, body = await ask(edge.port)
    assert (status, bool(body)) == (200, True)
    status, _, body = await ask(edge.port, if_none_match=headers["etag"])
    assert (status, body) == (304, b"")


async def test_only_get_and_head_are_served(edge):
    status, headers, body = await ask(edge.port, method="HEAD")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0
    assert (await ask(edge.port, method="POST"))[0] == 405
    assert (await ask(edge.port, method="OPTIONS"))[0] == 405


async def test_every_file_of_the_page_is_served_and_no_other(edge):
    page = load_page()
    assert "/main.js" in page
    assert "/favicon.ico" in page
    assert "/debug.js" not in page
    assert "/debug.js" in load_page(is_debug=True)
    for path in page:
        assert (await ask(edge.port, path))[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
async def test_a_socket_from_another_origin_is_forbidden(edge, origin):
    _, refusal = await tab(edge, origin)
    assert "403" in str(refusal)


async def test_a_code_is_exchanged_for_the_secret_of_the_tab(edge):
    code = code_of(edge.address(is_printed=True))
    first, _ = await tab(edge)
    await first.say("hello", v=1, code=code, page="x")
    welcome = await first.read()
    assert (welcome["op"], welcome["charts"], len(welcome["secret"])) == ("welcome", ["a.b"], 32)
    again, _ = await tab(edge)
    await again.say("hello", v=1, code=code)
    assert (await again.read())["code"] == "bad_code"
    assert await again.read() == 4401
    reloaded, _ = await tab(edge)
    await reloaded.say("hello", v=1, secret=welcome["secret"])
    assert (await reloaded.read())["secret"] is None


@pytest.mark.parametrize("first", ['{"op":"ping","t":1}', "no json", '{"op":"hello","v":9}'])
async def test_what_is_no_hello_closes_the_socket(edge, first):
    made, _ = await tab(edge)
    made.protocol.send_text(first.encode())
    await made._flush()
    await made.read()
    assert await made.read() == 4401


async def test_a_socket_that_says_nothing_is_closed_after_two_seconds(edge):
    began = trio.current_time()
    made, _ = await tab(edge)
    await made.read()
    assert await made.read() == 4401
    assert 1.9 < trio.current_time() - began < 4


async def greeted(edge):
    made, _ = await tab(edge)
    await made.say("hello", v=1, code=code_of(edge.address(is_printed=True)))
    await made.read()
    return made


async def test_a_ping_is_echoed_with_the_clock_of_the_actor(edge):
    made = await greeted(edge)
    await made.say("ping", t=7.5)
    pong = await made.read()
    assert pong["op"] == "pong"
    assert pong["t"] == 7.5


async def test_a_malformed_message_ends_only_its_own_connection(edge):
    good, bad = await greeted(edge), await greeted(edge)
    await bad.say("nonsense")
    assert await bad.read() == 4400
    await good.say("ping", t=1)
    assert (await good.read())["op"] == "pong"


async def test_a_newer_search_replaces_the_one_that_waits(edge):
    made = await greeted(edge)
    for n in range(3):
        await made.say("search", id=n, text="btc")
        assert (await made.read())["id"] == n
    await made.say("ping", t=1)
    assert (await made.read())["op"] == "pong"


async def test_another_window_gets_a_code_of_its_own(edge):
    made = await greeted(edge)
    await made.say("code")
    answer = await made.read()
    other, _ = await tab(edge)
    await other.say("hello", v=1, code=answer["code"])
    assert (await other.read())["op"] == "welcome"


async def test_an_unknown_market_is_refused_with_a_sentence(edge):
    made = await greeted(edge)
    await made.say("open", chan=4, fqme="nothing.binance")
    refusal = await made.read()
    assert (refusal["op"], refusal["chan"], refusal["text"]) == ("err", 4, "no")
