"""
`pikerd`: the supervisor, in the foreground until it is told to end.

SIGTERM, SIGINT and SIGHUP all mean the same: stop the daemons in order, leave nothing behind.
"""

from __future__ import annotations

import os
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Annotated

import trio
import typer

from piker import config
from piker.brokers import __brokers__
from piker.cli.ports import free_port
from piker.clock import ClockSpec, parse_spec
from piker.errors import ConfigError, PikerError
from piker.log import get_logger
from piker.service import Services, open_pikerd
from piker.service.private import counted
from piker.service.rpc import Address, probe

log = get_logger(__name__)

END_S = 10.0  # after a signal; far above what an orderly stop takes


def pikerd(
    loglevel: Annotated[
        str | None, typer.Option("-l", "--loglevel", help="debug, info, warning or error.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port to listen on (6116).")
    ] = None,
    venue: Annotated[
        list[str] | None,
        typer.Option(metavar="BROKER=URL", help="Run a broker on another server; repeatable."),
    ] = None,
    clock: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="The clock that `piker venue serve --json` prints."),
    ] = None,
    configdir: Annotated[
        Path | None, typer.Option("-c", "--configdir", help="Folder of configuration and state.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", hidden=True)] = False,
    fault: Annotated[list[str] | None, typer.Option(metavar="POINT=N", hidden=True)] = None,
) -> None:
    """
    Start the supervisor (and registry) in the foreground; Ctrl-C ends the whole tree.

    \b
    Examples:
      pikerd
      pikerd --venue binance=http://127.0.0.1:8123
    """
    if configdir is not None:
        os.environ["PIKER_CONFIG_DIR"] = str(configdir.expanduser().absolute())
    check_state_folder()
    spec = parse_spec(clock) if clock else None
    venues = dict(parse_venue_option(text) for text in venue or ())
    network = config.settings().network
    addr = (host or network.host, port or network.port)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    faults = dict(parse_fault_option(text) for text in fault or ())
    trio.run(partial(serve, addr, loglevel, venues, spec, private=private, faults=faults))


def check_state_folder() -> None:
    """
    Refuse a state folder that was named but is not there, or is none; the default one is made.

    Raises:
      ConfigError: says how to make it.
    """
    folder = config.config_dir()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(
            f"state folder {folder}: is a file; choose a folder with -c or PIKER_CONFIG_DIR"
        )
    if os.environ.get("PIKER_CONFIG_DIR") and not folder.is_dir():
        raise ConfigError(f"state folder {folder}: is not there; make it with `mkdir -p {folder}`")


def parse_venue_option(text: str) -> tuple[str, str]:
    """
    Return `(broker, URL)` of `BROKER=URL`; the official venue when the URL is empty.

    Raises:
      ConfigError: no such form, or no usable URL.
    """
    broker, equals, url = text.partition("=")
    if not broker.isidentifier() or not equals:
        raise ConfigError(
            f"--venue: was {text!r}, expected BROKER=URL such as binance=http://127.0.0.1:8123"
        )
    config.parse_venue(broker, url)
    return broker, url


def parse_fault_option(text: str) -> tuple[str, str]:
    """
    Return `(point, when)` of `POINT=N`, which `piker.faults` explains.

    Raises:
      ConfigError: no such form.
    """
    name, equals, when = text.partition("=")
    if not name or not equals:
        raise ConfigError(f"--fault: was {text!r}, expected POINT=N, POINT=kill:N or POINT=stop:N")
    return name, when


async def serve(
    addr: Address,
    loglevel: str | None,
    venues: dict[str, str],
    spec: ClockSpec | None,
    *,
    private: bool,
    faults: dict[str, str],
) -> None:
    """Run the tree until a signal, or until a private one is not needed any more."""
    if private and await probe(*addr) is not None:
        addr = addr[0], free_port(addr[0])
    async with open_pikerd(
        [addr],
        loglevel,
        tractor_runtime_overrides={"faults": faults} if faults else None,
        venues=venues,
        clock=spec,
        private=private,
    ) as services:
        for broker, text in config.run_vars()["venues"].items():
            found = config.parse_venue(broker, text)
            if found.is_local:
                log.warning("%s runs on the LOCAL venue %s (%s)", broker, found.url, found.name)
        async with trio.open_nursery() as nursery:
            await nursery.start(wait_signal, services)
            nursery.start_soon(look_after_orders)
            await services.stop_requested.wait()
            nursery.cancel_scope.cancel()
        held = await services.hear_orders()
        if held is None:
            log.warning("not watched until the next start: what is held")
        elif held:
            log.warning("not watched until the next start: %s", counted(held))
        log.info("pikerd stops")


async def look_after_orders() -> None:
    """Start the order daemon when an earlier run has left a journal: what is held is armed."""
    if not any_journal():
        return
    from piker.service import spawn_emsd

    try:
        await spawn_emsd()
    except PikerError as err:
        log.error("what is held is not watched: %s", err)


def any_journal() -> bool:
    """Whether orders were ever journalled on a venue of this run."""
    brokers = [*__brokers__, *(config.run_vars().get("backends") or {})]
    folders = {config.broker_dir(broker) / "journal" for broker in brokers}
    return any(path.is_dir() for folder in folders if folder.is_dir() for path in folder.iterdir())


async def wait_signal(
    services: Services, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Turn the first of the usual signals into an orderly stop with a last line of defence."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            services.stop_requested.set()
            defence = threading.Timer(END_S, os._exit, (1,))
            defence.daemon = True
            defence.start()
            await trio.sleep_forever()
