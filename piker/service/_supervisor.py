"""
A daemon that supervises others: the same restart units as in `pikerd`, one level down.

Each of its daemons has a row in the run's service table, which this module keeps up to date over
one `attach` dialog a daemon. Their lifelines are to this process and to `pikerd`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from piker import clock
from piker.errors import PikerError
from piker.log import get_logger
from piker.service._attach import open_supervised_row
from piker.service._errors import translate_errors
from piker.service._mngr import Services, has_services, set_services
from piker.service._rows import daemon_row

log = get_logger(__name__)

TELL_S = 0.25  # how old a row may be
RETRY_S = 1.0


@asynccontextmanager
async def open_supervisor(nursery: trio.Nursery) -> AsyncIterator[Services]:
    """
    Let this actor supervise daemons for the length of the block; `ensure` starts them in it.

    `nursery` must outlive the block. All daemons are gone after it. An actor has one supervisor.
    """
    assert not has_services(), "this actor supervises daemons already"
    services = Services(nursery)
    set_services(services)
    async with trio.open_nursery() as rows:
        rows.start_soon(_tell_of_units, services, rows)
        try:
            yield services
        finally:
            with trio.CancelScope(shield=True):
                await services.stop_all()
            set_services(None)
            rows.cancel_scope.cancel()


async def _tell_of_units(services: Services, nursery: trio.Nursery) -> None:
    told: set[str] = set()

    async def tell(name: str) -> None:
        told.add(name)
        await _tell(services, name)
        told.discard(name)

    while True:
        added = services.unit_added
        for name in services.service_tasks.keys() - told:
            nursery.start_soon(tell, name)
        await added.wait()


async def _tell(services: Services, name: str) -> None:
    """Keep a daemon's row in the run's table while it is supervised; `pikerd` may be away."""
    while name in services.service_tasks:
        try:
            with translate_errors("pikerd"):
                await _tell_changes(services, name)
        except (PikerError, trio.TooSlowError) as err:
            log.debug("row of %s: %s", name, err)
            await trio.sleep(clock.jitter(RETRY_S))


async def _tell_changes(services: Services, name: str) -> None:
    told = None
    async with open_supervised_row(name, services.service_tasks[name].spec.kind) as say:
        while unit := services.service_tasks.get(name):
            row = daemon_row(unit)
            if row != told:
                await say(row)
                told = row
            await trio.sleep(TELL_S)
