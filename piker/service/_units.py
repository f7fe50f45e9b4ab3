"""
A restart unit: one daemon, one task, one nursery.

`Unit.run` keeps its daemon alive: it spawns the actor, opens the daemon's lifetime context
(`started()` means ready), listens to its heartbeat, and starts it again with growing delays when
it dies, fails or hangs. It lets only `Cancelled` out, so that no daemon can take another one
down, and every way to stop ends in SIGKILL after about 2 s. Too many short lives end in the
DEGRADED state, which is left once a minute or on request, never by a storm of restarts.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import tractor
import trio

from piker import clock
from piker.errors import ConnectionLost, PikerError, innermost
from piker.log import get_logger
from piker.service._errors import translate_errors
from piker.service._procfs import actor_children
from piker.service._proof import supervisor_proof

log = get_logger(__name__)

Policy = Literal["permanent", "transient", "temporary"]
State = Literal["starting", "ready", "degraded", "restarting", "stopped"]

SPAWN_S = 8.0  # from exec to the lifetime context's `started()`, each half
START_CHECK_S = 0.05
EXIT_S = 0.2  # between a closed connection and the end of its process
HEARTBEAT_CHECK_S = 0.5
ALARM_S = 5.0  # without a heartbeat: hung, or, for the order path, said to be late
SHORT_LIFE_S = 10.0  # only lives shorter than this count as failures
RESTARTS_MAX, RESTARTS_WINDOW_S = 5, 60.0
BACKOFF_MIN_S, BACKOFF_MAX_S = 0.05, 10.0
DEGRADED_RETRY_S = 60.0
FIRST_MODULES = ("piker.service._tractor_shim", "piker.service._lifeline")


class DaemonSpec(msgspec.Struct, frozen=True):
    """
    What it takes to run a daemon: its actor, the modules others may call, its lifetime context.

    `spawn_kwargs` goes to the runtime (`infect_asyncio`, `loglevel`). `hang_s`: no heartbeat for
    so long means hung. `ready_s`: how long it may take to say `started()` (one that reads a
    journal first needs more than the usual). `grace_s`: how long it may take to end when asked to
    (a supervisor of others needs longer than they do). `permanent` is always restarted,
    `transient` only after a failure, `temporary` never.
    """

    name: str
    kind: str
    modules: list[str]
    target: Callable[..., Any]
    kwargs: dict[str, Any] = {}
    spawn_kwargs: dict[str, Any] = {}
    policy: Policy = "permanent"
    hang_s: float = ALARM_S
    ready_s: float | None = None
    grace_s: float = 1.0


def last_line(err: BaseException | None) -> str:
    """Return an error as one line; of a remote traceback that is its last one."""
    if err is None:
        return ""
    err = innermost(err)
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return re.sub(r"^piker\.[\w.]+: ", "", lines[-1]) if lines else type(err).__name__


class Unit:
    """Supervises one daemon; `run` it in a nursery, `stop` it from another task."""

    def __init__(self, spec: DaemonSpec) -> None:
        self.spec = spec
        self.portal: Any = None
        self.proc: trio.Process | None = None
        self.address: tuple[str, int] | None = None
        self.last_error: BaseException | None = None
        self.reported: dict[str, Any] = {}  # what the daemon last said of itself
        self.ready_ns = 0  # since when it serves, monotonic; 0: it does not
        self.lives = 0  # times it became ready
        self.failed_starts = 0  # attempts in a row that never became ready
        self.up, self.died, self.done = trio.Event(), trio.Event(), trio.Event()
        self.beat = trio.Event()  # set by the next heartbeat or the end of them, then replaced
        self._state: State = "starting"
        self._scope = trio.CancelScope()
        self._spawning: trio.CancelScope | None = None
        self._retry = trio.Event()
        self._death = ""  # what ended the process of the present life
        self._beats: Any = None  # the stream of heartbeats
        self._asked = self._answered = 0  # see `ask`
        self.is_late = False  # no heartbeat for `ALARM_S`
        self._short_lives: deque[float] = deque(maxlen=RESTARTS_MAX)
        self._delay_s = BACKOFF_MIN_S

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def pid(self) -> int | None:
        """Its process as long as that runs, whether or not its end was noticed yet."""
        return self.proc.pid if self.proc is not None and self.proc.returncode is None else None

    @property
    def state(self) -> State:
        """How it is: `ready` only while its process runs."""
        if self._state == "ready" and self.pid is None:
            return "stopped" if self._scope.cancel_called else "restarting"
        return self._state

    @property
    def is_up(self) -> bool:
        """Whether its daemon serves now."""
        return self.up.is_set() and self.portal is not None and self.portal.channel.connected()

    @property
    def cause(self) -> str:
        """Why it is not simply `ready`; empty when it is."""
        if self.is_late:
            return f"no heartbeat for {ALARM_S:g} s"
        if self.state == "ready":
            return str(self.reported.get("cause") or "")
        if self._state == "ready":  # `last_error` is still that of an earlier life
            return f"{self.name}: {self._death or 'it has ended'}"
        return last_line(self.last_error)

    async def ask(self) -> None:
        """
        Have the daemon say how it is now, and wait until `reported` is that, or newer.

        Raises:
          ConnectionLost: it does not serve, or ends meanwhile.
        """
        beats = self._beats
        if beats is None:
            raise ConnectionLost(f"{self.name}: does not serve now")
        self._asked += 1
        number = self._asked
        with translate_errors(self.name):
            await beats.send(number)
        while self._answered < number:
            if self._beats is not beats:
                raise ConnectionLost(f"{self.name}: ended before it answered")
            await self.beat.wait()

    def retry_now(self) -> None:
        """Leave the DEGRADED wait; a no-op in any other state."""
        self._retry.set()

    async def run(self) -> None:
        """Keep the daemon alive until `stop`, or until its policy says it is done."""
        try:
            with self._scope:
                while True:
                    begun, lives = trio.current_time(), self.lives
                    failed = await self._attempt()
                    if self.lives == lives:
                        self.failed_starts += 1
                    self.died.set()
                    self.died = trio.Event()
                    if self.spec.policy == "temporary" or (
                        self.spec.policy == "transient" and not failed
                    ):
                        break
                    await self._pause(trio.current_time() - begun)
        finally:
            self._state = "stopped"
            self.done.set()

    async def _attempt(self) -> bool:
        """Live once; return whether it ended in a failure, which is kept in `last_error`."""
        self._state = "restarting" if self.lives or self.failed_starts else "starting"
        failure: BaseException | None = None
        self._death = ""
        try:
            await self._once()
        except* Exception as group:  # relay: `last_error`, the service table, the next `ensure`
            failure = group
        if self._death:  # tells more than the lost connection that it led to
            failure = ConnectionLost(f"{self.name}: {self._death}")
        self.last_error = failure or PikerError(f"{self.name} ended by itself")
        log.warning("%s ended: %s", self.name, last_line(self.last_error))
        return failure is not None

    async def _pause(self, life_s: float) -> None:
        """Wait before the next life: a growing delay, or the DEGRADED state."""
        now = trio.current_time()
        if life_s >= SHORT_LIFE_S:
            self._short_lives.clear()
            self._delay_s = BACKOFF_MIN_S
        else:
            self._short_lives.append(now)
        self._state = "restarting"
        storm = len(self._short_lives) == RESTARTS_MAX
        if storm and now - self._short_lives[0] <= RESTARTS_WINDOW_S:
            self._state = "degraded"
            log.error(
                "%s degraded, next try in %.0f s: %s", self.name, DEGRADED_RETRY_S, self.cause
            )
            self._retry = trio.Event()
            with trio.move_on_after(DEGRADED_RETRY_S):
                await self._retry.wait()
            return
        await trio.sleep(clock.jitter(self._delay_s))
        self._delay_s = min(self._delay_s * 2, BACKOFF_MAX_S)

    async def _once(self) -> None:
        """One life: spawn, serve until something ends it, leave no process and no entry."""
        uid = None
        async with tractor.open_nursery() as nursery:
            try:
                await self._spawn(nursery)
                uid = self.portal.channel.uid
                self.proc = nursery._children[uid][1]
                await trio.lowlevel.checkpoint_if_cancelled()
                await self._serve(self.proc)
            finally:
                proc, portal = self.proc, self.portal
                self._serve_no_more()
                with trio.CancelScope(shield=True):
                    await self._reap(uid, proc, portal)

    def _serve_no_more(self) -> None:
        """End the present life for all who look at it, in one step; its process may take longer."""
        self.proc = self.portal = self.address = self._beats = None
        self.ready_ns = 0
        self.up = trio.Event()
        self._announce_beat()

    def _announce_beat(self) -> None:
        self.beat.set()
        self.beat = trio.Event()

    async def _spawn(self, nursery: Any) -> None:
        # Shielded: a spawn that is cancelled half way costs the runtime 3.5 s.
        deadline = trio.current_time() + SPAWN_S
        with trio.CancelScope(shield=True, deadline=deadline) as self._spawning:
            async with trio.open_nursery() as tasks:
                tasks.start_soon(self._watch_start, self._spawning)
                self.portal = await nursery.start_actor(
                    self.name,
                    enable_modules=[*FIRST_MODULES, *self.spec.modules],
                    **self.spec.spawn_kwargs,
                )
                tasks.cancel_scope.cancel()
        if self.portal is None:
            self._death = self._death or f"the process did not answer within {SPAWN_S:g} s"
            raise ConnectionLost(f"{self.name}: {self._death}")

    async def _watch_start(self, scope: trio.CancelScope) -> None:
        """Cancel `scope` when the process dies before it has connected: tractor waits for ever."""
        waited_for = tractor.current_actor()._peer_connected  # by uid, until it connects
        before = set(waited_for)
        while True:
            await trio.sleep(START_CHECK_S)
            alive = actor_children()
            for uid in set(waited_for) - before:
                if uid[0] == self.name and str(uid) not in alive:
                    self._death = "the process ended before it could answer"
                    del waited_for[uid]
                    scope.cancel()

    async def _serve(self, proc: trio.Process) -> None:
        async def watch_process() -> None:
            code = await proc.wait()
            self._death = self._death or f"the process ended ({_exit_text(code)})"
            tasks.cancel_scope.cancel()

        async with trio.open_nursery() as tasks:
            tasks.start_soon(watch_process)
            ready_s = self.spec.ready_s or SPAWN_S
            with trio.move_on_after(ready_s) as starting:
                kwargs = self.spec.kwargs | supervisor_proof(self.portal, self.spec.target)
                async with self.portal.open_context(self.spec.target, **kwargs) as opened:
                    starting.deadline = float("inf")
                    await self._follow(opened[0], proc)
            if starting.cancelled_caught:
                raise ConnectionLost(f"{self.name}: not ready within {ready_s:g} s")
            tasks.cancel_scope.cancel()

    async def _follow(self, ctx: Any, proc: trio.Process) -> None:
        """Listen to a ready daemon's heartbeat until it ends; SIGKILL it when it hangs."""
        heard = trio.current_time()

        async def watch_heartbeat() -> None:
            nonlocal heard
            looked = trio.current_time()
            while True:
                await trio.sleep(HEARTBEAT_CHECK_S)
                now = trio.current_time()
                if now - looked > 3 * HEARTBEAT_CHECK_S:
                    heard = now  # it was us who stood still
                looked = now
                if now - heard > self.spec.hang_s:
                    self._death = f"no heartbeat for {self.spec.hang_s:g} s"
                    proc.kill()
                    return
                if now - heard > ALARM_S and not self.is_late:
                    self.is_late = True
                    log.error("%s: no heartbeat for %.0f s", self.name, ALARM_S)

        async with ctx.open_stream() as beats, trio.open_nursery() as tasks:
            await self._became_ready(beats)
            tasks.start_soon(watch_heartbeat)
            async for beat in beats:
                heard, self.is_late = trio.current_time(), False
                if isinstance(beat, dict):
                    self._answered = beat.pop("asked", self._answered)
                    self.reported = beat
                self._announce_beat()
            tasks.cancel_scope.cancel()
        await ctx.result()

    async def _became_ready(self, beats: Any) -> None:
        self.address = await _registered_address(self.portal.channel.uid)
        self.lives += 1
        self.failed_starts = 0
        self.ready_ns = clock.monotonic_ns()
        self.reported = {}
        self.is_late = False
        self._beats = beats
        self._state = "ready"
        self.up.set()
        log.info("%s ready pid=%s address=%s:%s", self.name, self.pid, *self.address)

    async def _reap(
        self, uid: tuple[str, str] | None, proc: trio.Process | None, portal: Any
    ) -> None:
        if proc is not None and not portal.channel.connected():
            with trio.move_on_after(EXIT_S):
                if (code := await proc.wait()) < 0:
                    self._death = self._death or f"the process ended ({_exit_text(code)})"
        if proc is not None and proc.returncode is None:
            await portal.cancel_actor()  # 0.5 s at most
            with trio.move_on_after(self.spec.grace_s):
                await proc.wait()
            if proc.returncode is None:
                proc.kill()
                await proc.wait()
        if uid is not None:
            actor = tractor.current_actor()
            actor._actoruid2nursery.pop(uid, None)  # tractor never does
            await _unregister(actor, uid)

    async def stop(self) -> None:
        """End the daemon and wait until it is gone (only after `run` was started)."""
        if self._spawning is not None:
            self._spawning.deadline = min(self._spawning.deadline, trio.current_time() + 1)
        self._scope.cancel()
        await self.done.wait()


async def _registered_address(uid: tuple[str, str]) -> tuple[str, int]:
    async with tractor.get_arbiter(*tractor.current_actor()._arb_addr) as registrar:
        registry = await registrar.run_from_ns("self", "get_registry")
    host, port = registry[".".join(uid)]
    return str(host), int(port)


async def _unregister(actor: Any, uid: tuple[str, str]) -> None:
    """Take a dead process's entry out of the registry, which the runtime never does."""
    if actor.is_arbiter:
        actor._registry.pop(uid, None)
        return
    with trio.move_on_after(1):
        try:
            async with tractor.get_arbiter(*actor._arb_addr) as registrar:
                await registrar.run_from_ns("self", "unregister_actor", uid=uid)
        except (
            OSError,
            tractor.RemoteActorError,
            trio.BrokenResourceError,
            trio.ClosedResourceError,
        ):
            log.debug("registry did not take %s out", uid[0])


def _exit_text(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
