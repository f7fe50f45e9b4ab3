"""
Containment for tractor 0.1.0a5: a broken, dead or hostile peer costs its own connection, no more.

Import it in the root before its runtime opens, and list it FIRST in every `enable_modules`: there
it replaces what the stock runtime has set up so far. It also holds the endpoint gate: only what
`@endpoint` marks can be called from outside. Each `Defect` comment below is a test in
`tests/unit/service/`; the module goes with the release that has the fixes. It patches private
names, which is why the linters and the size test leave it alone.
"""

import os
import socket
import struct
import uuid
from collections.abc import Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from importlib.metadata import version
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import Any, TypeVar, overload

import tractor
import trio
from outcome import Error
from tractor import _actor, _discovery, _ipc, _portal, _root
from tractor._exceptions import ModuleNotExposed, RemoteActorError, TransportClosed, unpack_error

if version("tractor") != "0.1.0a5":
    raise ImportError("patches private names of tractor 0.1.0a5")
MAX_FRAME, CHUNK, RUN_MAX, HANDSHAKE_S, MAX_PEERS = 4 << 20, 65536, 8, 2.0, 256
REGISTRAR = {"register_actor", "unregister_actor", "find_actor", "wait_for_actor", "get_registry"}
A, P, S, log = _actor.Actor, _portal.Portal, _ipc.MsgpackTCPStream, _actor.log
S.shook, S.self_ok, S.child, S.why = False, None, False, ""  # per connection: see vet()
S.deliver, S.buffer, S.rest = None, None, b""  # rest: of a frame that was begun
GONE = (trio.BrokenResourceError, trio.ClosedResourceError)  # TransportClosed is one of them
NOTASK, DENIED = trio.TASK_STATUS_IGNORED, "self (not for this peer)"


def patch(owner):
    def deco(fn):
        fn.o = getattr(owner, fn.__name__)
        setattr(owner, fn.__name__, fn)
        return fn

    return deco


# ---- transport ----
# Defect: a cancelled send leaves half a frame on the wire; the connection is lost to everybody. Also: no size limit.
# Defect: what sends waits a turn of the scheduler for a lock that is free. Streams skip it; answers to calls may not, since
# a call that ends before the message loop has noted it stays noted for ever.
@patch(S)
async def send(self, msg):
    data, n, sock = frame(self, msg), 0, self.stream.socket  # may raise: nothing written yet
    if type(msg) is dict and "yield" in msg and not self._send_lock.locked():
        self._send_lock.acquire_nowait()
    else:
        await self._send_lock.acquire()
    begun, data, self.rest = bool(self.rest), memoryview(self.rest + data), b""
    try:
        while n < len(data):
            n += await sock.send(data[n:])
    except trio.Cancelled:
        if (begun or n) and n < len(data):  # finish the frame (1 s) or close
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                while n < len(data):
                    n += await sock.send(data[n:])
            if n < len(data):
                await trio.aclose_forcefully(self.stream)
        raise
    except OSError as e:
        raise trio.BrokenResourceError(str(e)) from e
    finally:
        self._send_lock.release()


def frame(s, *msgs):
    """Return messages as the wire has them; raises TypeError or ValueError for one that cannot travel."""
    out = b""
    for body in map(s.encode, msgs):
        if len(body) > MAX_FRAME:
            raise ValueError(f"message of {len(body)} bytes, the limit is {MAX_FRAME}")
        out += struct.pack("<I", len(body)) + body
    return out


# Defect: what is sent waits until a task has its turn to send it, and what comes until a task has its turn to read it.
def send_nowait(stream: tractor.MsgStream, *data: Any) -> bool:
    """
    Send messages over a `MsgStream` in this turn, as one; False when that cannot be: nothing was sent.

    Who is told False sends them with `send`, which waits, or says what is wrong.
    """
    s, cid, n = stream._ctx.chan.msgstream, stream._ctx.cid, tractor.current_actor()._service_n
    if stream._closed or stream._ctx._error or s.rest or s._send_lock.locked() or n._closed:
        return False
    try:
        raw = frame(s, *({"yield": each, "cid": cid} for each in data))
        sent = s.stream.socket._sock.send(raw)
    except (OSError, TypeError, ValueError):
        return False
    if sent < len(raw):  # the next `send` writes the rest first, or this does
        s.rest = raw[sent:]
        n.start_soon(send_rest, s)
    return True


