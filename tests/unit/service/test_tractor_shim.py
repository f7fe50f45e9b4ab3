"""One test per defect that `_tractor_shim` contains, in the order of its comments."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import shim_targets as targets
import tractor
import trio
import trio.lowlevel
import trio.testing
from helpers import free_port
from shim_tree import OpenTree, start_child
from tractor import _ipc
from tractor._exceptions import ModuleNotExposed, TransportClosed

from piker.service import _tractor_shim as shim
from piker.service._registry import connect, probe

GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


def address(name: str) -> tuple[str, int]:
    registry = tractor.current_actor()._registry
    return next(addr for uid, addr in registry.items() if uid[0] == name)


def process(nursery: Any, name: str = "child") -> Any:
    return next(proc for actor, proc, _ in nursery._children.values() if actor.name == name)


def idle_counts() -> tuple[int, int, int]:
    actor = tractor.current_actor()
    return len(actor._contexts), len(actor._rpc_tasks), len(os.listdir("/proc/self/fd"))


def only_error(caught: pytest.ExceptionInfo[BaseException]) -> BaseException:
    err = caught.value
    while isinstance(err, BaseExceptionGroup):
        err = err.exceptions[0]
    return err


@asynccontextmanager
async def raises_gone():
    """The block fails, within a second, because its peer is gone."""
    with trio.fail_after(2):
        try:
            yield
        except BaseException as err:
            leaves = [err]
            while isinstance(leaves[0], BaseExceptionGroup):
                leaves = list(leaves[0].exceptions)
            assert isinstance(leaves[0], tractor.RemoteActorError | TransportClosed), leaves
            if isinstance(leaves[0], tractor.RemoteActorError):
                assert leaves[0].msgdata["type_str"] == "TransportClosed"
        else:
            raise AssertionError("nothing was raised")


# ---- transport ----


async def test_cancelled_send_leaves_no_torn_frame(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        async with portal.open_context(targets.swallow) as (ctx, _), ctx.open_stream() as stream:
            for _ in range(5):
                with trio.move_on_after(0.001):
                    await stream.send(b"x" * 3_000_000)
        assert await portal.run(targets.echo, value=1) == 1


async def test_what_is_sent_in_one_turn_arrives_in_order(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        async with portal.open_context(targets.mirror) as (ctx, _), ctx.open_stream() as stream:
            assert shim.send_nowait(stream, "a", "b")
            await stream.send("c")
            assert shim.send_nowait(stream, "d")
            assert [await stream.receive() for _ in range(4)] == ["a", "b", "c", "d"]
            assert not shim.send_nowait(stream, "e", b"x" * 5_000_000)
            assert not shim.send_nowait(stream, "e", object())
            await ctx.cancel()


@pytest.mark.parametrize("is_followed", [True, False])
async def test_the_rest_of_a_frame_goes_before_all_that_follows(
    open_tree: OpenTree, is_followed: bool
) -> None:
    large = b"x" * 3_000_000
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        async with portal.open_context(targets.mirror) as (ctx, _), ctx.open_stream() as stream:
            wire = ctx.chan.msgstream
            wire.stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            assert shim.send_nowait(stream, large)
            assert wire.rest, "the kernel has taken all of it: nothing is tested here"
            assert not shim.send_nowait(stream, "too early")
            if is_followed:
                await stream.send("next")
                assert [await stream.receive(), await stream.receive()] == [large, "next"]
            else:
                assert await stream.receive() == large
            await ctx.cancel()


async def test_a_send_that_is_cancelled_behind_the_rest_of_a_frame_tears_nothing(
    open_tree: OpenTree,
) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        async with portal.open_context(targets.swallow) as (ctx, _), ctx.open_stream() as stream:
            wire = ctx.chan.msgstream
            wire.stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            for _ in range(5):
                shim.send_nowait(stream, b"x" * 3_000_000)
                with trio.move_on_after(0.001):
                    await stream.send(b"x" * 3_000_000)
        assert await portal.run(targets.echo, value=1) == 1


@pytest.mark.parametrize("error", [ValueError, KeyError])
async def test_a_message_is_handed_over_in_the_turn_of_its_arrival(
    open_tree: OpenTree, error: type[Exception]
) -> None:
    seen: list[tuple[str, object]] = []

    def take(message: object, more: bool) -> bool:
        if message == "fail":
            raise error("was not taken")
        if message == "later":
            return False
        seen.append(("taken", message))
        return True

    async def receive(stream: Any) -> None:
        nonlocal seen
        try:
            async for message in stream:
                seen += [("read", message)]
        except (ValueError, RuntimeError) as err:
            seen += [("failed", str(err)[:20])]

    async with open_tree() as nursery:
        portal = await start_child(nursery)
        async with portal.open_context(targets.mirror) as (ctx, _), ctx.open_stream() as stream:
            shim.hand_over(stream, take)
            async with trio.open_nursery() as tasks:
                tasks.start_soon(receive, stream)
                await trio.testing.wait_all_tasks_blocked()
                shim.send_nowait(stream, 1, 2, "later", 3)
                with trio.fail_after(2):
                    while len(seen) < 4:
                        await trio.sleep(0.001)
                shim.send_nowait(stream, "fail")
            # The reader may have had "later" still in hand when 3 came, and nothing overtakes it.
            assert seen[:3] == [("taken", 1), ("taken", 2), ("read", "later")]
            assert seen[3] in (("taken", 3), ("read", 3))
            ((end, text),) = seen[4:]
            assert end == "failed"
            assert "was not taken" in text or "KeyError" in text
            await ctx.cancel()
        assert await portal.run(targets.echo, value=1) == 1


async def test_message_over_the_limit_is_refused_in_its_sender(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        with pytest.raises(ValueError, match="the limit is 4194304"):
            await portal.run(targets.echo, value=b"x" * 5_000_000)
        assert await portal.run(targets.echo, value=1) == 1


async def test_only_the_parent_may_cancel_an_actor(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        async with connect(address("child")) as second:
            with pytest.raises(tractor.RemoteActorError) as caught:
                await second.cancel_actor()
        assert caught.value.type is ModuleNotExposed
        assert await portal.run(targets.echo, value=1) == 1
        assert await portal.cancel_actor()
        with trio.fail_after(2):
            await process(nursery).wait()


async def test_actor_methods_cannot_be_called(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        names = ("cancel_server", "load_modules", "register_actor", "nosuch", "__class__")
        for name in (*names, "cancel_soon", "get_parent", "_serve_forever", "is_infected_aio"):
            with pytest.raises(tractor.RemoteActorError) as caught:
                await portal.run_from_ns("self", name)
            assert caught.value.type is ModuleNotExposed, name
        assert await portal.run(targets.echo, value=1) == 1


async def test_registrar_methods_are_served_by_the_registrar_only(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        await start_child(nursery)
        me = tractor.current_actor()
        async with connect(me.accept_addr) as registrar:
            assert ".".join(me.uid) in await registrar.run_from_ns("self", "get_registry")
        async with connect(address("child")) as child:
            with pytest.raises(tractor.RemoteActorError) as caught:
                await child.run_from_ns("self", "get_registry")
        assert caught.value.type is ModuleNotExposed


# ---- hostile bytes ----


def frame(value: Any) -> bytes:
    body = msgspec.msgpack.encode(value)
    return struct.pack("<I", len(body)) + body


HELLO = frame(["stranger", "00"])
UNDECODABLE = struct.pack("<I", 3) + b"\xc1\xc1\xc1"
NESTED = struct.pack("<I", 1 << 20) + b"\x91" * (1 << 20)
COMMAND = {"cmd": ["shim_targets", "echo", {}, ["stranger", "00"], "c1"]}


def command(ns: str, name: str, kwargs: Any = None) -> bytes:
    return frame({"cmd": [ns, name, kwargs or {}, ["stranger", "00"], "c1"]})


# What is sent, and whether the connection is reset instead of closed.
ATTACKS: dict[str, tuple[bytes, bool]] = {
    "connect and close": (b"", False),
    "connect and reset": (b"", True),
    "half a header": (b"\x01\x00", False),
    "zero length": (b"\0\0\0\0", False),
    "32 odd bytes": (bytes(range(200, 232)), False),
    "3 of 100 bytes": (struct.pack("<I", 100) + b"abc", False),
    "HTTP, then reset": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True),
    "HTTP, then close": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", False),
    "first frame 5": (frame(5), False),
    "first frame None": (frame(None), False),
    "first frame of one": (frame(["x"]), False),
    "first frame {}": (frame({}), False),
    "bad utf-8": (struct.pack("<I", 5) + b"\x92\xa1\xff\xa1a", False),
    "then a list": (HELLO + frame([1, 2]), False),
    "then {}": (HELLO + frame({}), False),
    "then a short cmd": (HELLO + frame({"cmd": ["a", "b"]}), False),
    "then an error": (HELLO + frame({"error": {"tb_str": "x", "type_str": "y"}}), False),
    "then 5 undecodable frames": (HELLO + UNDECODABLE * 5, False),
    "then an unknown self method": (HELLO + command("self", "nosuch"), False),
    "then half a frame": (HELLO + frame(COMMAND)[:20], False),
    "then self.cancel": (HELLO + command("self", "cancel"), False),
    "then an unknown module": (HELLO + command("os", "system", {"command": "true"}), False),
    "then length 0xffffffff": (HELLO + b"\xff\xff\xff\xff", True),
    "then a length of 512 MB": (HELLO + struct.pack("<I", 512 << 20) + b"\0" * 100_000, True),
    "then nested headers": (HELLO + NESTED, False),
    "then cid no string": (HELLO + frame(COMMAND | {"cid": 5}), False),
    "then a second handshake": (HELLO + HELLO, False),
    "then forged runtime vars": (HELLO + frame({"_runtime_vars": {"_is_root": True}}), False),
    "then junk for _cancel_task": (HELLO + command("self", "_cancel_task", {"cid": 3}), False),
    "then junk for register_actor": (HELLO + command("self", "register_actor", {"uid": 1}), False),
}


async def attack(addr: tuple[str, int], payload: bytes, reset: bool) -> None:
    stream = await trio.open_tcp_stream(*addr)
    try:
        with trio.move_on_after(0.5):
            if payload:
                await stream.send_all(payload)
                await trio.sleep(0.005)
    except trio.BrokenResourceError:
        pass  # the actor was quicker to hang up
    if reset:
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await stream.aclose()


@pytest.mark.parametrize("whom", ["child", "root"])
async def test_no_bytes_from_a_stranger_end_an_actor(open_tree: OpenTree, whom: str) -> None:
    async with open_tree(40) as nursery:
        portal = await start_child(nursery)
        addr = address("child") if whom == "child" else tractor.current_actor().accept_addr
        for name, (payload, reset) in ATTACKS.items():
            await attack(addr, payload, reset)
            with trio.fail_after(2):
                assert await portal.run(targets.echo, value=name) == name, name
                async with connect(addr) as again:
                    assert await again.run(targets.echo, value=name) == name, name


async def test_a_peer_that_dies_as_it_is_connected_leaves_no_socket_open(
    open_tree: OpenTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    addresses_of = _ipc.get_stream_addrs

    def after_its_reset(stream: trio.SocketStream) -> Any:
        peer, _ = listener.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        return addresses_of(stream)

    async with open_tree():
        before = idle_counts()[2]
        monkeypatch.setattr(_ipc, "get_stream_addrs", after_its_reset)
        with pytest.raises(OSError, match="not connected"):
            async with connect(listener.getsockname()):
                raise AssertionError
        assert idle_counts()[2] == before, "file descriptors"
    listener.close()


async def test_a_connection_whose_use_fails_is_closed(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        await start_child(nursery)
        before = idle_counts()[2]
        with pytest.raises(KeyError):
            async with tractor._discovery._connect_chan(*address("child")) as channel:
                raise KeyError
        assert idle_counts()[2] == before, "file descriptors"
        assert not channel.connected()


async def test_a_silent_peer_is_dropped_after_two_seconds(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        await start_child(nursery)
        async with await trio.open_tcp_stream(*address("child")) as stream:
            begun = trio.current_time()
            with trio.fail_after(4):
                while await stream.receive_some(1000):
                    pass
        assert 1.5 < trio.current_time() - begun < 3.5


async def test_boot_against_a_silent_port_ends(open_tree: OpenTree) -> None:
    async with open_tree():
        listener = socket.create_server(("127.0.0.1", 0))
        with listener, trio.fail_after(4), pytest.raises(TransportClosed, match="no handshake"):
            async with connect(listener.getsockname()):
                pass


async def test_no_more_than_the_limit_of_peers_is_served(open_tree: OpenTree) -> None:
    async with open_tree(30) as nursery:
        portal = await start_child(nursery)
        addr, streams = address("child"), []
        for _ in range(shim.MAX_PEERS + 20):
            stream = await trio.open_tcp_stream(*addr)
            streams.append(stream)
            await stream.send_all(HELLO)
        assert await portal.run(targets.echo, value=1) == 1
        for stream in streams:
            await trio.aclose_forcefully(stream)
        with trio.fail_after(5):
            while not await probe(*addr):
                await trio.sleep(0.05)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
async def test_another_user_of_the_machine_is_refused(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        await start_child(nursery)
        host, port = address("child")
        code = "import encodings.idna, os, socket; os.setuid({user}); "
        code += f"print(socket.create_connection(('{host}', {port})).recv(9))"
        said = {}
        for user in (65534, 0):
            command_line = [sys.executable, "-S", "-c", code.format(user=user)]
            result = await trio.run_process(command_line, capture_stdout=True)
            said[user] = result.stdout.strip()
        assert said[65534] == b"b''"
        assert said[0] != b"b''"


# ---- a lost peer ----


async def test_parent_does_not_import_the_modules_of_its_children() -> None:
    assert shim.origin("xml.dom.pulldom").endswith("pulldom.py")
    assert "xml.dom.pulldom" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        shim.origin("piker.nosuch.module")


@asynccontextmanager
async def in_call(portal: Any):
    yield lambda: portal.run(targets.sleep, seconds=1000)


@asynccontextmanager
async def in_idle_body(portal: Any):
    async with portal.open_context(targets.idle):
        yield trio.sleep_forever


@asynccontextmanager
async def in_result(portal: Any):
    async with portal.open_context(targets.idle) as (ctx, _):
        yield ctx.result


@asynccontextmanager
async def in_stream(portal: Any):
    async with portal.open_context(targets.swallow) as (ctx, _), ctx.open_stream() as stream:
        yield stream.receive


@asynccontextmanager
async def in_large_frames(portal: Any):
    async with portal.open_context(targets.pump, size=3_000_000) as (ctx, _):
        async with ctx.open_stream(msg_buffer_size=512) as stream:

            async def drain() -> None:
                async for _ in stream:
                    pass

            yield drain


@pytest.mark.parametrize("waiting", [in_call, in_idle_body, in_result, in_stream, in_large_frames])
async def test_who_waits_for_a_killed_peer_is_told(
    open_tree: OpenTree, waiting: Callable[[Any], Any]
) -> None:
    async with open_tree() as nursery:
        portal, sibling = await start_child(nursery), await start_child(nursery, "sibling")
        proc = process(nursery)

        async def kill() -> None:
            await trio.sleep(0.1)
            os.kill(proc.pid, signal.SIGKILL)

        async with trio.open_nursery() as tasks:
            tasks.start_soon(kill)
            async with raises_gone():
                async with waiting(portal) as wait:
                    await wait()
        assert not portal.channel.connected()
        assert await sibling.run(targets.echo, value=1) == 1
        assert not [
            c for c in tractor.current_actor()._contexts.values() if c.chan is portal.channel
        ]


async def test_next_call_to_a_killed_peer_fails_at_once(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        async with raises_gone():
            await portal.run(targets.kill_yourself)
        with pytest.raises(GONE):
            await portal.run(targets.echo)


async def test_what_a_killed_caller_asked_for_is_cancelled(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        portal, caller = await start_child(nursery), await start_child(nursery, "caller")
        before = await portal.run(targets.counts)
        async with raises_gone():
            await caller.run(targets.call_then_die, addr=list(address("child")))
        with trio.fail_after(1):
            while await portal.run(targets.counts) != before:
                await trio.sleep(0.01)


async def test_child_that_fails_at_start_fails_alone(open_tree: OpenTree, tmp_path: Any) -> None:
    async with open_tree() as nursery:
        sibling = await start_child(nursery, "sibling")
        (tmp_path / "broken_module.py").write_text("raise ImportError('a broken module')")
        sys.path.append(str(tmp_path))
        try:
            with trio.fail_after(5), pytest.raises(BaseException) as caught:  # noqa: PT012
                broken = await nursery.start_actor(
                    "broken", enable_modules=[*targets.MODULES, "broken_module"]
                )
                await broken.run(targets.pid)
        finally:
            sys.path.remove(str(tmp_path))
        assert "a broken module" in str(only_error(caught))
        assert await sibling.run(targets.echo, value=1) == 1


async def test_error_text_that_cannot_be_encoded_is_repaired(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        with pytest.raises(tractor.RemoteActorError) as caught:
            await portal.run(targets.fail, text="x" * 3_000_000)
        assert caught.value.type is ValueError
        assert len(str(caught.value)) < 60_000
        with pytest.raises(tractor.RemoteActorError) as caught:
            await portal.run(targets.fail_with_surrogate)
        assert caught.value.type is ValueError
        assert await portal.run(targets.echo, value=1) == 1


async def test_return_value_that_cannot_travel_is_an_error_of_the_call(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        with pytest.raises(tractor.RemoteActorError) as caught:
            await portal.run(targets.return_unencodable)
        assert caught.value.type is TypeError


@pytest.mark.parametrize("how", ["break", "raise", "cancel", "ctx.cancel"])
async def test_leaving_a_stream_with_a_full_buffer_harms_nobody(
    open_tree: OpenTree, how: str
) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        with trio.CancelScope() as scope:
            try:
                async with portal.open_context(targets.pump, size=100) as (ctx, _):
                    async with ctx.open_stream():
                        await trio.sleep(0.2)  # the 64 places fill up
                        if how == "raise":
                            raise KeyError
                        if how == "cancel":
                            scope.cancel()
                            await trio.lowlevel.checkpoint()
                        if how == "ctx.cancel":
                            await ctx.cancel()
                    if how == "break":
                        await ctx.cancel()
            except KeyError:
                pass
        assert await portal.run(targets.echo, value=1) == 1
        with trio.fail_after(2):
            while (await portal.run(targets.counts))["tasks"] > 1:
                await trio.sleep(0.02)


# ---- RPC bookkeeping ----


async def test_calls_leave_nothing_behind(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        before = idle_counts(), await portal.run(targets.counts)
        for i in range(200):
            await portal.run(targets.echo, value=i)
        for _ in range(20):
            async with portal.open_context(targets.returns) as (ctx, _):
                assert await ctx.result() == 7
            async with portal.open_context(targets.idle) as (ctx, _):
                await ctx.cancel()
            with pytest.raises(tractor.RemoteActorError):
                await portal.run(targets.fail, text="no")
        after = idle_counts(), await portal.run(targets.counts)
        assert (after[0][:2], after[1]) == (before[0][:2], before[1])
        assert after[0][2] <= before[0][2], "file descriptors"


async def test_cleanup_of_a_cancelled_task_does_not_hold_up_its_connection(
    open_tree: OpenTree,
) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        async with portal.open_context(targets.slow_to_clean_up, seconds=1.0) as (ctx, _):
            async with trio.open_nursery() as tasks:
                tasks.start_soon(ctx.cancel)
                await trio.sleep(0.05)
                begun = trio.current_time()
                await portal.run(targets.echo)
                assert trio.current_time() - begun < 0.3


async def test_abandoned_calls_are_cancelled_on_the_other_side(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        before = idle_counts()[:2], await portal.run(targets.counts)
        with trio.move_on_after(0.1):
            await portal.run(targets.sleep, seconds=1000)
        with trio.move_on_after(0.1):
            async with portal.open_context(targets.never_started):
                raise AssertionError
        with trio.move_on_after(0.1):
            async with portal.open_context(targets.idle):
                pass  # waits for the result
        with pytest.raises(AssertionError):
            async with portal.open_context(targets.sleep, seconds=1000):
                pass
        with trio.fail_after(2):
            while (idle_counts()[:2], await portal.run(targets.counts)) != before:
                await trio.sleep(0.02)


class CancelAtMessageLoop(trio.abc.Instrument):
    """Cancels a scope in the turn in which a connection's message loop is about to begin."""

    def __init__(self, scope: trio.CancelScope) -> None:
        self._scope = scope
        self.is_done = False

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        if task.name.endswith("._process_messages"):
            self._scope.cancel()
            self.is_done = True


