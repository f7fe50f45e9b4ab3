"""
The client's side of a run: find its `pikerd`, join it, stay listed in its table.

A client never becomes a registrar, and takes over the run's URL set and clock. Its `attach` dialog
is opened again by itself when `pikerd` was restarted.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import tractor
import trio

from piker import clock, config
from piker.errors import ConfigError, PikerError, ServiceUnavailable
from piker.log import adopt_runtime_log, get_logger
from piker.service._attach import describe_run, open_attachment
from piker.service._boot import actor_logs, get_runtime_vars, open_root, runtime_state
from piker.service._errors import translate_errors
from piker.service._registry import Address, connect, probe, registry_addr
from piker.service._run_file import read_run

log = get_logger(__name__)

QUERY_NAME = "piker_query"  # one-shot commands are called so, with their pid
REATTACH_MIN_S, REATTACH_MAX_S = 0.1, 2.0


def find_run() -> Address | None:
    """
    Return where the run of this state folder is: PIKER_REGISTRY, else its `run.json`; else None.

    Whoever else listens at the default address is another run, and never joined by accident.
    """
    if text := os.environ.get("PIKER_REGISTRY"):
        host, _, port = text.rpartition(":")
        if not host or not port.isdigit():
            raise ConfigError(f"PIKER_REGISTRY: was {text!r}, expected HOST:PORT")
        return host, int(port)
    if run := read_run(config.run_dir()):
        return run.address
    return None


def require_run() -> Address:
    """
    Return where the run of this state folder is.

    Raises:
      ServiceUnavailable: none runs; one line that says what to do.
    """
    if (addr := find_run()) is None:
        raise ServiceUnavailable(
            f"no pikerd runs on the state folder {config.config_dir()}; start one with `pikerd`"
        )
    return addr


async def probe_pikerd(addr: Address) -> None:
    """
    Return when a `pikerd` answers at `addr`.

    Raises:
      ServiceUnavailable: nobody does, or something else does; one line that says what to do.
    """
    who = await probe(*addr)
    where = f"{addr[0]}:{addr[1]}"
    if who is None:
        raise ServiceUnavailable(f"no pikerd runs at {where}; start one with `pikerd`")
    if who is False or who[0] != "pikerd":
        raise ServiceUnavailable(f"{where} is some other program, not a pikerd; check the address")


def check_venues(running: dict[str, str], wanted: dict[str, str]) -> None:
    """
    Refuse venue URLs that differ from those of the run, which were fixed at its start.

    Raises:
      ConfigError: names both URLs.
    """
    for broker, text in wanted.items():
        asked = config.parse_venue(broker, text)
        have = config.parse_venue(broker, running.get(broker))
        if asked.url != have.url:
            raise ConfigError(
                f"venue of {broker}: was {asked.url or 'the official one'}, but this pikerd runs"
                f" {broker} on {have.url or 'the official one'}; stop it to change the venue"
            )


@asynccontextmanager
async def open_piker_runtime(
    name: str,
    registry_addrs: list[Address] | None = None,
    enable_modules: Iterable[str] = (),
    loglevel: str | None = None,
    *,
    tractor_runtime_overrides: dict[str, Any] | None = None,
    venues: dict[str, str] | None = None,
    attach: bool = True,
    **kwargs: Any,
) -> AsyncIterator[tuple[Any, list[Address]]]:
    """
    Join a running `pikerd` as a client; yields `(actor, registry addresses)`.

    In a process that has a runtime it changes nothing. The client takes over the run's URL set
    and clock, is listed in the service table (`attach`), and is listed again by itself after
    `pikerd` was restarted. `venues`: what the caller insists on.

    Raises:
      ServiceUnavailable: no `pikerd` answers.
      ConfigError: `venues` differs from what the run uses.
    """
    if (actor := tractor.current_actor(err_on_no_runtime=False)) is not None:
        yield actor, [registry_addr()]
        return
    with runtime_state(dict(tractor_runtime_overrides or {})):
        addr = registry_addrs[0] if registry_addrs else require_run()
        await probe_pikerd(addr)
        modules = ["piker.service._tractor_shim", "piker.service._lifeline", *enable_modules]
        # The terminal of a command shows warnings only; one that asks and leaves keeps no file.
        lasts, shown = not name.startswith(QUERY_NAME), loglevel or "warning"
        with actor_logs(name, loglevel, to_file=lasts, console_level=shown):
            async with open_root(name, addr, modules, False, **kwargs) as actor:
                adopt_runtime_log()
                with translate_errors("pikerd"):
                    async with connect(addr) as pikerd:
                        _adopt_run(await pikerd.run(describe_run))
                check_venues(config.run_vars()["venues"], venues or {})
                interrupted = trio.Event()
                async with trio.open_nursery() as nursery:
                    if _interrupts_are_ours():
                        await nursery.start(_wait_interrupt, nursery.cancel_scope, interrupted)
                    if attach:
                        await nursery.start(_stay_attached, actor, registry_addrs is None)
                    yield actor, [addr]
                    nursery.cancel_scope.cancel()
    if interrupted.is_set():
        raise KeyboardInterrupt


def _interrupts_are_ours() -> bool:
    """Whether ^C would be raised wherever the process happens to be (trio's own handler)."""
    handler = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and getattr(handler, "__module__", "") == "trio._core._ki"


async def _wait_interrupt(
    scope: trio.CancelScope,
    interrupted: trio.Event,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """
    Cancel the client's block at ^C, inside the runtime, so that it ends from within.

    A KeyboardInterrupt raised in one of the runtime's own tasks ends its message loops first, and
    the dialogs of the block then wait for answers that nobody reads. The second ^C is raised.
    """
    with trio.open_signal_receiver(signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            interrupted.set()
            scope.cancel()
            return


def _adopt_run(facts: dict[str, Any]) -> None:
    get_runtime_vars()["piker_vars"] = config.run_vars() | facts


async def _stay_attached(
    actor: Any,
    may_move: bool,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Hold the `attach` dialog open, again and again, for as long as the client lives."""
    delay_s, is_first = REATTACH_MIN_S, True
    kind = actor.name.partition(".")[0]
    while True:
        try:
            with translate_errors("pikerd"):
                async with open_attachment(actor.name, kind) as facts:
                    _adopt_run(facts)
                    if is_first:
                        task_status.started()
                    else:
                        log.info("attached again to pikerd at %s:%s", *registry_addr())
                        await _register_again(actor)
                    is_first, delay_s = False, REATTACH_MIN_S
                    await trio.sleep_forever()
        except (PikerError, trio.TooSlowError):
            if is_first:
                raise
            log.warning("pikerd at %s:%s is gone; attaching again", *registry_addr())
        await trio.sleep(clock.jitter(delay_s))
        delay_s = min(delay_s * 1.6, REATTACH_MAX_S)
        if may_move:
            actor._arb_addr = find_run() or actor._arb_addr


async def _register_again(actor: Any) -> None:
    """Enter this client into the registry of a `pikerd` that was started anew."""
    async with tractor.get_arbiter(*registry_addr()) as registrar:
        await registrar.run_from_ns(
            "self", "register_actor", uid=actor.uid, sockaddr=actor.accept_addr
        )
