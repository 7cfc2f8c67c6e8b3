"""Values that several rooms share: ids, states, usage, prompts, instance specs, replies.

Standard library only: importing this must stay cheap.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, cast

from claude_comms.errors import ConfigError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from claude_comms.errors import Problem

__all__ = [
    "BackendFeatures",
    "Conversation",
    "ConversationState",
    "Delta",
    "Emit",
    "HistoryMessage",
    "InstanceInfo",
    "InstanceLimits",
    "InstanceSpec",
    "InstanceState",
    "Load",
    "Message",
    "MessageState",
    "Omission",
    "Pair",
    "Passage",
    "Prompt",
    "Question",
    "Record",
    "Refused",
    "Reply",
    "Retried",
    "RetryPolicy",
    "Role",
    "SearchHit",
    "Source",
    "Started",
    "SystemBlock",
    "TerminalTurn",
    "TokenCount",
    "TokenCounter",
    "ToolUsed",
    "TurnEvent",
    "TurnRequest",
    "TurnResult",
    "Usage",
    "UsageRow",
    "new_id",
]

OFFLINE, API, CLAUDE_CODE, BRIDGE = "offline", "api", "claude-code", "bridge"
"""The backends' names. Others may be registered, so the type stays `str`."""

ANONYMOUS = "anonymous"
"""The source of a question that no registered module asks."""


def new_id(prefix: str) -> str:
    """A fresh id such as ``c_01jd3v…``: `prefix`, then 26 characters that sort by time of creation.

    48 bits of milliseconds and 80 random bits in Crockford's base 32, as ULIDs are written, in lower case.
    """
    number = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10))
    digits = "".join("0123456789abcdefghjkmnpqrstvwxyz"[number >> shift & 31] for shift in range(125, -1, -5))
    return f"{prefix}_{digits}"


class Record(Mapping[str, Any]):
    """A frozen dataclass that also reads as a mapping of its fields: ``r.text`` is ``r["text"]``."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        if key in self._names():
            return getattr(self, key)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        return tuple(f.name for f in fields(cls))  # pyright: ignore[reportArgumentType]

    def as_dict(self) -> dict[str, Any]:
        """The record as plain JSON values: nested records as dicts, times as ISO 8601, enums as text."""
        return {name: _plain(getattr(self, name)) for name in self._names()}


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.as_dict()
    if isinstance(value, StrEnum):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("list[object]", value)]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


# --- who ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pair:
    """Who asks whom, in that order."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source} → {self.target}"


class InstanceState(StrEnum):
    """Where an instance stands. See `background.states` for the allowed transitions."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    HIBERNATED = "hibernated"
    """Without a process, its conversation kept: the next question opens a session again."""
    PAUSED = "paused"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class InstanceSpec:
    """What an instance is tied to for life. `grants` are tool names; none means no tools."""

    pair: Pair
    backend: str
    model: str | None = None
    grants: tuple[str, ...] = ()
    directory: Path | None = None
    """The target module's own path, where a process of this instance would sit."""
    environment: tuple[tuple[str, str], ...] = ()
    """Variables that its process gets beside the usual ones."""


@dataclass(frozen=True, slots=True)
class BackendFeatures:
    """What a backend can do. What it does not declare, it refuses with a typed error."""

    streaming: bool = False
    """Text comes in pieces while the model writes."""
    resume: bool = False
    """A session's handle finds the session again in another process."""
    tools: bool = False
    """Grants are honoured."""
    interrupt: bool = False
    """A running turn can be stopped from outside."""
    structured: bool = False
    """Answers in a given JSON shape can be asked for."""


# --- what is sent ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TokenCount:
    """A number of tokens, and whether it is only an estimate."""

    tokens: int
    estimated: bool = True


TokenCounter = Callable[[str], TokenCount]


@dataclass(frozen=True, slots=True)
class SystemBlock:
    """One system block; each ends in a cache breakpoint. `name` says which component it is."""

    name: str
    text: str


