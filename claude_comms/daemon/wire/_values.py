"""What the daemon answers. Each model has the fields of an inner record's `as_dict()`, and gives that record."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - pydantic looks it up
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from claude_comms.daemon.wire._base import Said
from claude_comms.events import Event, Priority
from claude_comms.jobs import Job, JobState
from claude_comms.types import (
    Check,
    Conversation,
    ConversationState,
    InstanceInfo,
    InstanceLimits,
    InstanceState,
    Message,
    MessageState,
    Refused,
    Reply,
    Retried,
    Role,
    Source,
    ToolUsed,
    Usage,
    UsageRow,
)

if TYPE_CHECKING:
    from claude_comms.conversations import SearchHit

__all__ = [
    "CheckModel",
    "ConversationModel",
    "EventModel",
    "HealthModel",
    "InstanceInfoModel",
    "JobModel",
    "MessageModel",
    "ReplyModel",
    "SearchHitModel",
    "StatusModel",
    "UsageModel",
    "UsageRowModel",
]


class UsageModel(Said):
    """Tokens and cost."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float | None = None

    def inner(self) -> Usage:
        """The record."""
        return Usage(**self.fields())


class SourceModel(Said):
    """Something an answer rests on."""

    kind: str
    value: str

    def inner(self) -> Source:
        """The record."""
        return Source(**self.fields())


class RetriedModel(Said):
    """A try that failed before another."""

    attempt: int
    reason: str
    wait_s: float

    def inner(self) -> Retried:
        """The record."""
        return Retried(**self.fields())


class ToolUsedModel(Said):
    """A tool that was used."""

    tool: str
    arguments: str = ""

    def inner(self) -> ToolUsed:
        """The record."""
        return ToolUsed(**self.fields())


class RefusedModel(Said):
    """A tool that was refused."""

    tool: str
    target: str
    reason: str

    def inner(self) -> Refused:
        """The record."""
        return Refused(**self.fields())


class ReplyModel(Said):
    """A complete answer."""

    response: str
    data: Any
    thread_id: str
    message_id: str
    source: str
    target: str
    instance_id: str
    backend: str
    model: str
    usage: UsageModel
    stop_reason: str
    duration_ms: float
    sources: tuple[SourceModel, ...] = ()
    status: Literal["complete"] = "complete"

    def inner(self) -> Reply:
        """The record."""
        return Reply(**self.fields())


class MessageModel(Said):
    """One stored entry of a conversation."""

    message_id: str
    thread_id: str
    position: int
    role: Role
    speaker: str
    text: str
    state: MessageState
    created_at: datetime
    backend: str | None = None
    model: str | None = None
    instance_id: str | None = None
    data: Any = None
    usage: UsageModel | None = None
    price_date: str | None = None
    stop_reason: str | None = None
    duration_ms: float | None = None
    error: dict[str, Any] | None = None
    sources: tuple[SourceModel, ...] = ()
    retries: tuple[RetriedModel, ...] = ()
    context_version: str | None = None
    tools: tuple[ToolUsedModel, ...] = ()
    refusals: tuple[RefusedModel, ...] = ()
    rebuilt: str | None = None
    turn_id: str | None = None

    def inner(self) -> Message:
        """The record."""
        return Message(**self.fields())


class ConversationModel(Said):
    """A stored thread."""

    thread_id: str
    source: str
    target: str
    backend: str | None
    model: str | None
    state: ConversationState
    title: str
    created_at: datetime
    updated_at: datetime
    message_count: int
    messages: tuple[MessageModel, ...] = ()

    def inner(self) -> Conversation:
        """The record."""
        return Conversation(**self.fields())


class SearchHitModel(Said):
    """A message that was found."""

    thread_id: str
    message_id: str
    position: int
    role: Role
    speaker: str
    state: MessageState
    source: str
    target: str
    excerpt: str
    score: float
    created_at: datetime

    def inner(self) -> SearchHit:
        """The record. Its room brings the SQL libraries along, so it is opened only here."""
        from claude_comms.conversations import SearchHit

        return SearchHit(**self.fields())


class InstanceLimitsModel(Said):
    """What an instance may take."""

    max_turns: int | None = None
    max_idle_s: float | None = None
    deadline_s: float | None = None
    max_memory_mb: int | None = None
    max_tokens: int | None = None
    max_cost_usd: float | None = None

    def inner(self) -> InstanceLimits:
        """The record."""
        return InstanceLimits(**self.fields())


class InstanceInfoModel(Said):
    """An instance as it stood."""

    instance_id: str
    name: str | None
    source: str
    target: str
    backend: str
    model: str | None
    state: InstanceState
    thread_id: str | None
    turns: int
    created_at: datetime
    last_used_at: datetime
    pid: int | None = None
    rss_bytes: int | None = None
    waiting: int = 0
    restarts: int = 0
    usage: UsageModel = UsageModel()
    last_alive_at: datetime | None = None
    grants: tuple[str, ...] = ()
    limits: InstanceLimitsModel = InstanceLimitsModel()
    failure: str | None = None

    def inner(self) -> InstanceInfo:
        """The record."""
        return InstanceInfo(**self.fields())


class JobModel(Said):
    """A background question as it stands."""

    job_id: str
    state: JobState
    source: str
    target: str
    prompt: str
    priority: int
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    thread_id: str | None = None
    progress: dict[str, Any] = Field(default_factory=dict[str, Any])
    reply: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    callback: str | tuple[str, ...] | None = None
    callback_result: str | None = None

    def inner(self) -> Job:
        """The record."""
        return Job(**self.fields())


class UsageRowModel(Said):
    """What one group of turns has cost."""

    group: str
    turns: int
    usage: UsageModel

    def inner(self) -> UsageRow:
        """The record."""
        return UsageRow(**self.fields())


class CheckModel(Said):
    """One finding of `diagnose`."""

    name: str
    ok: bool | None
    detail: str
    hint: str = ""
    duration_ms: float | None = None

    def inner(self) -> Check:
        """The record."""
        return Check(**self.fields())


class EventModel(Said):
    """A CloudEvents 1.0 envelope, with `seq`, `namespace` and `priority` beside it."""

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: str
    data: dict[str, Any]
    seq: int
    namespace: str
    priority: Priority

    def inner(self) -> Event:
        """The record."""
        return Event(
            seq=self.seq,
            event_id=self.id,
            type=self.type,
            subject=self.subject,
            namespace=self.namespace,
            priority=self.priority,
            time=self.time,
            data=self.data,
        )


class StatusModel(Said):
    """What ``GET /v1/daemon`` tells."""

    running: bool
    pid: int
    version: str
    socket: str | None
    listen: str | None
    token_file: str
    log_file: str
    home: str
    started_at: datetime
    uptime_s: float
    draining: bool
    turns_running: int
    connections: int


class InstanceHealthModel(Said):
    """When an instance last proved alive."""

    instance_id: str
    state: InstanceState
    last_alive_at: datetime | None


class HealthModel(Said):
    """What ``GET /health`` tells. `status` is ``ok`` or ``draining``."""

    status: str
    version: str
    pid: int
    uptime_s: float
    instances: tuple[InstanceHealthModel, ...]
