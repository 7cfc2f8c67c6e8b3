"""An engine and a bus for tests of the daemon's server: everything in memory, every step decided by the test."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import anyio
import httpx

from claude_comms.daemon.server import Limits, Server
from claude_comms.errors import (
    ClaudeCommsError,
    ConversationNotFoundError,
    DeadlineExceededError,
    InstanceNotFoundError,
    JobNotFoundError,
    TurnFailedError,
    UnknownModuleError,
)
from claude_comms.events import Event, EventFilter, Missed, NewEvent
from claude_comms.jobs import Job, JobRequest, JobState
from claude_comms.settings import Settings
from claude_comms.types import (
    Check,
    Conversation,
    ConversationState,
    Delta,
    InstanceInfo,
    InstanceLimits,
    InstanceState,
    Load,
    Pair,
    Preview,
    Prompt,
    Question,
    Reply,
    Started,
    SystemBlock,
    TerminalTurn,
    TokenCount,
    TurnEvent,
    Usage,
    UsageRow,
    new_id,
)

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import ASGIApp

    from claude_comms.conversations import SearchHit
    from claude_comms.descriptors import Match
    from claude_comms.events import ConsumerGroup
    from claude_comms.protocols import UsageBy

TOKEN = "token-canary-5e1f0c3a9b"
VERSION = "0.1.0"
MODULES = ("marker", "arangodb")


class ListBus:
    """An event bus that is a list."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.forgotten = 0
        """So many of the first events are not kept any more."""
        self._changed = anyio.Event()
        self._closed = False

    async def open(self) -> None: ...

    @property
    def last_seq(self) -> int:
        return len(self.events)

    def post(self, event: NewEvent) -> None:
        new = Event(
            self.last_seq + 1, event.event_id, event.type, event.subject, event.namespace, event.priority, event.time,
            event.data,
        )  # fmt: skip
        self.events.append(new)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    async def publish(self, *events: NewEvent) -> list[Event]:
        for event in events:
            self.post(event)
        return self.events[-len(events) :]

    async def read(self, wanted: EventFilter | None = None, *, after: int = 0, limit: int = 1000) -> list[Event]:
        kept = self.events[max(after, self.forgotten) :]
        return [event for event in kept if wanted is None or wanted.fits(event)][:limit]

    def subscribe(
        self, wanted: EventFilter | None = None, *, after: int | None = None, buffer: int = 10_000
    ) -> ListSubscription:
        return ListSubscription(self, wanted, self.last_seq if after is None else after, buffer)

    def group(self, name: str, wanted: EventFilter | None = None, *, hold_s: float = 60.0) -> ConsumerGroup:
        raise NotImplementedError

    async def close(self) -> None:
        self._closed = True
        self._wake()

    async def more_than(self, count: int) -> None:
        """Wait until there are more events than `count`, or there will be none."""
        while self.last_seq <= count and not self._closed:
            await self._changed.wait()
        if self.last_seq <= count:
            raise StopAsyncIteration


class ListSubscription:
    """Follows a list."""

    def __init__(self, bus: ListBus, wanted: EventFilter | None, after: int, buffer: int) -> None:
        self._bus = bus
        self._wanted = wanted
        self._cursor = after
        self._buffer = buffer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> Self:
        return self

    def ready(self) -> list[Event | Missed]:
        there: list[Event | Missed] = []
        while (event := self.next_now()) is not None:
            there.append(event)
        return there

    def next_now(self) -> Event | None:
        while self._bus.forgotten <= self._cursor < self._bus.last_seq:
            event = self._bus.events[self._cursor]
            self._cursor += 1
            if self._wanted is None or self._wanted.fits(event):
                return event
        return None

    async def __anext__(self) -> Event | Missed:
        while True:
            if self._cursor < self._bus.forgotten:
                missed = Missed(self._cursor + 1, self._bus.forgotten, "removed")
                self._cursor = self._bus.forgotten
                return missed
            await self._bus.more_than(self._cursor)
            event = self._bus.events[self._cursor]
            self._cursor += 1
            if self._wanted is None or self._wanted.fits(event):
                return event


