"""
The chart actor: serves the page, joins the run, opens the markets, ends on Ctrl-C.

Reading order: `run_chart`, the order of starting; `desk` answers the pages. The page is served
before the tree is up, so that a browser loads while the feed does; its address is told before
that only for markets that were used before, since a slip of the hand gets a sentence and no page.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Final

import msgspec
import trio

from piker import config
from piker.errors import SymbolNotFound
from piker.log import get_logger
from piker.service import find_run
from piker.service.private import ensure_pikerd, leave_private_run, open_run
from piker.ui.desk import Desk, Options, sentence
from piker.ui.opener import offer_page
from piker.ui.server import PageServer, open_page_server

log = get_logger(__name__)

FAREWELL_S: Final = 0.3  # a refusal reaches the page before the process ends
GOODBYE_S: Final = 10.0  # to leave the run and to say what stays armed, told to end
DUMP_S: Final = 0.5
VETTED_WITHIN_S: Final = 10.0  # for the venue to say whether the markets exist


async def run_chart(options: Options, announce: Callable[[str], None]) -> None:
    """
    Serve the chart until Ctrl-C (or until the snapshot is taken); `announce` prints a line.

    Raises:
      ConfigError: the port is taken, the run uses another venue, or the configuration is broken.
      SymbolNotFound: one of the asked markets does not exist; holds the closest names.
      ServiceUnavailable: no `pikerd` can be started.
    """
    config.settings()  # what is wrong with the files is said before a page is offered
    if find_run() is None:
        config.configured_venues()
    desk = Desk(options)
    is_debug = options.is_debug or options.snapshot is not None
    stopped = trio.Event()
    async with open_page_server(desk, port=options.port, is_debug=is_debug) as edge:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_on_signal, nursery.cancel_scope, stopped)
            if options.snapshot is None:
                title = " ".join(options.fqmes) or "piker"
                nursery.start_soon(_offer, desk, edge, options, title, announce)
            await _serve_run(desk, edge, options, announce)
            nursery.cancel_scope.cancel()
    if stopped.is_set():
        await leave_private_run(announce)


async def _offer(
    desk: Desk, edge: PageServer, options: Options, title: str, announce: Callable[[str], None]
) -> None:
    """Bring the page before the trader once its markets are known not to be a slip of the hand."""
    with trio.move_on_after(VETTED_WITHIN_S):
        await desk.vetted.wait()
    await offer_page(edge, title, options.opens_browser, announce)


async def _serve_run(
    desk: Desk, edge: PageServer, options: Options, announce: Callable[[str], None]
) -> None:
    async with trio.open_nursery() as nursery:
        # half a second of imports, while another process boots
        nursery.start_soon(trio.to_thread.run_sync, import_module, "piker.ui.source")
        await ensure_pikerd(options.venues, None, options.loglevel)
        desk.say("Joining pikerd…")
    async with open_run("chart", venues=options.venues, loglevel=options.loglevel):
        async with trio.open_nursery() as nursery:
            desk.join_run(nursery)
            nursery.start_soon(desk.watch_tree, _is_private_run())
            for fqme in options.fqmes:
                nursery.start_soon(_demand, desk, fqme)
            if options.snapshot is not None:
                from piker.ui.snapshot import take_snapshot

                await take_snapshot(edge.address(is_printed=False), options.snapshot)
                announce(f"saved {options.snapshot}")
                nursery.cancel_scope.cancel()


async def _demand(desk: Desk, fqme: str) -> None:
    """Open a market that was asked for on the command line: without it there is no desk."""
    try:
        picture = await desk.picture(fqme)
    except SymbolNotFound as err:
        await trio.sleep(FAREWELL_S)
        raise SymbolNotFound(sentence(fqme, err), broker=err.broker) from None
    desk.vet(fqme)
    if picture.facts.venue_name:
        log.info("market %s is of the LOCAL venue %s", fqme, picture.facts.venue_name)


def _is_private_run() -> bool:
    """Whether the run's `pikerd` is one that was started for a client, so that we may again."""
    try:
        said = msgspec.json.decode((config.run_dir() / "run.json").read_bytes())
    except (OSError, msgspec.DecodeError):
        return False
    return bool(said.get("private"))


async def _stop_on_signal(scope: trio.CancelScope, stopped: trio.Event) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for how in signals:
            if how == signal.SIGINT:  # somebody is there to read what stays
                stopped.set()
            end_within(GOODBYE_S)
            scope.cancel()


def end_within(seconds: float) -> None:
    """
    End this process by force if it has not ended by itself by then.

    A peer that never answers a goodbye must not hold a terminal. What was waited for is written
    to stderr first.
    """

    def give_up() -> None:
        os.kill(os.getpid(), signal.SIGUSR1)  # its tasks; without a handler this ends it at once
        threading.Event().wait(DUMP_S)
        os._exit(1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