class Role(StrEnum):
    """Which side of a turn a message is."""

    QUESTION = "question"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class HistoryMessage:
    """One message of the thread as the model is to see it: for questions, the text as it was sent."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Passage:
    """Something a descriptor says, in words: what `offline` searches and quotes. Not sent to a model.

    `kind` is ``summary``, ``capability``, ``schema``, ``example``, ``data_type`` or ``relationship``.
    """

    kind: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Omission(Record):
    """Something that was left out of a prompt to fit the budget: `what`, how many (`count`), and `why`."""

    what: str
    count: int
    why: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the context generator builds around a question: stable system blocks first, the question last."""

    pair: Pair
    system: tuple[SystemBlock, ...]
    """The target's block, then the source's; they do not depend on the question."""
    history: tuple[HistoryMessage, ...]
    """Alternating, oldest first, starting with a question and ending with an answer; maybe empty."""
    message: str
    """The last user message: components, then the question, verbatim, on its own lines."""
    question: str
    template: str
    version: str
    """A hash of all that went in: the same inputs give the same version."""
    tokens: TokenCount
    """Of system, history and message together."""
    omitted: tuple[Omission, ...] = ()
    passages: tuple[Passage, ...] = ()
    """What the target's descriptor says, for `offline`."""

    @property
    def system_text(self) -> str:
        """The system blocks as one text, for backends that take one."""
        return "\n\n".join(block.text for block in self.system)


# --- what comes back ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage(Record):
    """Tokens and cost of one turn.

    `input_tokens` are those neither read from nor written to the cache, as the Messages API counts them.
    `cost_usd` is 0.0 where nothing is charged and None where no price is known.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float | None = None

    def __add__(self, other: Usage) -> Usage:
        costs = (self.cost_usd, other.cost_usd)
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            None if None in costs else sum(cost for cost in costs if cost is not None),
        )


@dataclass(frozen=True, slots=True)
class Source(Record):
    """Something an answer rests on: a file that was read (`kind` ``file``), or a ``revision``."""

    kind: str
    value: str


@dataclass(frozen=True, slots=True)
class Started(Record):
    """The question is stored and on its way: to whom, over which backend, and why that one."""

    thread_id: str
    source: str
    target: str
    backend: str
    reason: str
    model: str
    instance_id: str
    turn_id: str = ""
    """What the turn's events are found by."""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolUsed(Record):
    """The model used a tool; `arguments` are shortened."""

    tool: str
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Refused(Record):
    """A tool that the model asked for and did not get: what it was aimed at, shortened, and why not."""

    tool: str
    target: str
    reason: str


@dataclass(frozen=True, slots=True)
class Retried(Record):
    """An attempt failed before any text was shown, and another follows after `wait_s` seconds."""

    attempt: int
    reason: str
    wait_s: float


TurnEvent = Started | Delta | ToolUsed | Refused | Retried
Emit = Callable[[TurnEvent], Awaitable[None]]
"""Where a backend puts what happens in a turn. It may wait: that is the flow control."""


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """One question on its way to a backend's session."""

    prompt: Prompt
    thread_id: str
    model: str
    max_output_tokens: int
    session_handle: str | None = None
    """The backend's own memory of this conversation, where it has one."""
    deadline: float | None = None
    """On `anyio.current_time()`'s clock."""
    turn_id: str = ""
    chain: tuple[str, ...] = ()
    """The modules whose questions led here, the one that answers last; a backend whose tools can ask tells them."""
    max_cost_usd: float | None = None
    """What may still be spent when the turn begins, on the questions that it asks in turn, too."""
    check_spent: Callable[[Sequence[Usage]], None] | None = None
    """Takes what each request to the model has used in this turn so far, and raises BudgetExceededError once that is
    more than is allowed. A backend whose turn may need several requests calls it before it goes on."""


@dataclass(frozen=True, slots=True)
class TurnResult:
    """A complete answer. A backend that has less than that raises instead."""

    text: str
    model: str
    stop_reason: str
    usage: Usage
    session_handle: str | None = None
    sources: tuple[Source, ...] = ()
    retries: tuple[Retried, ...] = ()
    tools: tuple[ToolUsed, ...] = ()
    refusals: tuple[Refused, ...] = ()
    rebuilt: str = ""
    """Why the session was built anew from the prompt's history; empty where it was not."""


