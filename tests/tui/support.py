"""What the monitor is driven with in tests: an engine that answers from lists, and events told by the test."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from daemon_support import ListBus, ScriptEngine

from claude_comms.conversations import SearchHit
from claude_comms.errors import ConversationNotFoundError, InstanceNotFoundError, JobNotFoundError
from claude_comms.events import Event, NewEvent, kind_of
from claude_comms.jobs import Job, JobRequest, JobState
from claude_comms.settings import Settings
from claude_comms.tui._app import MonitorApp
from claude_comms.types import (
    Conversation,
    ConversationState,
    InstanceInfo,
    InstanceState,
    Message,
    MessageState,
    Refused,
    Role,
    ToolUsed,
    Usage,
    UsageRow,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from textual.pilot import Pilot

    from claude_comms.protocols import UsageBy
    from claude_comms.tui._view import View

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SMALL, LARGE = (80, 24), (200, 60)
ANSWER = """# Storing page blocks

Keep **one document collection** for blocks, and make `_key` from the block's id.

```python
def store(db, block):
    db.collection("blocks").insert({"_key": block.id}, overwrite=True)
```

| kind | collection |
|------|------------|
| text | blocks     |

- Keep the order in `position`. See [the guide](https://example.org/guide).
"""


def info(number: int, state: InstanceState = InstanceState.IDLE, **other: Any) -> InstanceInfo:
    """An instance; every one is another pair."""
    values: dict[str, Any] = {
        "instance_id": f"i_{number:02}",
        "name": None,
        "source": ("marker", "surya", "texify", "tables")[number % 4],
        "target": ("arangodb", "marker")[number % 2],
        "backend": ("claude-code", "api")[number % 2],
        "model": "claude-sonnet-5-5",
        "state": state,
        "thread_id": f"c_{number:02}",
        "turns": number,
        "created_at": NOW + timedelta(seconds=number),
        "last_used_at": NOW + timedelta(seconds=number),
        "rss_bytes": (200 + number) << 20,
        "usage": Usage(1000 * number, 100 * number, 0, 0, 0.01 * number),
    }
    return InstanceInfo(**{**values, **other})


def question(thread: str, text: str, **other: Any) -> Message:
    values: dict[str, Any] = {"turn_id": "t_0", **other}
    return Message(f"m_{thread}_q", thread, 0, Role.QUESTION, "marker", text, MessageState.COMPLETE, NOW, **values)


def answer(thread: str, text: str, **other: Any) -> Message:
    values: dict[str, Any] = {
        "usage": Usage(1200, 150, 5000, 0, 0.0123),
        "duration_ms": 2100.0,
        "tools": (ToolUsed("Read", '{"file_path": "README.md"}'),),
        "refusals": (Refused("Read", "/etc/passwd", "outside the module's path"),),
        **other,
    }
    return Message(f"m_{thread}_a", thread, 1, Role.ANSWER, "arangodb", text, MessageState.COMPLETE, NOW, **values)


def conversation(number: int, text: str = ANSWER, title: str = "How should I store my page blocks?") -> Conversation:
    thread = f"c_{number:02}"
    messages = (question(thread, title), answer(thread, text))
    source, target = ("marker", "surya", "texify", "tables")[number % 4], ("arangodb", "marker")[number % 2]
    return Conversation(
        thread,
        source,
        target,
        "claude-code",
        "claude-sonnet-5-5",
        ConversationState.ACTIVE,
        title,
        NOW,
        NOW,
        2,
        messages,
    )


def job(number: int, state: JobState, **other: Any) -> Job:
    values: dict[str, Any] = {"thread_id": f"c_{number:02}", "prompt": f"Design schema {number}.", **other}
    created = datetime.now(UTC) - timedelta(minutes=5 * number + 5, seconds=10)
    given: dict[str, Any] = {
        "job_id": f"j_{number:02}",
        "state": state,
        "source": "marker",
        "target": "arangodb",
        "priority": 0,
    }
    known: dict[str, Any] = {**given, "created_at": created, **values}
    return Job(**known)


@dataclass
class BoardInstances:
    """The instances of a test, and what was done to them."""

    known: dict[str, InstanceInfo] = field(default_factory=dict[str, InstanceInfo])
    done: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    fault: Exception | None = None

    async def start(self, *_: Any, **__: Any) -> InstanceInfo:
        raise NotImplementedError

    async def list(self, *, check: bool = False) -> list[InstanceInfo]:
        return [one for one in self.known.values() if one.state is not InstanceState.STOPPED]

    async def get(self, wanted: str) -> InstanceInfo:
        if wanted not in self.known:
            raise InstanceNotFoundError(f"no instance {wanted!r}.", instance_id=wanted)
        return self.known[wanted]

    async def _steer(self, wanted: str, how: str, state: InstanceState | None) -> InstanceInfo:
        if self.fault is not None:
            raise self.fault
        self.done.append((how, wanted))
        one = await self.get(wanted)
        self.known[wanted] = one = replace(one, state=state or one.state)
        return one

    async def pause(self, wanted: str) -> InstanceInfo:
        return await self._steer(wanted, "pause", InstanceState.PAUSED)

    async def resume(self, wanted: str) -> InstanceInfo:
        return await self._steer(wanted, "resume", InstanceState.IDLE)

    async def interrupt(self, wanted: str) -> InstanceInfo:
        return await self._steer(wanted, "interrupt", None)

    async def hibernate(self, wanted: str) -> InstanceInfo:
        return await self._steer(wanted, "hibernate", InstanceState.HIBERNATED)

    async def stop(self, wanted: str) -> InstanceInfo:
        return await self._steer(wanted, "stop", InstanceState.STOPPED)


@dataclass
class BoardJobs:
    """The jobs of a test, and what was asked."""

    known: dict[str, Job] = field(default_factory=dict[str, Job])
    asked: list[JobRequest] = field(default_factory=list[JobRequest])
    fault: Exception | None = None

    async def start(self, request: JobRequest) -> Job:
        if self.fault is not None:
            raise self.fault
        self.asked.append(request)
        new = job(len(self.known) + 50, JobState.QUEUED, prompt=request.question.prompt)
        self.known[new.job_id] = new
        return new

    async def list(self, *, state: JobState | None = None, limit: int = 50) -> list[Job]:
        return list(self.known.values())[:limit]

    async def get(self, wanted: str) -> Job:
        if wanted not in self.known:
            raise JobNotFoundError(wanted)
        return self.known[wanted]

    async def wait(self, wanted: str, *, timeout_s: float | None = None) -> Job:
        return await self.get(wanted)

    async def cancel(self, wanted: str) -> Job:
        self.known[wanted] = replace(await self.get(wanted), state=JobState.CANCELLED)
        return self.known[wanted]


class BoardEngine(ScriptEngine):
    """Implements `protocols.Engine` from lists that a test fills."""

    instances: BoardInstances
    jobs: BoardJobs

    def __init__(self, *infos: InstanceInfo) -> None:
        super().__init__(ListBus())
        known = {one.instance_id: one for one in infos}
        self.instances = BoardInstances(known)  # pyright: ignore[reportIncompatibleVariableOverride]
        self.jobs = BoardJobs()  # pyright: ignore[reportIncompatibleVariableOverride]
        self.threads: dict[str, Conversation] = {}
        self.grouped_by: list[str] = []

    async def get_conversation(self, wanted: str) -> Conversation:
        if wanted not in self.threads:
            raise ConversationNotFoundError(wanted)
        return self.threads[wanted]

    async def list_conversations(self, **_: Any) -> list[Conversation]:
        return [replace(thread, messages=()) for thread in self.threads.values()]

    async def search_conversations(self, text: str, **_: Any) -> list[SearchHit]:
        return [
            SearchHit(
                m.thread_id, m.message_id, m.position, m.role, m.speaker, m.state, c.source, c.target,
                f"… «{text}» …", 1.0, NOW,
            )
            for c in self.threads.values()
            for m in c.messages
            if text.lower() in m.text.lower()
        ]  # fmt: skip

    async def usage(self, by: UsageBy = "pair", **_: Any) -> list[UsageRow]:
        self.grouped_by.append(by)
        if by == "day":
            return [UsageRow(f"2026-01-0{day}", day, Usage(100, 10, 0, 0, 0.1 * day)) for day in (1, 2)]
        names = {"pair": ("marker/arangodb", "surya/marker")}.get(by, ("arangodb", "marker"))
        return [
            UsageRow(names[0], 12, Usage(12_000, 3_000, 60_000, 0, 1.25)),
            UsageRow(names[1], 3, Usage(900, 250, 0, 0, 0.05)),
        ]

    def tell(
        self, kind: str, data: Mapping[str, Any] | None = None, *, namespace: str = "marker/arangodb", **facts: Any
    ) -> None:
        """Something happened."""
        said = {**(data or {}), **facts}
        subject = str(said.get("instance_id") if kind.startswith("instance.") else said.get("thread_id", "c_00"))
        self.bus.post(NewEvent(kind, subject, namespace, said, time=NOW))


def turn(number: int, **facts: Any) -> dict[str, Any]:
    """What every event of a turn of instance `number` carries."""
    ids = {"turn_id": "t_1", "instance_id": f"i_{number:02}", "thread_id": f"c_{number:02}"}
    return {**ids, "source": "marker", "target": "arangodb", **facts}


def event(kind: str, data: dict[str, Any] | None = None, *, seq: int = 1, namespace: str = "marker/arangodb") -> Event:
    """An event as the daemon tells it."""
    facts = data or {}
    subject = str(facts.get("instance_id", "c_00"))
    return Event(seq, f"e_{seq}", kind, subject, namespace, kind_of(kind).priority, NOW, facts)


async def until(pilot: Pilot[Any], true: Callable[[], object], *, within_s: float = 10.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(within_s):
        while not true():
            await pilot.pause(0.02)


@asynccontextmanager
async def driven(
    engine: Any, size: tuple[int, int] = SMALL, *, toasts: bool = False, **options: Any
) -> AsyncGenerator[Pilot[Any]]:
    """The monitor on a screen of `size`, once it has seen the daemon; with `toasts` its notices are drawn, too."""
    app = MonitorApp(engine, Settings.load({}), **options)
    async with app.run_test(size=size, notifications=toasts) as pilot:
        await until(pilot, lambda: app.feed.connection == "connected")
        if isinstance(engine, BoardEngine):
            await until(pilot, lambda: len(app.world.board.known) >= len(engine.instances.known))
        await pilot.pause()
        yield pilot


def screen(pilot: Pilot[Any]) -> str:
    """What is on the screen, without colours."""
    app = pilot.app
    width, height = app.size
    lines = app.screen._compositor.render_strips()
    return "\n".join("".join(part.text for part in strip) for strip in lines[:height]).rstrip() or " " * width


def shown_view(pilot: Pilot[Any]) -> View[Any]:
    """The screen that is shown."""
    assert isinstance(pilot.app, MonitorApp)
    return pilot.app.view


def notices(pilot: Pilot[Any]) -> list[str]:
    """What the monitor has told its reader lately."""
    return [notice.message for notice in pilot.app._notifications]