@dataclass
class Script:
    """How one turn goes."""

    pieces: Sequence[str] = ("Yes, ", "it can.")
    gate: anyio.Event | None = None
    """What the turn waits for before its last piece."""
    error: Exception | None = None
    silent: bool = False
    """The bus is told nothing of it."""


class ScriptTurn:
    def __init__(self, engine: ScriptEngine, question: Question, script: Script) -> None:
        self.turn_id = question.turn_id or new_id("t")
        self.interrupted = anyio.Event()
        self._engine = engine
        self._question = question
        self._script = script
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> Reply:
        try:
            reply = await self._answer()
        except ClaudeCommsError as error:
            ended = "turn.interrupted" if getattr(error, "reason", "") == "interrupted" else "turn.failed"
            self._tell(ended, {"error": error.as_dict()})
            raise
        self._tell("turn.completed", {"reply": reply.as_dict()})
        return reply

    async def _answer(self) -> Reply:
        if self._question.target not in MODULES:
            raise UnknownModuleError(self._question.target, MODULES)
        self._tell("turn.started", Started("c_1", "marker", "arangodb", "api", "given", "m", "i_1").as_dict())
        for number, piece in enumerate(self._script.pieces):
            if number == len(self._script.pieces) - 1 and self._script.gate is not None:
                await self._wait(self._script.gate)
            self._tell("turn.delta", {"text": piece})
        if self._script.error is not None:
            raise self._script.error
        return replace(REPLY, response="".join(self._script.pieces))

    async def _wait(self, gate: anyio.Event) -> None:
        waits = [asyncio.create_task(gate.wait()), asyncio.create_task(self.interrupted.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if self.interrupted.is_set():
            raise TurnFailedError("the turn was interrupted. Ask again.", reason="interrupted", partial="Yes, ")

    def _tell(self, kind: str, data: Mapping[str, Any]) -> None:
        if not self._script.silent:
            facts = {**data, "turn_id": self.turn_id, "instance_id": "i_1", "thread_id": "c_1"}
            self._engine.bus.post(NewEvent(kind, "c_1", "marker/arangodb", facts))

    async def __aiter__(self) -> AsyncIterator[TurnEvent]:
        yield Delta((await self.reply()).response)

    async def reply(self) -> Reply:
        return await asyncio.shield(self._task)

    async def thread_id(self) -> str | None:
        return "c_1"

    async def interrupt(self) -> None:
        self.interrupted.set()

    def abandon(self) -> None:
        self.interrupted.set()

    async def close(self) -> None:
        self.interrupted.set()
        with suppress(Exception):
            await self._task


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REPLY = Reply(
    "yes", None, "c_1", "m_2", "marker", "arangodb", "i_1", "api", "m", Usage(10, 5, 0, 0, 0.25), "end_turn", 12.5
)
INSTANCE = InstanceInfo(
    "i_1", "one", "marker", "arangodb", "api", "m", InstanceState.IDLE, "c_1", 1, NOW, NOW, last_alive_at=NOW
)
CONVERSATION = Conversation("c_1", "marker", "arangodb", "api", "m", ConversationState.ACTIVE, "t", NOW, NOW, 0)
JOB = Job("j_1", JobState.QUEUED, "marker", "arangodb", "How?", 0, NOW)


class ListInstances:
    def __init__(self) -> None:
        self.known = {INSTANCE.instance_id: INSTANCE}

    async def start(
        self,
        pair: Pair,
        *,
        name: str | None = None,
        backend: str | None = None,
        model: str | None = None,
        grants: Sequence[str] | None = None,
        limits: InstanceLimits | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> InstanceInfo:
        _check(pair.source, pair.target)
        new = replace(INSTANCE, instance_id=new_id("i"), name=name, limits=limits or InstanceLimits())
        self.known[new.instance_id] = new
        return new

    async def list(self, *, check: bool = False) -> list[InstanceInfo]:
        return list(self.known.values())

    async def get(self, wanted: str) -> InstanceInfo:
        if wanted not in self.known:
            raise InstanceNotFoundError(f"no instance {wanted!r}.", instance_id=wanted)
        return self.known[wanted]

    async def pause(self, wanted: str) -> InstanceInfo:
        return replace(await self.get(wanted), state=InstanceState.PAUSED)

    async def resume(self, wanted: str) -> InstanceInfo:
        return await self.get(wanted)

    async def interrupt(self, wanted: str) -> InstanceInfo:
        return await self.get(wanted)

    async def hibernate(self, wanted: str) -> InstanceInfo:
        return replace(await self.get(wanted), state=InstanceState.HIBERNATED)

    async def stop(self, wanted: str) -> InstanceInfo:
        return replace(await self.get(wanted), state=InstanceState.STOPPED)


class ListJobs:
    def __init__(self) -> None:
        self.known = {JOB.job_id: JOB}
        self.ended = anyio.Event()

    async def start(self, request: JobRequest) -> Job:
        _check(request.question.source, request.question.target)
        new = replace(JOB, job_id=new_id("j"), prompt=request.question.prompt, priority=request.priority)
        self.known[new.job_id] = new
        return new

    async def list(self, *, state: JobState | None = None, limit: int = 50) -> list[Job]:
        return [job for job in self.known.values() if state in (None, job.state)][:limit]

    async def get(self, wanted: str) -> Job:
        if wanted not in self.known:
            raise JobNotFoundError(wanted)
        return self.known[wanted]

    async def wait(self, wanted: str, *, timeout_s: float | None = None) -> Job:
        job = await self.get(wanted)
        with anyio.move_on_after(None if timeout_s is None else min(timeout_s, 0.01)):
            await self.ended.wait()
            return job
        raise DeadlineExceededError("it has not ended. Wait longer.", deadline_s=timeout_s)

    async def cancel(self, wanted: str) -> Job:
        return replace(await self.get(wanted), state=JobState.CANCELLED)


def _check(*names: str) -> None:
    for name in names:
        if name not in MODULES:
            raise UnknownModuleError(name, MODULES)


@dataclass
class ScriptEngine:
    """Implements `protocols.Engine`."""

    bus: ListBus
    registry: Any = None
    scripts: list[Script] = field(default_factory=list[Script])
    asked: list[Question] = field(default_factory=list[Question])
    turns: list[ScriptTurn] = field(default_factory=list[ScriptTurn])
    instances: ListInstances = field(default_factory=ListInstances)
    jobs: ListJobs = field(default_factory=ListJobs)
    closed: bool = False
    waiting: int = 0
    fault: Exception | None = None
    """Raised by whatever looks for conversations."""

    def follow(self, wanted: EventFilter | None = None, *, after: int | None = None) -> ListSubscription:
        return self.bus.subscribe(wanted, after=after)

    async def usage(
        self,
        by: UsageBy = "pair",
        *,
        source: str | None = None,
        target: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[UsageRow]:
        return [UsageRow("marker/arangodb", 1, REPLY.usage)]

    async def load(self) -> Load:
        known = [job.state for job in self.jobs.known.values()]
        return Load(self.waiting, known.count(JobState.QUEUED), known.count(JobState.RUNNING))

    async def store_turns(self, wanted: str, turns: Sequence[TerminalTurn]) -> str | None:
        return (await self.instances.get(wanted)).thread_id

    async def drain(self, timeout_s: float) -> None:
        with anyio.move_on_after(timeout_s):
            if JobState.RUNNING in {job.state for job in self.jobs.known.values()}:
                await self.jobs.ended.wait()

    async def open(self) -> None: ...

    async def ask(self, question: Question) -> ScriptTurn:
        self.asked.append(question)
        script = self.scripts.pop(0) if self.scripts else Script()
        turn = ScriptTurn(self, question, script)
        self.turns.append(turn)
        return turn

    async def preview(self, question: Question) -> Preview:
        _check(question.target)
        pair = Pair(question.source, question.target)
        prompt = Prompt(
            pair, (SystemBlock("target", "you are"),), (), question.prompt, question.prompt, "query", "v", TokenCount(3)
        )
        return Preview(prompt, "api", "given", "m", None)

    async def create_conversation(self, pair: Pair, *, title: str = "") -> Conversation:
        _check(pair.source, pair.target)
        return replace(CONVERSATION, title=title)

    async def get_conversation(self, wanted: str) -> Conversation:
        if self.fault is not None:
            raise self.fault
        if wanted != CONVERSATION.thread_id:
            raise ConversationNotFoundError(wanted)
        return CONVERSATION

    async def list_conversations(
        self,
        *,
        source: str | None = None,
        target: str | None = None,
        state: ConversationState | None = ConversationState.ACTIVE,
        limit: int = 50,
    ) -> list[Conversation]:
        return [CONVERSATION]

    async def search_conversations(
        self, text: str, *, source: str | None = None, target: str | None = None, limit: int = 20
    ) -> list[SearchHit]:
        return []

    async def archive_conversation(self, wanted: str) -> Conversation:
        return replace(await self.get_conversation(wanted), state=ConversationState.ARCHIVED)

    async def restore_conversation(self, wanted: str) -> Conversation:
        return await self.get_conversation(wanted)

    async def find_modules(
        self,
        text: str | None = None,
        *,
        capability: str | None = None,
        tag: str | None = None,
        data_type: str | None = None,
    ) -> list[Match]:
        if self.registry is None:
            from claude_comms.descriptors import Registry

            self.registry = Registry(Path(os.devnull).parent / "no-home", ())
        return self.registry.find_modules(text, capability=capability, tag=tag, data_type=data_type)

    async def diagnose(self, *, ask: bool = False) -> list[Check]:
        return [Check("api", ok=True, detail="fine")]

    async def close(self) -> None:
        self.closed = True
        for turn in self.turns:
            await turn.close()


@dataclass
class Running:
    """A server that serves, and how to reach it."""

    server: Server
    engine: ScriptEngine
    bus: ListBus
    path: Path
    task: asyncio.Task[None]

    def client(self, **options: Any) -> httpx.AsyncClient:
        """Over the socket."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.path))
        return httpx.AsyncClient(transport=transport, base_url="http://daemon", timeout=20, **options)

    async def over_tcp(self, **options: Any) -> httpx.AsyncClient:
        """Over TCP, with the token unless `headers` say otherwise."""
        address = await self.server.listen("127.0.0.1:0")
        options.setdefault("headers", {"Authorization": f"Bearer {TOKEN}"})
        return httpx.AsyncClient(base_url=f"http://{address}", timeout=20, trust_env=False, **options)


Change = Callable[[ScriptEngine], None]


@asynccontextmanager
async def running(
    home: Path,
    *scripts: Script,
    limits: Limits | None = None,
    listen: str | None = None,
    extra_apps: Mapping[str, ASGIApp] | None = None,
    **settings: Any,
) -> AsyncGenerator[Running]:
    """A server on a socket of its own over a scripted engine; stopped at the end, if it still runs."""
    bus = ListBus()
    engine = ScriptEngine(bus, scripts=list(scripts))
    chosen = Settings.load({"home": home, "drain_s": 5.0} | settings)
    server = Server(engine, chosen, bus=bus, token=TOKEN, version=VERSION, limits=limits, extra_apps=extra_apps)
    with tempfile.TemporaryDirectory(prefix="cc-") as directory:
        path = Path(directory) / "s"
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        path.chmod(0o600)
        sock.listen(128)
        task = asyncio.create_task(server.serve(sock, listen=listen))
        try:
            with anyio.fail_after(10):
                await server.ready.wait()
            yield Running(server, engine, bus, path, task)
        finally:
            server.request_stop(0)
            with anyio.fail_after(30, shield=True):
                await asyncio.wait({task})
            if not task.cancelled():
                task.result()
