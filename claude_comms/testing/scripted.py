"""A backend whose answers are written down beforehand, for testing without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import anyio

from claude_comms.background.backends.protocol import BackendHealth
from claude_comms.errors import (
    BackendCrashedError,
    BackendProtocolError,
    BackendUnavailableError,
    ClaudeCommsError,
    PermissionDeniedError,
    TurnFailedError,
)
from claude_comms.types import BackendFeatures, Delta, TurnRequest, TurnResult, Usage, new_id

if TYPE_CHECKING:
    from claude_comms.types import Emit, InstanceSpec, Refused, Retried, ToolUsed

__all__ = ["Answer", "Crash", "Fail", "Garbage", "IgnoreCancellation", "ScriptedBackend", "Stall", "Step"]

ALL_FEATURES = BackendFeatures(streaming=True, resume=True, tools=True, interrupt=True, structured=True)


@dataclass(frozen=True, slots=True)
class Answer:
    """`text`, complete, in `pieces` of about the same length (or exactly those given).

    Before each piece but the first it waits for the matching event of `gates`, so that a test decides when a slow
    answer goes on.
    """

    text: str
    pieces: int | tuple[str, ...] = 3
    gates: tuple[anyio.Event, ...] = ()
    stop_reason: str = "end_turn"
    usage: Usage | None = None
    """Counted from the words when None."""
    events: tuple[ToolUsed | Refused | Retried, ...] = ()
    """What else happens in the turn, before the first piece."""


@dataclass(frozen=True, slots=True)
class Fail:
    """Raise `error` after the text that had come."""

    error: ClaudeCommsError
    after: str = ""


@dataclass(frozen=True, slots=True)
class Crash:
    """The session dies after it has said `after`: BackendCrashedError, and again for whoever asks it later."""

    after: str = ""
    exit_code: int = 1
    stderr_tail: str = "scripted crash"


@dataclass(frozen=True, slots=True)
class Garbage:
    """The session says something its protocol does not allow: BackendProtocolError."""

    line: str = "{not json"
    after: str = ""


@dataclass(frozen=True, slots=True)
class Stall:
    """Say `after`, then nothing until interrupted, cancelled, or `release` is set; then the rest of `answer`."""

    after: str = ""
    release: anyio.Event = field(default_factory=anyio.Event)
    answer: str = ""


@dataclass(frozen=True, slots=True)
class IgnoreCancellation:
    """Say `after`, then hang, deaf to interruption and cancellation, until `release` is set. It never answers."""

    after: str = ""
    release: anyio.Event = field(default_factory=anyio.Event)


_FIRST_PID = 1_000_001

Step = str | Answer | Fail | Crash | Garbage | Stall | IgnoreCancellation | ClaudeCommsError
ScriptItem = Step | Callable[[TurnRequest], Step]
Script = ScriptItem | Iterable[ScriptItem]


class ScriptedBackend:
    """Answers as `script` says, and keeps what it was asked in `requests`.

    `script` is one step for every turn (a text, a fault of this module, an error to raise, or a function of the
    request that returns one of these), or a sequence of them, one for each turn of all its sessions together;
    when a sequence has run out, a turn fails and says so. `add` appends steps. Without a script it echoes.

    `features` are what it declares, all by default, and it keeps to them: without ``tools`` it refuses grants,
    without ``streaming`` a text comes in one piece, without ``interrupt`` interruption has no effect, and without
    ``resume`` it knows no session handles.

    Its sessions can be warmed, looked at and killed (`ScriptedSession.kill`). With `processes` each pretends to have a
    process: a `pid` from 1,000,001 up that stands for nothing, so give the pool a `measure` that knows them.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        name: str = "scripted",
        features: BackendFeatures = ALL_FEATURES,
        open_error: ClaudeCommsError | None = None,
        processes: bool = False,
    ) -> None:
        self.requests: list[TurnRequest] = []
        """Every request that reached a session, oldest first."""
        self.sessions: list[ScriptedSession] = []
        """Every session that was opened, oldest first."""
        self.open_error = open_error
        """Raised by `open` while it is set."""
        self.threads: dict[str, list[str]] = {}
        """By session handle: the questions that session has been asked. This is what ``resume`` finds again."""
        self.warmed: list[TurnRequest] = []
        """Every request that a session was warmed for, oldest first."""
        self.warm_error: ClaudeCommsError | None = None
        """Raised by `ScriptedSession.warm` while it is set."""
        self.processes = processes
        self.closed = False
        self._name = name
        self._features = features
        self._always: ScriptItem | None = None
        self._steps: Iterator[ScriptItem] = iter(())
        self._added: list[ScriptItem] = []
        if script is None:
            self._always = lambda request: request.prompt.question
        elif isinstance(script, Iterable) and not isinstance(script, str):
            self._steps = iter(cast("Iterable[ScriptItem]", script))
        else:
            self._always = script

    @property
    def name(self) -> str:
        """As it was named."""
        return self._name

    @property
    def features(self) -> BackendFeatures:
        """As it was told to declare."""
        return self._features

    def add(self, *steps: ScriptItem) -> None:
        """Append steps; they come before a step that is for every turn."""
        self._added.extend(steps)

    async def open(self, spec: InstanceSpec) -> ScriptedSession:
        """A session, unless `open_error` is set, the backend is closed, or grants are refused."""
        if self.closed:
            raise BackendUnavailableError(f"backend {self._name} is closed. Make another one.", backend=self._name)
        if self.open_error is not None:
            raise self.open_error
        if spec.grants and not self._features.tools:
            raise PermissionDeniedError(
                f"backend {self._name} has no tools and cannot grant {spec.grants[0]}. Ask without grants.",
                grant=spec.grants[0],
            )
        session = ScriptedSession(self, spec)
        self.sessions.append(session)
        return session

    async def health(self) -> BackendHealth:
        """Usable unless closed or told to refuse."""
        if self.closed or self.open_error is not None:
            return BackendHealth(usable=False, reason=str(self.open_error or "closed"))
        return BackendHealth(usable=True, reason="scripted answers need nothing")

    async def close(self) -> None:
        """Open no more sessions."""
        self.closed = True

    def step_for(self, request: TurnRequest) -> Step:
        """Take the next step of the script."""
        step = self._added.pop(0) if self._added else next(self._steps, self._always)
        if step is None:
            return TurnFailedError(
                f"the script of backend {self._name} has no step left for turn {len(self.requests)}. Add one.",
                reason="script_exhausted",
                backend=self._name,
            )
        return step if isinstance(step, Step) else step(request)


