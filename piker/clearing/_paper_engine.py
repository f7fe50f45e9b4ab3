"""
`paperboi.<broker>`: fills paper orders from the broker's live market, and sends nothing anywhere.

The engine is `PaperEngine` of `_paper_core`, which runs in simulations as well; here is the actor
around it. `emsd` starts and supervises it, and is the only one it talks to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import tractor
import trio

from piker.brokers import get_brokermod
from piker.clearing._actor_world import ActorWorld
from piker.clearing._fill_models import DEFAULT_FEES, paper_terms
from piker.clearing._paper_core import PaperEngine
from piker.clearing._paper_grid import ACCOUNT
from piker.clearing._stream_channel import StreamChannel
from piker.config import settings
from piker.log import get_logger, setup_actor_logging
from piker.service.rpc import actor_name, endpoint, proof, serve_until_cancelled, translate_errors
from piker.service.supervise import DaemonSpec, open_own_daemon

log = get_logger(__name__)


class _Dialog:
    """The one dialog that a `paperboi` holds, and what it says of itself."""

    def __init__(self) -> None:
        self.engine: PaperEngine | None = None
        self.scope = trio.CancelScope()

    def status(self) -> dict[str, Any]:
        """Return state and counters for the heartbeat."""
        stats = self.engine.statistics() if self.engine else {}
        return {"state": "ready", "cause": "", "stats": stats}


_dialog = _Dialog()  # of this actor


@endpoint(only=("paperboi",), proven=True)
@tractor.context
async def _setup_persistent_paperboi(
    ctx: tractor.Context, brokername: str, loglevel: str | None = None
) -> None:
    setup_actor_logging(actor_name(), loglevel)
    get_brokermod(brokername)
    await ctx.started()
    await serve_until_cancelled(ctx, _dialog.status)


def paperboi_init(brokername: str, loglevel: str | None = None) -> DaemonSpec:
    """
    Return how `paperboi.<brokername>` is started; it serves nothing of its backend.

    Raises:
      ModuleNotFoundError: no backend has this name.
    """
    mod = get_brokermod(brokername)
    return DaemonSpec(
        name=f"paperboi.{brokername}",
        kind="paperboi",
        modules=["piker.clearing._paper_engine"],
        target=_setup_persistent_paperboi,
        kwargs={"brokername": brokername, "loglevel": loglevel},
        spawn_kwargs=dict(getattr(mod, "_spawn_kwargs", {})),
        policy="permanent",
    )


@endpoint(only=("paperboi",), proven=True)
@tractor.context
async def open_trade_dialog(ctx: tractor.Context, fqme: str | None = None) -> None:
    """
    Trade on paper: intents come in, the broker's messages go out, as with a live backend.

    The market `fqme` is opened at once, others when an order asks for them. One
    dialog at a time: a new one ends the one before, whose peer is gone.
    """
    broker = actor_name().partition(".")[2]
    fees = getattr(get_brokermod(broker), "fee_rates", DEFAULT_FEES)
    engine = PaperEngine(ActorWorld(), broker, paper_terms(settings().paper, fees), fqme or "")
    _dialog.scope.cancel()
    with trio.CancelScope() as scope:
        _dialog.engine, _dialog.scope = engine, scope
        await ctx.started(([], [ACCOUNT]))
        async with ctx.open_stream() as stream:
            await engine.serve(StreamChannel(stream))


@asynccontextmanager
async def open_paperboi(
    fqme: str | None, broker: str, loglevel: str | None = None
) -> AsyncIterator[tuple[tractor.Context, Any, tractor.MsgStream]]:
    """
    Yield `(context, (positions, accounts), stream)` of a dialog with `paperboi.<broker>`.

    Runs in `emsd`, which starts the engine and supervises it. One engine serves all markets of
    its broker; `fqme` is the one to be open first.

    Raises:
      ServiceUnavailable: it does not start; says why. ConnectionLost: it has died.
    """
    log.info("opening paper dialog broker=%s fqme=%s", broker, fqme)
    with translate_errors(f"paperboi.{broker}"):
        async with open_own_daemon(paperboi_init(broker, loglevel)) as portal:
            async with portal.open_context(
                open_trade_dialog, proof=proof(portal, open_trade_dialog), fqme=fqme
            ) as (ctx, first):
                async with ctx.open_stream() as stream:
                    yield ctx, first, stream
                await ctx.cancel()