async def send_rest(s):
    try:
        async with s._send_lock:
            while s.rest:
                s.rest = s.rest[await s.stream.socket.send(s.rest) :]
    except (OSError, *GONE):
        pass  # whoever reads from it is told


def hand_over(stream: tractor.MsgStream, take: Callable[[Any, bool], bool]) -> None:
    """
    Have `take(message, more)` called in the turn in which a message of a `MsgStream` arrives.

    Only while a task waits in `receive`, which gets what `take` raises, and the messages for which
    it returns False. `more`: another message of the connection has come behind this one.
    """
    stream._ctx._take = take


# Defect: the runtime trusts every message's shape (a wrong one is an exception in the actor's own nursery) and lets any
# peer call any Actor method. Now: only the parent may `cancel`; registrar methods in the registrar; `_cancel_task` all.
def vet(s, msg):
    match msg:
        case [str(), str()] if not s.shook:
            s.shook = True
            return msg
        case {"_runtime_vars": dict()} if s.shook and s.self_ok is None:
            return msg  # parent to booting child
        case _ if s.self_ok is None:
            pass  # nothing else before the message loop runs
        case None:
            return msg
        case {"error": {"tb_str": str(), "type_str": str(), **more}, "cid": str(cid)} if (
            cid and not more
        ):
            return msg
        case {"error": {"tb_str": str(why)}} if "cid" not in msg and s.child:
            raise ValueError(why)  # its last words
        case {"error": _}:
            pass
        case {"cid": str(cid)} if cid:
            return msg
        case {"cmd": [str(ns), str(fn), dict(kw), by, str(cid)], **more} if cid and not more:
            if ns == "self" and fn not in s.self_ok:
                ns = DENIED  # answered with ModuleNotExposed
            return {"cmd": (ns, fn, kw, by, cid)}
    raise ValueError(f"malformed message ({type(msg).__name__})")


# Defect: a torn frame, a reset or garbage is an error above all user code. TransportClosed alone is taken calmly.
# Defect: each message of a stream is formatted three times for a log that is off, with two calls of the kernel for its
# ends, and waits a turn of the scheduler for each half of its frame: most of what a message costs.
@patch(S)
async def _iter_packets(self):
    receive, decode = self.stream.receive_some, self.decode
    if self.buffer is None:  # a reader before us may have left something
        self.buffer = self.recv_stream._buffer[self.recv_stream._receive_pos :]
    buffer, run = self.buffer, 0
    while True:
        try:
            while (size := frame_size(buffer)) is None:
                if not (data := await receive(CHUNK)):
                    raise ValueError("it closed the connection")
                buffer += data
                run = 0
            if run == RUN_MAX:  # of what came at once: others take turns with the rest
                await trio.lowlevel.checkpoint()
                run = 0
            run, body = run + 1, buffer[4:size]
            del buffer[:size]
            msg = decode(body)
            if self.deliver is not None and self.deliver(msg, frame_size(buffer) is not None):
                continue
            msg = vet(self, msg)
        except Exception as e:
            self.why = self.why or str(e) or repr(e)
            raise TransportClosed(f"{self.raddr}: {self.why}") from None
        yield msg


def frame_size(buffer):
    """Return the length of the frame in front, its prefix included; None until all of it is there."""
    if len(buffer) < 4:
        return None
    size = 4 + int.from_bytes(buffer[:4], "little")
    if size > 4 + MAX_FRAME:
        raise ValueError(f"frame of {size - 4} bytes")
    return size if len(buffer) >= size else None


def deliverer(actor, chan):
    """Return what gives a message to its reader, or puts it where that reads; False when that cannot be done at once."""

    def deliver(msg, more):
        if type(msg) is not dict or "yield" not in msg or "error" in msg:
            return False
        ctx = actor._contexts.get((chan.uid, msg.get("cid")))
        if ctx is None:
            return False
        take, waiting = getattr(ctx, "_take", None), ctx._recv_chan._state.receive_tasks
        if take is not None and waiting:
            try:
                if take(msg["yield"], more):
                    return True
            except Exception as error:
                if isinstance(error, (KeyError, trio.EndOfChannel, trio.ClosedResourceError)):
                    error = RuntimeError(f"{error!r}")  # `receive` takes these for its own
                reader, _ = waiting.popitem(last=False)
                reader.custom_sleep_data._tasks.remove(reader)
                trio.lowlevel.reschedule(reader, Error(error))
                return True
        try:
            ctx._send_chan.send_nowait(msg)
        except (trio.WouldBlock, *GONE):
            return False
        return True

    return deliver


