"""
Endpoints that may move money want a proof of the run's token: who gets one, and what it opens.

Daemons are real processes; `sleeper_kind` has one guarded call and one guarded dialog.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sleeper_kind as kind
import tractor
import trio
from helpers import free_port, open_test_pikerd

from piker import config
from piker.errors import PikerError, ServiceUnavailable
from piker.service._proof import _is_ours
from piker.service._registry import connect
from piker.service.rpc import proof, translate_errors

KIND = ("sleeper_kind",)


async def test_a_caller_with_the_runs_token_is_served() -> None:
    async with open_test_pikerd(root_modules=KIND), kind.maybe_spawn_sleeperd("a") as portal:
        shown = proof(portal, kind.guarded_call)
        assert await portal.run(kind.guarded_call, value=3, proof=shown) == 3
        shown = proof(portal, kind.guarded_dialog)
        async with portal.open_context(kind.guarded_dialog, value=4, proof=shown) as (ctx, first):
            assert first == 4
            await ctx.cancel()


@pytest.mark.parametrize("shown", [None, "", "0" * 128, 7, "\U0001f600", ["x"]])
async def test_a_client_without_the_token_is_refused(shown: Any) -> None:
    args = {} if shown is None else {"proof": shown}
    async with open_test_pikerd(root_modules=KIND), kind.maybe_spawn_sleeperd("a") as portal:
        expected = r"guarded_\w+ of sleeperd\.a needs the run's token"
        with pytest.raises(PikerError, match=expected), translate_errors():
            await portal.run(kind.guarded_call, value=3, **args)
        with pytest.raises(PikerError, match=expected), translate_errors():
            async with portal.open_context(kind.guarded_dialog, value=4, **args):
                raise AssertionError("not reached")
        assert await portal.run(kind.get_pid) > 0


async def test_a_proof_opens_one_endpoint_of_one_actor_for_one_caller() -> None:
    async with open_test_pikerd(root_modules=KIND):
        async with kind.maybe_spawn_sleeperd("a") as a, kind.maybe_spawn_sleeperd("b") as b:
            shown = proof(a, kind.guarded_dialog)
            for portal in (a, b):
                with pytest.raises(PikerError, match="needs the run's token"), translate_errors():
                    await portal.run(kind.guarded_call, value=3, proof=shown)
            shown = proof(a, kind.guarded_call)
            with pytest.raises(PikerError, match="needs the run's token"), translate_errors():
                await b.run(kind.guarded_call, value=3, proof=shown)


async def test_a_proof_dies_with_its_token() -> None:
    async with open_test_pikerd(root_modules=KIND), kind.maybe_spawn_sleeperd("a") as portal:
        shown = proof(portal, kind.guarded_call)
        (config.run_dir() / "token").write_bytes(secrets.token_bytes(32))
        with pytest.raises(PikerError, match="needs the run's token"), translate_errors():
            await portal.run(kind.guarded_call, value=3, proof=shown)
        shown = proof(portal, kind.guarded_call)
        assert await portal.run(kind.guarded_call, value=3, proof=shown) == 3


async def test_without_a_token_nobody_is_served() -> None:
    async with open_test_pikerd(root_modules=KIND), kind.maybe_spawn_sleeperd("a") as portal:
        shown = proof(portal, kind.guarded_call)
        for content in (b"", b"short"):
            (config.run_dir() / "token").write_bytes(content)
            with pytest.raises(ServiceUnavailable, match="is no token"):
                proof(portal, kind.guarded_call)
            with pytest.raises(PikerError, match="is no token"), translate_errors():
                await portal.run(kind.guarded_call, value=3, proof=shown)
        (config.run_dir() / "token").unlink()
        with pytest.raises(PikerError, match="cannot be read"), translate_errors():
            await portal.run(kind.guarded_call, value=3, proof=shown)


JOIN_ANOTHER = """
import trio
import sleeper_kind as kind
from piker.errors import PikerError
from piker.service import open_piker_runtime
from piker.service.rpc import proof
async def main():
    async with open_piker_runtime("bot"):
        async with kind.maybe_spawn_sleeperd("a") as portal:
            try:
                print(proof(portal, kind.guarded_call))
            except PikerError as err:
                print(err)
trio.run(main)
"""


async def test_a_registry_that_is_not_the_folders_gets_no_proof(tmp_path: Path) -> None:
    mine, port = tmp_path / "mine", free_port()
    mine.mkdir()

    async def join(folder: Path) -> str:
        done = await trio.run_process(
            [sys.executable, "-c", JOIN_ANOTHER],
            capture_stdout=True,
            stderr=subprocess.DEVNULL,
            env=os.environ
            | {"PIKER_CONFIG_DIR": str(folder), "PIKER_REGISTRY": f"127.0.0.1:{port}"},
        )
        return done.stdout.decode()

    theirs = tmp_path / "theirs"
    theirs.mkdir()
    async with open_test_pikerd(("127.0.0.1", port), conf_dir=theirs, root_modules=KIND):
        assert "no pikerd runs on the state folder" in await join(mine)
        assert len((await join(theirs)).strip()) == 128


async def test_another_run_on_this_folder_gets_no_proof_from_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with open_test_pikerd(root_modules=KIND), kind.maybe_spawn_sleeperd("a") as portal:
        monkeypatch.setattr(tractor.current_actor(), "_arb_addr", ("127.0.0.1", 9))
        with pytest.raises(ServiceUnavailable, match=r"127.0.0.1:9 is not the pikerd of"):
            proof(portal, kind.guarded_call)


RELAY = """
import os, socket, sys, time
import encodings.idna
os.setuid(65534)
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
peer, _ = listener.accept()
peer.recv(4096)
hello = bytes([0x92, 0xa1]) + b"x" + bytes([0xa1]) + b"y"
peer.sendall(len(hello).to_bytes(4, "little") + hello)
time.sleep(30)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user")
async def test_a_listener_of_another_user_gets_no_proof() -> None:
    relay = subprocess.Popen([sys.executable, "-c", RELAY], stdout=subprocess.PIPE, text=True)
    try:
        assert relay.stdout is not None
        port = int(await trio.to_thread.run_sync(relay.stdout.readline))
        async with open_test_pikerd(root_modules=KIND), connect(("127.0.0.1", port)) as portal:
            assert not _is_ours(portal.channel)
            with pytest.raises(PikerError, match="not a process of this user; it gets no proof"):
                proof(portal, kind.guarded_call)
    finally:
        relay.kill()
        relay.communicate()


async def test_a_guarded_lifetime_context_is_opened_by_its_supervisor() -> None:
    spec = msgspec.structs.replace(
        kind.sleeperd_init("a", "calm"), target=kind.guarded_dialog, kwargs={"value": 1}
    )
    async with open_test_pikerd() as (_, _, _, services):
        await services.ensure(spec)
        assert services.service_tasks["sleeperd.a"].is_up
