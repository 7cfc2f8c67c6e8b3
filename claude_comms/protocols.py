"""What stands between rooms: an engine, the turns it runs and the instances it keeps, as those above see them.

The engine of this process implements them; one behind a daemon's wire can, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from claude_comms.types import ConversationState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime

    from claude_comms.conversations import SearchHit
    from claude_comms.descriptors import Match
    from claude_comms.events import EventFilter, Subscription
    from claude_comms.jobs import Job, JobRequest, JobState
    from claude_comms.types import (
        Check,
        Conversation,
        InstanceInfo,
        InstanceLimits,
        Load,
        Pair,
        Preview,
        Question,
        Reply,
        TerminalTurn,
        TurnEvent,
        UsageRow,
    )

__all__ = ["Engine", "HostedEngine", "Instances", "Jobs", "Turn", "UsageBy"]

UsageBy = Literal["pair", "source", "target", "backend", "model", "day", "all"]
"""What usage may be grouped by."""


class Turn(Protocol):
    """A question under way. Iterate it once for its events; `reply` waits for the whole answer."""

    def __aiter__(self) -> AsyncIterator[TurnEvent]: ...

    async def reply(self) -> Reply:
        """The complete answer, or the error that the turn ended with. Takes what was not iterated as read."""
        ...

    async def thread_id(self) -> str | None:
        """Its conversation, as soon as the question is stored; None where it ended before that."""
        ...

    async def interrupt(self) -> None:
        """Stop it; what had come is stored as partial, and `reply` raises TurnFailedError (``interrupted``)."""
        ...

    def abandon(self) -> None:
        """Nobody will look at it any more: interrupt it soon. From any thread."""
        ...

    async def close(self) -> None:
        """Interrupt it if it still runs, and wait, bounded, until the store says how it ended."""
        ...


class Instances(Protocol):
    """The instances of an engine. `wanted` is an id, any unique beginning of one, or a name; InstanceNotFoundError."""

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
        """A new instance, its session open and warm.

        `grants` leaves it fewer tools than its descriptor was granted, never more (PermissionDeniedError).
        """
        ...

    async def list(self, *, check: bool = False) -> list[InstanceInfo]:
        """The living ones, and those that failed and were not stopped since, oldest first.

        With `check`, once each that is idle has shown that it answers: one that does not gives up its process.
        """
        ...

    async def get(self, wanted: str) -> InstanceInfo:
        """One of them, or of the last that ended."""
        ...

    async def pause(self, wanted: str) -> InstanceInfo:
        """Let the running turn finish; later questions wait until `resume` or their deadline."""
        ...

    async def resume(self, wanted: str) -> InstanceInfo:
        """Undo `pause`."""
        ...

    async def interrupt(self, wanted: str) -> InstanceInfo:
        """Stop the running turn; without one nothing happens."""
        ...

    async def hibernate(self, wanted: str) -> InstanceInfo:
        """Have it give up its process and keep its session; its next question opens that again.

        InstanceStateError for one that is busy, starting, or ended. A paused one stays paused.
        """
        ...

    async def stop(self, wanted: str) -> InstanceInfo:
        """End it, its running turn interrupted. Its conversation stays stored and goes on elsewhere."""
        ...


class Jobs(Protocol):
    """The background questions of an engine. `wanted` is an id or any unique beginning of one; JobNotFoundError.

    They need a process that outlives its caller: without a daemon each method raises DaemonError.
    """

    async def start(self, request: JobRequest) -> Job:
        """Queue it, durably. What is wrong with the question (unknown module, template, ...) is raised here."""
        ...

    async def list(self, *, state: JobState | None = None, limit: int = 50) -> list[Job]:
        """The newest first."""
        ...

    async def get(self, wanted: str) -> Job:
        """One as it stands."""
        ...

    async def wait(self, wanted: str, *, timeout_s: float | None = None) -> Job:
        """One once it has ended; DeadlineExceededError after `timeout_s` seconds."""
        ...

    async def cancel(self, wanted: str) -> Job:
        """End it. A running one is interrupted, and what had come of its answer is stored as partial."""
        ...


class Engine(Protocol):
    """What a communicator speaks to: an engine in this process, or a daemon's."""

    @property
    def instances(self) -> Instances:
        """Its instances."""
        ...

    @property
    def jobs(self) -> Jobs:
        """Its background questions."""
        ...

    def follow(self, wanted: EventFilter | None = None, *, after: int | None = None) -> Subscription:
        """What happens, as it happens: from the cursor `after` on (0: all that is kept), or from now on."""
        ...

    async def usage(
        self,
        by: UsageBy = "pair",
        *,
        source: str | None = None,
        target: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[UsageRow]:
        """What turns have cost, in groups, the dearest first; days in their order."""
        ...

    async def open(self) -> None:
        """Be ready to serve. Called once."""
        ...

    async def ask(self, question: Question) -> Turn:
        """Start a question on its way."""
        ...

    async def preview(self, question: Question) -> Preview:
        """What `ask` would send."""
        ...

    async def create_conversation(self, pair: Pair, *, title: str = "") -> Conversation:
        """A new, empty conversation of a known pair."""
        ...

    async def get_conversation(self, wanted: str) -> Conversation:
        """One with its messages, by its id or any unique beginning of it."""
        ...

    async def list_conversations(
        self,
        *,
        source: str | None = None,
        target: str | None = None,
        state: ConversationState | None = ConversationState.ACTIVE,
        limit: int = 50,
    ) -> list[Conversation]:
        """Without messages, the newest first; a `state` of None means all."""
        ...

    async def search_conversations(
        self, text: str, *, source: str | None = None, target: str | None = None, limit: int = 20
    ) -> list[SearchHit]:
        """Messages that hold the words of `text`, the best first."""
        ...

    async def archive_conversation(self, wanted: str) -> Conversation:
        """Hide it from lists."""
        ...

    async def restore_conversation(self, wanted: str) -> Conversation:
        """Take it out of the archive."""
        ...

    async def find_modules(
        self,
        text: str | None = None,
        *,
        capability: str | None = None,
        tag: str | None = None,
        data_type: str | None = None,
    ) -> list[Match]:
        """Modules that fit all that is given, ranked where there is a text."""
        ...

    async def diagnose(self, *, ask: bool = False) -> list[Check]:
        """What is reachable, how fast, what is wrong; with `ask`, one turn proves the backend."""
        ...

    async def close(self) -> None:
        """Interrupt what runs, store how it ended, let go of everything, in bounded time."""
        ...


class HostedEngine(Engine, Protocol):
    """What a daemon serves: an engine that hosts for everybody on the machine."""

    async def load(self) -> Load:
        """How much waits and runs now."""
        ...

    async def store_turns(self, wanted: str, turns: Sequence[TerminalTurn]) -> str | None:
        """Store turns that the instance `wanted` had in a terminal, as those of its conversation or of a new one.

        The conversation's id; events tell of them as of others, and the instance is charged.
        """
        ...

    async def drain(self, timeout_s: float) -> None:
        """Start no more background questions, and let those that run end, for so long. Queued ones stay queued."""
        ...
