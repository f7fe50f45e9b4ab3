"""
The desk behind every page: markets by address, the state of the tree, search.

A market is opened once, however many pages follow it, and kept while the chart runs. The desk
must never end because of a page: what a page asks wrongly is answered with a sentence.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import trio

from piker import clock, config
from piker.brokers import __brokers__
from piker.errors import ConfigError, ConnectionLost, PikerError, ServiceUnavailable, SymbolNotFound
from piker.log import get_logger
from piker.model.market import unpack_fqme
from piker.service.private import ensure_pikerd
from piker.service.rpc import service_rows
from piker.settings import Settings
from piker.ui.messages import PROTO, Daemon, Err, Hit, Open, Pick, Search, Status, Welcome
from piker.ui.order_messages import OrderRequest
from piker.ui.order_path import real_ems
from piker.ui.orders import OrderDesk
from piker.ui.picture import Picture
from piker.ui.recent import Recent
from piker.ui.search import BrokerSearch, loaded_hits, search_providers
from piker.ui.session import Session
from piker.ui.status import daemon_dots, order_gate

log = get_logger(__name__)

MARKETS_MAX: Final = 64
TREE_S: Final = 1.0  # how often the service table is read


class Options(msgspec.Struct, frozen=True):
    """What `piker chart` was asked for."""

    fqmes: tuple[str, ...]
    venues: dict[str, str] = {}
    opens_browser: bool = True
    snapshot: str | None = None
    port: int = 0
    is_debug: bool = False
    loglevel: str | None = None


class _Entry:
    """One market of this chart: its picture once there, or why there is none."""

    def __init__(self) -> None:
        self.settled = trio.Event()
        self.picture: Picture | None = None
        self.refusal: SymbolNotFound | None = None


class Desk:
    """Answers the pages of one chart process."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._entries: dict[str, _Entry] = {}
        self._sessions: set[Session] = set()
        self._joined = trio.Event()
        self._nursery: trio.Nursery | None = None
        self.orders: OrderDesk | None = None  # there once the run is joined
        self._providers: dict[str, BrokerSearch] = {}
        self._step = "Starting pikerd…"
        self._conf, self._slip = config.settings(), ""
        self._recent = Recent()
        self._unvetted = set(options.fqmes) - set(self._recent.fqmes)
        self.vetted = trio.Event()  # the asked markets exist, or cannot be asked about now
        self.vet()
        self.dots: tuple[Daemon, ...] = tuple(daemon_dots([], self._brokers))

    @property
    def _brokers(self) -> list[str]:
        fqmes = self._entries or dict.fromkeys(self._options.fqmes)
        return list(dict.fromkeys(unpack_fqme(fqme)[0] for fqme in fqmes))

    def vet(self, *fqmes: str) -> None:
        """Count markets that were asked for as existing; one that was used before counts so."""
        self._unvetted.difference_update(fqmes)
        if not self._unvetted:
            self.vetted.set()

    # ---- the tree

    def join_run(self, nursery: trio.Nursery) -> None:
        """The run is joined: markets may be opened, in `nursery`."""
        self._nursery = nursery
        self._providers = {broker: BrokerSearch(broker, nursery) for broker in __brokers__}
        self.orders = OrderDesk(real_ems(self._options.loglevel), nursery, self._tell_gate)
        self._joined.set()
        for broker in self._brokers:
            self.say(f"Starting datad.{broker}…")

    def say(self, step: str) -> None:
        """Tell pages without a market what is being done."""
        self._step = step
        self._tell_tree()

    def _tell_tree(self) -> None:
        for session in self._sessions:
            if not session.has_market:
                session.send(Status(0, "connecting", cause=self._step, daemons=self.dots))

    async def watch_tree(self, is_private: bool) -> None:
        """Keep the dots current; start a private `pikerd` again when it was killed."""
        while True:
            rows: list[dict[str, Any]] | None = None
            try:
                with trio.move_on_after(5 * TREE_S):
                    rows = await service_rows()
            except (ConnectionLost, ServiceUnavailable) as err:
                log.warning("pikerd does not answer: %s", err)
            self.dots = tuple(daemon_dots(rows, self._brokers))
            self._tell_tree()
            if self.orders:
                self.orders.see_tree(any(d.name == "emsd" and d.state == "up" for d in self.dots))
            if rows is None and is_private:
                await self._revive()
            await trio.sleep(TREE_S)

    async def _revive(self) -> None:
        try:
            await ensure_pikerd(self._options.venues, clock.spec(), self._options.loglevel)
        except PikerError as err:
            log.warning("pikerd was not started again: %s", err)

    def _settings(self) -> Settings:
        """Return the settings; those before when somebody is just editing the file."""
        try:
            self._conf = config.settings()
        except ConfigError as err:
            if str(err) != self._slip:
                log.warning("settings not read: %s", err)
            self._slip = str(err)
        return self._conf

    # ---- what the edge asks

    def welcome(self) -> Welcome:
        """Greet a page with the markets to show and the operator's preferences."""
        return Welcome(
            v=PROTO,
            secret=None,
            build="",
            charts=list(self._options.fqmes),
            recent=self._recent.fqmes,
            prefs=msgspec.to_builtins(self._settings().ui),
            now=clock.now_s(),
            speed=clock.speed(),
            debug=self._options.is_debug,
        )

    def join(self, session: Session) -> None:
        """A page is connected."""
        self._sessions.add(session)
        self._tell_tree()

    def leave(self, session: Session) -> None:
        """It has gone."""
        self._sessions.discard(session)
        if self.orders:
            self.orders.leave(session)

    def pick(self, request: Pick) -> None:
        """A chosen market is opened by the page itself; here it is remembered as last used."""
        log.debug("picked market=%s", request.fqme)
        self._recent.use(request.fqme)

    def order(self, session: Session, request: OrderRequest) -> None:
        """Do what a page asks of the order path; no channel is attached before the run is."""
        if self.orders:
            self.orders.ask(session, request, session.picture_of(request.chan))

    async def open_market(self, session: Session, request: Open) -> None:
        """Attach the market to the session's channel, or refuse it with the closest names."""
        await self._joined.wait()
        try:
            picture = await self.picture(request.fqme.lower())
            session.attach(request.chan, picture)
            assert self.orders is not None
            self.orders.follow(session, request.chan, picture)
        except SymbolNotFound as err:
            text, closest = sentence(request.fqme, err), list(err.matches)
            refusal = Err("open", "unknown_market", text, request.chan, 0, closest)
            session.refuse(request.chan, refusal)
        except PikerError as err:
            session.refuse(request.chan, Err("open", "bad_request", str(err), request.chan))

    async def search(self, session: Session, request: Search) -> None:
        """Answer with the loaded markets at once and every provider as it comes."""
        order = list(self._options.fqmes)
        entries = sorted(
            self._entries.items(), key=lambda e: order.index(e[0]) if e[0] in order else len(order)
        )
        loaded = [(fqme, _loaded_hit(entry.picture)) for fqme, entry in entries if entry.picture]
        first = loaded_hits(request.id, request.text, loaded)
        session.send(first)
        await self._joined.wait()
        listed = {hit.fqme for hit in first.rows}
        await search_providers(request, session.send, self._providers, listed)

    # ---- markets

    async def picture(self, fqme: str) -> Picture:
        """
        Return the picture of a market, starting its feed the first time.

        Raises:
          SymbolNotFound: the broker has no such market.
          PikerError: `MARKETS_MAX` are open, or the text is no address.
        """
        entry = self._entries.get(fqme)
        if entry is None:
            entry = self._start(fqme)
        await entry.settled.wait()
        if entry.refusal:
            raise entry.refusal
        assert entry.picture is not None
        return entry.picture

    def _gate(self, fqme: str, feed: str) -> str | None:
        desk = self.orders.gate(fqme) if self.orders else ""
        return order_gate(fqme, feed, desk, is_strict=self._settings().clearing.stale_gate)

    def _tell_gate(self, picture: Picture) -> None:
        """Let pages know at once that the order path opens or closes."""
        if status := picture.status:
            gate = self._gate(picture.facts.fqme, status.feed)
            picture.status = msgspec.structs.replace(status, gate=gate)
            picture.publish(picture.status)

    def _start(self, fqme: str) -> _Entry:
        try:
            broker = unpack_fqme(fqme)[0]
        except ValueError as err:
            raise SymbolNotFound(str(err)) from None
        if broker not in __brokers__:
            raise SymbolNotFound(f"no broker is named {broker!r}", broker=broker)
        if len(self._entries) >= MARKETS_MAX:
            raise PikerError(f"{MARKETS_MAX} markets are open in this chart; start another one.")
        entry = self._entries[fqme] = _Entry()
        assert self._nursery is not None
        self._nursery.start_soon(self._keep, fqme, entry)
        return entry

    async def _keep(self, fqme: str, entry: _Entry) -> None:
        from piker.ui.source import Source

        async def on_ready(picture: Picture) -> None:
            entry.picture = picture
            entry.settled.set()

        def on_trouble(text: str) -> None:
            self.vetted.set()
            self.say(text)

        def gate(feed: str) -> str | None:
            return self._gate(entry.picture.facts.fqme if entry.picture else fqme, feed)

        try:
            await Source(fqme, lambda: self.dots, on_trouble, gate).run(on_ready)
        except SymbolNotFound as err:
            entry.refusal = err
            entry.settled.set()
            self._entries.pop(fqme, None)


def sentence(fqme: str, err: SymbolNotFound) -> str:
    """Return what is said about a market that does not exist."""
    closest = f" Closest: {', '.join(err.matches)}." if err.matches else f" {err}"
    return f'No market "{fqme}".{closest}'


def _loaded_hit(picture: Picture) -> Hit:
    last, opened = float(picture.l1[0]), float(picture.l1[7])
    is_known = last == last and opened == opened and opened > 0
    return Hit(
        picture.facts.fqme,
        f"{picture.facts.name}, {picture.facts.venue}",
        last if last == last else None,
        last / opened - 1 if is_known else None,
    )