class ScriptedSession:
    """One session of a `ScriptedBackend`."""

    def __init__(self, backend: ScriptedBackend, spec: InstanceSpec) -> None:
        self.spec = spec
        self.closed = 0
        """How often it was closed."""
        self.handle: str | None = None
        """Its own memory's name, with ``resume``."""
        self.pid: int | None = _FIRST_PID + len(backend.sessions) if backend.processes else None
        self.last_alive: float | None = None
        """When it last said something, on `anyio.current_time()`'s clock."""
        self.frozen = False
        """Whether it hears nothing any more between turns, as a stopped process."""
        self._backend = backend
        self._dead = False
        self._death = anyio.Event()
        self._died_of = ""
        self._interrupted: anyio.Event | None = None
        self._said = ""

    async def ask(self, request: TurnRequest, emit: Emit) -> TurnResult:
        """Do what the script says."""
        self._backend.requests.append(request)
        if self._dead or self.closed:
            raise self._crash("the session is dead", Crash())
        self._said = ""
        self._interrupted = anyio.Event()
        self._remember(request)
        try:
            return await self._play(self._backend.step_for(request), request, emit)
        finally:
            self._interrupted = None

    async def warm(self, request: TurnRequest) -> None:
        """Note it, unless `ScriptedBackend.warm_error` is set."""
        if self._backend.warm_error is not None:
            raise self._backend.warm_error
        self._backend.warmed.append(request)

    def kill(self, reason: str = "scripted death.", *, told: bool = True) -> None:
        """Its process dies; `told`: and whoever waits for `died` is told so."""
        self._dead, self._died_of = True, reason
        if told:
            self._death.set()

    async def prove(self, timeout_s: float) -> None:
        """Answer at once, unless `frozen`."""
        if self.frozen:
            with anyio.fail_after(timeout_s):
                await anyio.sleep_forever()
        self.last_alive = anyio.current_time()

    async def died(self) -> str:
        """Wait for `kill`."""
        await self._death.wait()
        return self._died_of

    async def interrupt(self) -> None:
        """Stop the running turn, where ``interrupt`` is declared."""
        if self._interrupted is not None and self._backend.features.interrupt:
            self._interrupted.set()

    async def close(self) -> None:
        """Count it."""
        self.closed += 1

    async def _play(self, step: Step, request: TurnRequest, emit: Emit) -> TurnResult:
        if isinstance(step, ClaudeCommsError):
            step = Fail(step)
        match step:
            case str():
                return await self._answer(Answer(step), request, emit)
            case Answer():
                return await self._answer(step, request, emit)
            case Stall(after=after, release=release, answer=answer):
                await self._say(after, emit)
                await self._pass(release)
                return await self._answer(Answer(answer), request, emit)
            case _:
                raise await self._fault(step, emit)

    async def _fault(self, step: Fail | Crash | Garbage | IgnoreCancellation, emit: Emit) -> ClaudeCommsError:
        await self._say(step.after, emit)
        match step:
            case Fail(error=error):
                return error
            case Crash():
                return self._crash("the session crashed", step)
            case Garbage(line=line):
                self._dead = True
                return BackendProtocolError(
                    "the session said something else than its protocol allows. Ask again.",
                    line=line,
                    backend=self._backend.name,
                )
            case IgnoreCancellation(release=release):
                await _wait_deaf(release)
                return self._crash("the session ignored everything until it was released", Crash())

    async def _answer(self, answer: Answer, request: TurnRequest, emit: Emit) -> TurnResult:
        for event in answer.events:
            await emit(event)
        pieces = answer.pieces if isinstance(answer.pieces, tuple) else _cut(answer.text, answer.pieces)
        if not self._backend.features.streaming:
            pieces = ("".join(pieces),)
        for number, piece in enumerate(pieces):
            if number and number <= len(answer.gates):
                await self._pass(answer.gates[number - 1])
            self._check_interrupted()
            await self._say(piece, emit)
        return TurnResult(
            text=self._said,
            model=request.model,
            stop_reason=answer.stop_reason,
            usage=answer.usage or _counted(request.prompt.message, self._said),
            session_handle=self.handle,
        )

    async def _say(self, text: str, emit: Emit) -> None:
        if text:
            self.last_alive = anyio.current_time()
            self._said += text
            await emit(Delta(text))

    async def _pass(self, gate: anyio.Event) -> None:
        """Wait until the gate is open, or raise if the turn is interrupted first."""
        assert self._interrupted is not None  # noqa: S101  set for as long as a turn runs
        async with anyio.create_task_group() as group:

            async def until(event: anyio.Event) -> None:
                await event.wait()
                group.cancel_scope.cancel()

            group.start_soon(until, gate)
            group.start_soon(until, self._interrupted)
        self._check_interrupted()

    def _check_interrupted(self) -> None:
        if self._interrupted is not None and self._interrupted.is_set():
            raise TurnFailedError(
                "the turn was interrupted. Ask again.",
                reason="interrupted",
                partial=self._said,
                backend=self._backend.name,
                retryable=True,
            )

    def _crash(self, text: str, crash: Crash) -> BackendCrashedError:
        self._dead = True
        return BackendCrashedError(
            f"{text}. Ask again.",
            exit_code=crash.exit_code,
            stderr_tail=crash.stderr_tail,
            backend=self._backend.name,
        )

    def _remember(self, request: TurnRequest) -> None:
        if not self._backend.features.resume:
            return
        known = self._backend.threads
        self.handle = request.session_handle if request.session_handle in known else new_id("s")
        known.setdefault(self.handle, []).append(request.prompt.question)


async def _wait_deaf(release: anyio.Event) -> None:
    while not release.is_set():
        try:
            await release.wait()
        except anyio.get_cancelled_exc_class():
            continue


def _cut(text: str, pieces: int) -> tuple[str, ...]:
    size = max(1, -(-len(text) // max(1, pieces)))
    return tuple(text[start : start + size] for start in range(0, len(text), size))


def _counted(question: str, answer: str) -> Usage:
    return Usage(input_tokens=len(question.split()), output_tokens=len(answer.split()), cost_usd=0.0)