@patch(_ipc.Channel)
async def send(self, item):
    await self.msgstream.send(item)


# Defect: a peer that connects and says nothing is waited for without limit, in both directions.
@patch(A)
async def _do_handshake(self, chan):
    try:
        with trio.fail_after(HANDSHAKE_S):
            uid = await _do_handshake.o(self, chan)
    except (trio.TooSlowError, *GONE) as e:
        raise TransportClosed(f"{chan.raddr}: no handshake: {e!r}") from None
    chan.msgstream.child = (
        uid in self._peer_connected
    )  # we are spawning it now: its last words count
    return uid


# Defect: a peer that dies as it is connected leaves the socket open until it is collected.
@patch(_ipc.Channel)
def set_msg_transport(self, stream, type_key=None):
    try:
        return set_msg_transport.o(self, stream, type_key)
    except OSError:
        stream.socket.close()
        raise


# Defect: a connection to the registrar or a found actor stays open when its use fails.
@asynccontextmanager
async def _connect_chan(host, port):
    chan = _ipc.Channel((host, port))
    await chan.connect()
    try:
        yield chan
    finally:
        with trio.CancelScope(shield=True):
            await chan.aclose()


_ipc._connect_chan = _discovery._connect_chan = _root._connect_chan = _connect_chan


# Defect: every local user may connect. TCP has no SO_PEERCRED, but the kernel's table knows a loopback peer's user.
def same_user(sock: Any) -> bool:
    ends = [sock.getpeername()[:2], sock.getsockname()[:2]]
    if not ends[0][0].startswith("127."):
        return True  # another host: a matter of `bind_addr`
    want = " ".join(
        "%08X:%04X" % (struct.unpack("=I", socket.inet_aton(ip))[0], port) for ip, port in ends
    )
    with open("/proc/net/tcp") as f:
        return any(int(line.split()[7]) == os.getuid() for line in f if want in line)


# Defect: an error in one connection's handler (reset before accept) ends the actor. Also: no limit of peers.
@patch(A)
async def _stream_handler(self, stream):
    self._conns = getattr(self, "_conns", 0) + 1
    try:
        if self._conns <= MAX_PEERS and same_user(stream.socket):
            await _stream_handler.o(self, stream)
        else:
            log.warning("connection refused: too many, or another user")
    except Exception as e:
        log.warning(f"connection dropped: {e!r}")
    finally:
        self._conns -= 1


# ---- a lost peer ends what waits for it and what runs for it, never this actor ----
# Defects: several places pop the same context without a default; and a parent imports every module it enables in a child.
class Contexts(dict):
    def pop(self, key, default=None):
        return dict.pop(self, key, default)


def origin(name):
    """Return a module's file without importing it or its packages; ModuleNotFoundError if there is none."""
    top, *rest = name.split(".")
    spec, path = find_spec(top), top
    for part in rest:
        path += "." + part
        spec = spec and PathFinder.find_spec(path, spec.submodule_search_locations or [])
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no module named {name!r}", name=name)
    return spec.origin


@patch(A)
def __init__(self, *a, enable_modules=(), **kw):
    __init__.o(self, *a, enable_modules=[], **kw)
    self.enable_modules |= {name: origin(name) for name in enable_modules or ()}  # never '__main__'
    self._contexts = Contexts()


# Defect: connected() stays True for 0.5 s (child) or for ever (peer) after the other side died.
@patch(_ipc.Channel)
def connected(self):
    return not getattr(self, "_lost", False) and connected.o(self)