async def test_connecting_ends_when_cancelled_as_its_message_loop_begins(
    open_tree: OpenTree,
) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        with trio.fail_after(5), trio.CancelScope() as scope:
            instrument = CancelAtMessageLoop(scope)
            trio.lowlevel.add_instrument(instrument)
            try:
                async with connect(address("child")):
                    await trio.sleep_forever()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        assert instrument.is_done
        assert scope.cancelled_caught
        assert await portal.run(targets.echo, value=1) == 1


async def test_cancelling_an_actor_that_ends_first_is_success(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        async with trio.open_nursery() as tasks:

            async def end_it() -> None:
                with pytest.raises(BaseException):  # noqa: B017
                    await portal.run(targets.end_the_runtime)

            tasks.start_soon(end_it)
            await trio.sleep(0.01)
            assert await portal.cancel_actor() in (True, False)
        with trio.fail_after(3):
            await process(nursery).wait()


async def test_taking_an_actor_out_of_the_registry_twice_is_no_error(open_tree: OpenTree) -> None:
    async with open_tree() as nursery:
        await start_child(nursery)
        me = tractor.current_actor()
        uid = next(uid for uid in me._registry if uid[0] == "child")
        async with connect(me.accept_addr) as registrar:
            for _ in range(2):
                await registrar.run_from_ns("self", "unregister_actor", uid=uid)


# ---- endpoint gate ----


async def test_a_helper_imported_into_an_enabled_module_cannot_be_called(
    open_tree: OpenTree,
) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        closed = ("helper", "sync_helper", "run_process", "endpoint", "connect", "__builtins__")
        for name in (*closed, "nosuch", "served_elsewhere", "trio"):
            with pytest.raises(tractor.RemoteActorError) as caught:
                await portal.run_from_ns("shim_targets", name)
            assert caught.value.type is ModuleNotExposed, name
        for ns in ("tractor._debug", "piker.service._tractor_shim", "piker.service._lifeline"):
            for name in ("breakpoint", "endpoint", "drop", "_watch", "run_vars"):
                with pytest.raises(tractor.RemoteActorError) as caught:
                    await portal.run_from_ns(ns, name)
                assert caught.value.type is ModuleNotExposed, name


async def test_any_call_into_a_disabled_module_is_refused_with_a_clear_error(
    open_tree: OpenTree,
) -> None:
    async with open_tree() as nursery:
        portal = await start_child(nursery)
        with pytest.raises(tractor.RemoteActorError) as caught:
            await portal.run_from_ns("piker.data.feed", "open_feed")
        assert caught.value.type is ModuleNotExposed
        assert "Make sure you exposed the target module" in str(caught.value)


def test_shim_refuses_to_be_imported_after_a_root_has_opened() -> None:
    code = (
        "import trio, tractor\n"
        "async def main():\n"
        f"    async with tractor.open_root_actor(arbiter_addr=('127.0.0.1', {free_port()})):\n"
        "        import piker.service._tractor_shim\n"
        "trio.run(main)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "import this before the root actor opens" in result.stderr