@dataclass(frozen=True, slots=True)
class Reply(Record):
    """A complete answer, as the caller gets it. Reads by attribute and as a mapping."""

    response: str
    data: Any
    """The validated value where `response_model` or a schema was given, else None."""
    thread_id: str
    message_id: str
    source: str
    target: str
    instance_id: str
    backend: str
    model: str
    usage: Usage
    stop_reason: str
    duration_ms: float
    sources: tuple[Source, ...] = ()
    """What the answer rests on; empty where unknown."""
    status: Literal["complete"] = "complete"
    """Anything else was raised instead."""


# --- what is kept ------------------------------------------------------------------------------


class ConversationState(StrEnum):
    """Archived conversations are hidden from lists and can be restored."""

    ACTIVE = "active"
    ARCHIVED = "archived"


class MessageState(StrEnum):
    """Questions go pending → complete or failed; answers are complete, or partial and never answers."""

    PENDING = "pending"
    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Message(Record):
    """One stored entry of a conversation."""

    message_id: str
    thread_id: str
    position: int
    """From 0, without gaps, in the order they were stored."""
    role: Role
    speaker: str
    """The module that spoke."""
    text: str
    state: MessageState
    created_at: datetime
    backend: str | None = None
    model: str | None = None
    instance_id: str | None = None
    data: Any = None
    usage: Usage | None = None
    price_date: str | None = None
    """The date of the price table that `usage.cost_usd` was computed with."""
    stop_reason: str | None = None
    duration_ms: float | None = None
    error: Mapping[str, Any] | None = None
    """Why a question failed or an answer is partial."""
    sources: tuple[Source, ...] = ()
    retries: tuple[Retried, ...] = ()
    context_version: str | None = None
    tools: tuple[ToolUsed, ...] = ()
    """What was used for it, on an answer; on a question that failed, what was used until then."""
    refusals: tuple[Refused, ...] = ()
    rebuilt: str | None = None
    """Why the backend's session was built anew from the thread for this answer, where it was."""
    turn_id: str | None = None
    """Of a question: what the events of its turn are found by."""


@dataclass(frozen=True, slots=True)
class Conversation(Record):
    """A stored thread between a pair."""

    thread_id: str
    source: str
    target: str
    backend: str | None
    """Of the last complete turn; None before it."""
    model: str | None
    state: ConversationState
    title: str
    created_at: datetime
    updated_at: datetime
    message_count: int
    messages: tuple[Message, ...] = ()
    """All of them from `get_conversation`; none from lists."""


@dataclass(frozen=True, slots=True)
class SearchHit(Record):
    """A message that was found. Scores are comparable within one search only; higher is better."""

    thread_id: str
    message_id: str
    position: int
    role: Role
    speaker: str
    state: MessageState
    source: str
    target: str
    excerpt: str
    """Around the words that were found, which stand between « and »."""
    score: float
    """0.0 where only common words were found."""
    created_at: datetime


# --- how ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When to ask a model again after a passing fault. All within one deadline, never after text was shown.

    ConfigError for less than one try, and for waits that are negative or without end.
    """

    attempts: int = 5
    """At most this many tries, the first included."""
    initial_wait_s: float = 0.5
    """Before the second try; doubles from there, with jitter."""
    max_wait_s: float = 30.0
    retry_on: tuple[int, ...] = (408, 409, 429, 500, 502, 503, 504, 529)
    """HTTP statuses worth another try. Lost connections are, too."""

    def __post_init__(self) -> None:
        for name, least in (("attempts", 1), ("initial_wait_s", 0), ("max_wait_s", 0)):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not least <= value < math.inf:
                raise ConfigError(f"retry.{name}: {value!r} cannot be. Set a number from {least} up.")


@dataclass(frozen=True, slots=True)
class Question:
    """Everything a caller says about one question; the engine fills in the rest."""

    source: str
    target: str
    prompt: str
    source_path: Path | None = None
    """Overrides the source's registered path; a source that is not registered gets a descriptor drafted from it."""
    thread_id: str | None = None
    data: Any = None
    schema: Mapping[str, Any] | None = None
    """JSON Schema 2020-12 that the answer must match."""
    template: str = "query"
    context: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Parameters of the template and overrides of components, by name."""
    backend: str | None = None
    model: str | None = None
    instance_id: str | None = None
    """Ask this very instance; its pair, backend and model hold, and its conversation unless `thread_id` is given."""
    deadline_s: float | None = None
    max_cost_usd: float | None = None
    idempotency_key: str | None = None
    turn_id: str | None = None
    """The id that the turn is to have; a fresh one where it is left out."""
    chain: tuple[str, ...] = ()
    """Where an instance asks: the modules whose questions led to this one, the first who asked first, `source` last."""
    asked_in: str | None = None
    """Where an instance asks: the id of its turn. While that runs, its chain, deadline and cost limit hold here too."""
    check: Callable[[Any], Sequence[Problem]] | None = None
    """What the answer's value must satisfy beyond `schema`; the problems it finds go into the repair turn."""