# Defect: calls, contexts and streams to a dead peer wait for ever, and tasks it asked for run for ever.
async def drop(actor, chan, why):
    chan._lost = True
    served = {cid: v[0] for (c, cid), v in actor._rpc_tasks.items() if c is chan}
    error = {"type_str": "TransportClosed", "tb_str": f"peer {chan.uid} is gone: {why}"}
    for ctx in [c for c in actor._contexts.values() if c.chan is chan]:
        if ctx.cid not in served:
            actor._contexts.pop((chan.uid, ctx.cid))
            if not ctx._recv_chan._closed:
                msg = {"cid": ctx.cid, "error": error}
                ctx._send_chan._state.max_buffer_size += 1
                try:
                    ctx._send_chan.send_nowait(msg)  # wakes receivers
                except GONE:
                    pass
                await ctx._maybe_raise_from_remote_msg(msg)  # raises in open_context's body
        ctx._send_chan.close()
    for scope in served.values():
        scope.cancel()  # nobody is left to answer to


# Defect: what goes wrong in one message loop (a child's start-up failure, a full buffer) ends this actor. Defect: a loop
# is shielded from its start on; when that is cancelled in the turn before its first step, it and who connects never end.
@patch(A)
async def _process_messages(self, chan, shield=False, task_status=NOTASK):
    s, parent = chan.msgstream, chan is self._parent_chan
    s.self_ok = (
        {"_cancel_task"}
        | (REGISTRAR if self.is_arbiter else set())
        | ({"cancel"} if parent else set())
    )
    s.deliver = deliverer(self, chan)
    try:
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
        except trio.Cancelled:
            await s._agen.aclose()  # nobody reads it any more
            raise
        return await _process_messages.o(self, chan, shield=shield, task_status=task_status)
    except Exception as e:
        s.why = s.why or repr(e)
        log.error(f"channel to {chan.uid} failed: {e!r}")
        return True
    finally:
        await drop(self, chan, s.why or "it closed the connection")


# Defect: such an error also went to the parent, which lost its link to this healthy actor. Only a dying actor tells.
@patch(_actor)
async def try_ship_error_to_parent(channel, err):
    n = tractor.current_actor()._service_n
    if n is None or n._closed:
        await try_ship_error_to_parent.o(channel, err)


# Defect: an error text that cannot be encoded (lone surrogate), or is too long, ends the actor instead of the call.
@patch(_actor)
def pack_error(exc, tb=None):
    msg = pack_error.o(exc, tb)
    msg["error"]["tb_str"] = msg["error"]["tb_str"][-50_000:].encode("utf-8", "replace").decode()
    return msg


# Defect: the local consumer leaves while the message loop waits for room in its buffer: the loop dies.
@patch(A)
async def _push_result(self, chan, cid, msg):
    try:
        await _push_result.o(self, chan, cid, msg)
    except GONE:
        pass


# ---- RPC bookkeeping ----
# Defects: each call leaves a Context behind on the side that served it; and the message loop itself waits until a
# cancelled task has cleaned up, so the whole connection stands still.
@patch(_actor)
async def _invoke(actor, cid, chan, func, kwargs, is_rpc=True, task_status=NOTASK):
    if is_rpc and (getattr(func, "__module__", ""), getattr(func, "__name__", "")) in PROVEN:
        from piker.service._proof import guard

        func, kwargs = guard(actor, chan, func, kwargs)

    async def run():
        try:
            await _invoke.o(actor, cid, chan, func, kwargs, is_rpc=is_rpc, task_status=task_status)
        finally:
            ctx = actor._contexts.get((chan.uid, cid))  # of a call to ourselves it is the caller's
            if ctx and ctx.chan is chan:
                actor._contexts.pop((chan.uid, cid))

    if not is_rpc and getattr(func, "__name__", "") == "_cancel_task":
        actor._service_n.start_soon(run)
    else:
        await run()


# Defect: a caller that leaves (cancelled, time-out, wrong kind of function) leaves its Context and the remote task behind.
async def abandon(actor, ctx):
    actor._contexts.pop((ctx.chan.uid, ctx.cid))
    if ctx.chan.connected():
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 0.5):
            try:
                await ctx.chan.send(
                    {"cmd": ("self", "_cancel_task", {"cid": ctx.cid}, actor.uid, ctx.cid + ".c")}
                )
            except GONE:
                pass


opening = ContextVar("opening", default=None)  # what this task's open_context() has opened so far


@patch(A)
async def start_remote_task(self, chan, ns, func, kwargs, msg_buffer_size=None):
    if not chan.connected():
        raise TransportClosed(f"peer {chan.uid} is gone")
    ctx = self.get_context(chan, str(uuid.uuid4()), msg_buffer_size=msg_buffer_size)
    try:
        await chan.send({"cmd": (ns, func, kwargs, self.uid, ctx.cid)})
        msg = await ctx._recv_chan.receive()
        if "error" in msg:
            raise unpack_error(msg, chan)
        ctx._remote_func_type = msg["functype"]
    except BaseException as e:
        if isinstance(e, trio.Cancelled):
            await abandon(self, ctx)
        self._contexts.pop((chan.uid, ctx.cid))
        raise
    opening.set(ctx)
    return ctx


@patch(P)
async def _return_once(self, ctx):
    try:
        return await _return_once.o(self, ctx)
    except BaseException:
        await abandon(self.actor, ctx)
        raise
    finally:
        self.actor._contexts.pop((ctx.chan.uid, ctx.cid))


@patch(P)
@asynccontextmanager
async def open_context(self, func, **kwargs):
    ctx = None
    opening.set(None)
    try:
        async with open_context.o(self, func, **kwargs) as (ctx, first):
            yield ctx, first
    except UnboundLocalError as e:  # stock's, when the channel closes while the body ends
        if ctx is None or ctx.chan.connected():
            raise
        raise TransportClosed(f"peer {ctx.chan.uid} is gone") from e
    finally:
        done = ctx and (ctx._cancel_called or ctx._error or ctx._result is not False)
        if not done and (ctx := ctx or opening.get()):
            await abandon(self.actor, ctx)  # not entered, or left while waiting
        if ctx:
            self.actor._contexts.pop((ctx.chan.uid, ctx.cid))


# Defect: asking an actor to end raises when it ends before it answers.
@patch(P)
async def cancel_actor(self, timeout=None):
    try:
        return await cancel_actor.o(self, timeout)
    except trio.EndOfChannel:
        return True
    except RemoteActorError as e:
        if e.type is TransportClosed:
            return True
        raise  # refused: we are not its parent


# Defect: an actor that a sweep has taken out of the registry fails at its own end, when it takes itself out.
@patch(_actor.Arbiter)
async def unregister_actor(self, uid):
    self._registry.pop((str(uid[0]), str(uid[1])), None)


# ---- endpoint gate ----
# Defect: every async callable reachable as an attribute of an enabled module can be called, imported ones included.
EXPOSED: dict[tuple[str, str], tuple[Callable[..., Any], tuple[str, ...]]] = {}
PROVEN: set[tuple[str, str]] = set()  # of those: what wants a proof of the run's token


F = TypeVar("F", bound=Callable[..., Any])


@overload
def endpoint(fn: F) -> F: ...
@overload
def endpoint(
    fn: None = None, *, only: tuple[str, ...] = (), proven: bool = False
) -> Callable[[F], F]: ...
def endpoint(fn: Any = None, *, only: tuple[str, ...] = (), proven: bool = False) -> Any:
    """
    Outermost decorator, above @tractor.context; `only`: the daemon kinds that serve it (empty: all that enable the module).

    `proven`: the caller shows a proof of the run's token (`_proof`), which the function itself does not get.
    """
    if fn is None:
        return lambda fn: endpoint(fn, only=only, proven=proven)
    EXPOSED[fn.__module__, fn.__name__] = fn, only
    if proven:
        PROVEN.add((fn.__module__, fn.__name__))
    return fn


@patch(A)
def _get_rpc_func(self, ns, funcname):
    if ns == DENIED:
        raise ModuleNotExposed(f"{funcname}: {ns}")
    if ns in self._mods:  # asked before getattr: a name from outside never runs a __getattr__
        fn, only = EXPOSED.get((ns, funcname), (None, ()))
        if fn is None or only and self.name.partition(".")[0] not in only:
            raise ModuleNotExposed(f"{ns}:{funcname} is not an endpoint of {self.name}")
    return _get_rpc_func.o(self, ns, funcname)


if (
    me := tractor.current_actor(err_on_no_runtime=False)
) is not None:  # a child: its runtime is booting
    if me._parent_chan is None:
        raise ImportError("import this before the root actor opens")
    me._contexts, s = Contexts(me._contexts), me._parent_chan.msgstream
    s.stock, s.shook, s._agen = (
        s._agen,
        True,
        s._iter_packets(),
    )  # its reader was made by the stock function