@dataclass(frozen=True, slots=True)
class InstanceLimits(Record):
    """What one instance may take; None where the settings decide, or nothing limits it."""

    max_turns: int | None = None
    """Then it stops; its conversation goes on elsewhere."""
    max_idle_s: float | None = None
    """Idle for longer, it gives up its process and keeps its session."""
    deadline_s: float | None = None
    """Of each question, where the question gives none."""
    max_memory_mb: int | None = None
    """Resident memory of its process tree, in MiB; beyond it the process is replaced between turns."""
    max_tokens: int | None = None
    """Input and output tokens of all its turns; beyond it questions are refused (BudgetExceededError)."""
    max_cost_usd: float | None = None
    """Cost of all its turns, likewise."""


@dataclass(frozen=True, slots=True)
class TerminalTurn(Record):
    """A question that was typed into a terminal, and its complete answer. `handle` finds the session up to here."""

    question: str
    answer: str
    model: str
    stop_reason: str
    usage: Usage
    handle: str


@dataclass(frozen=True, slots=True)
class InstanceInfo(Record):
    """An instance as it stood when somebody looked."""

    instance_id: str
    name: str | None
    source: str
    target: str
    backend: str
    model: str | None
    state: InstanceState
    thread_id: str | None
    """The conversation that goes on when it is asked by its id: the last that was asked so, else the one it holds."""
    turns: int
    """How many it has run, failed ones included."""
    created_at: datetime
    last_used_at: datetime
    pid: int | None = None
    """Of its process, where it has one now."""
    rss_bytes: int | None = None
    """Resident memory of its process tree; None without a process."""
    waiting: int = 0
    """Questions that wait for it, or for its conversation."""
    restarts: int = 0
    """How often its process was replaced after a fault."""
    usage: Usage = Usage()
    """Of all its turns."""
    last_alive_at: datetime | None = None
    """When it last proved alive: a byte in a turn, a process that answered."""
    grants: tuple[str, ...] = ()
    limits: InstanceLimits = InstanceLimits()
    failure: str | None = None
    """Why it failed."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What would be sent for a question, and to whom; nothing has been asked or stored."""

    prompt: Prompt
    backend: str
    reason: str
    """Why this backend."""
    model: str
    thread_id: str | None


@dataclass(frozen=True, slots=True)
class UsageRow(Record):
    """What turns have cost in all: of one group (a pair, a module, a day, a backend), or of everything.

    Turns whose price is not known are counted with their tokens but not with money: `usage.cost_usd` is the sum of
    the known costs, and None only where not one of them is known.
    """

    group: str
    turns: int
    """Those that were answered and those that failed after tokens were spent."""
    usage: Usage


@dataclass(frozen=True, slots=True)
class Load(Record):
    """What an engine that hosts for everybody has to do."""

    questions_waiting: int = 0
    """For an instance, or their turn in a conversation."""
    jobs_queued: int = 0
    jobs_running: int = 0


@dataclass(frozen=True, slots=True)
class Check(Record):
    """One finding of `diagnose`. `ok` is None for a remark that is neither good nor bad."""

    name: str
    ok: bool | None
    detail: str
    hint: str = ""
    duration_ms: float | None = None
