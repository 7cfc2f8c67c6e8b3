"""What clients send: questions, jobs, instances, filters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from claude_comms.daemon.wire._base import Asked, Id, Name, Text
from claude_comms.events import EventFilter, FocusLevel, Priority
from claude_comms.jobs import JobRequest
from claude_comms.jsonable import to_json_value
from claude_comms.types import InstanceLimits, Pair, Question, TerminalTurn, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FilterModel",
    "FocusedFilterModel",
    "InstanceModel",
    "JobRequestModel",
    "LimitsModel",
    "ListenModel",
    "NewConversationModel",
    "QuestionModel",
    "StopModel",
    "TurnsModel",
]

_LONGEST_S = 7 * 86_400.0
_Key = Id | None
_Label = Name | None


class QuestionModel(Asked):
    """A question, as `types.Question` has it, save `check`: that is code, and stays with the caller."""

    source: Name
    target: Name
    prompt: Text
    source_path: str | None = Field(default=None, max_length=4096)
    thread_id: _Key = None
    data: Any = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    template: Name = "query"
    context: dict[str, Any] = Field(default_factory=dict[str, Any])
    backend: _Label = None
    model: _Label = None
    instance_id: _Key = None
    deadline_s: float | None = Field(default=None, gt=0, le=_LONGEST_S)
    max_cost_usd: float | None = Field(default=None, gt=0, le=1e9)
    idempotency_key: _Label = None
    turn_id: _Key = None
    chain: tuple[Name, ...] = Field(default=(), max_length=1000)
    asked_in: _Key = None

    @field_validator("source_path")
    @classmethod
    def _whole(cls, path: str | None) -> str | None:
        """The daemon's working directory is not the client's."""
        if path is not None and (not path.startswith("/") or "\0" in path):
            raise ValueError("not an absolute path")
        return path

    @classmethod
    def of(cls, question: Question) -> QuestionModel:
        """`question` as it is sent. ContextError for `data` or `context` that is not JSON."""
        path = question.source_path
        return cls(
            source=question.source,
            target=question.target,
            prompt=question.prompt,
            source_path=None if path is None else str(path.absolute()),
            thread_id=question.thread_id,
            data=to_json_value(question.data),
            schema=None if question.schema is None else to_json_value(question.schema, field="schema"),
            template=question.template,
            context=to_json_value(question.context, field="context"),
            backend=question.backend,
            model=question.model,
            instance_id=question.instance_id,
            deadline_s=question.deadline_s,
            max_cost_usd=question.max_cost_usd,
            idempotency_key=question.idempotency_key,
            turn_id=question.turn_id,
            chain=question.chain,
            asked_in=question.asked_in,
        )

    def as_json(self) -> dict[str, Any]:
        """The question as JSON values, without what was left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def inner(self) -> Question:
        """The question for an engine. ContextError for values that are no JSON after all, such as lone surrogates."""
        values = {name: getattr(self, name) for name in type(self).model_fields if name != "schema_"}
        values["data"] = to_json_value(self.data)
        values["context"] = to_json_value(self.context, field="context")
        values["schema"] = None if self.schema_ is None else to_json_value(self.schema_, field="schema")
        values["source_path"] = None if self.source_path is None else Path(self.source_path)
        return Question(**values)


class JobRequestModel(Asked):
    """A question for the background, as `jobs.JobRequest` has it."""

    question: QuestionModel
    priority: int = Field(default=0, ge=-1_000_000, le=1_000_000)
    expires_in_s: float | None = Field(default=None, gt=0, le=365 * 86_400.0)
    callback: str | tuple[str, ...] | None = None

    @classmethod
    def of(cls, request: JobRequest) -> JobRequestModel:
        """`request` as it is sent."""
        return cls(
            question=QuestionModel.of(request.question),
            priority=request.priority,
            expires_in_s=request.expires_in_s,
            callback=request.callback,
        )

    def as_json(self) -> dict[str, Any]:
        """The request as JSON values, without what was left out."""
        return {**self.model_dump(mode="json", exclude_defaults=True), "question": self.question.as_json()}

    def inner(self) -> JobRequest:
        """The request for an engine."""
        return JobRequest(self.question.inner(), self.priority, self.expires_in_s, self.callback)


class LimitsModel(Asked):
    """What one instance may take, as `types.InstanceLimits` has it."""

    max_turns: int | None = Field(default=None, gt=0, le=2**53)
    max_idle_s: float | None = Field(default=None, gt=0, le=1e9)
    deadline_s: float | None = Field(default=None, gt=0, le=_LONGEST_S)
    max_memory_mb: int | None = Field(default=None, gt=0, le=2**40)
    max_tokens: int | None = Field(default=None, gt=0, le=2**53)
    max_cost_usd: float | None = Field(default=None, gt=0, le=1e9)

    def inner(self) -> InstanceLimits:
        """The limits for an engine, and for `InstanceInfo`."""
        return InstanceLimits(**{name: getattr(self, name) for name in type(self).model_fields})


class InstanceModel(Asked):
    """An instance to be started."""

    source: Name
    target: Name
    name: _Label = None
    backend: _Label = None
    model: _Label = None
    grants: tuple[Name, ...] | None = None
    limits: LimitsModel | None = None
    environment: dict[str, str] | None = None

    @classmethod
    def of(
        cls,
        pair: Pair,
        *,
        limits: InstanceLimits | None = None,
        environment: Mapping[str, str] | None = None,
        **said: Any,
    ) -> InstanceModel:
        """What `Instances.start` was given, as it is sent."""
        return cls(
            source=pair.source,
            target=pair.target,
            limits=None if limits is None else LimitsModel(**limits.as_dict()),
            environment=None if environment is None else dict(environment),
            **said,
        )

    def as_json(self) -> dict[str, Any]:
        """The wish as JSON values, without what was left out."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def pair(self) -> Pair:
        """Who asks whom."""
        return Pair(self.source, self.target)

    def options(self) -> dict[str, Any]:
        """The rest, as arguments of `Instances.start`."""
        return {
            "name": self.name,
            "backend": self.backend,
            "model": self.model,
            "grants": self.grants,
            "limits": None if self.limits is None else self.limits.inner(),
            "environment": self.environment,
        }


class _SpentModel(Asked):
    input_tokens: int = Field(default=0, ge=0, le=2**53)
    output_tokens: int = Field(default=0, ge=0, le=2**53)
    cache_read_tokens: int = Field(default=0, ge=0, le=2**53)
    cache_write_tokens: int = Field(default=0, ge=0, le=2**53)
    cost_usd: float | None = Field(default=None, ge=0, le=1e9)


class _TerminalTurnModel(Asked):
    question: Text
    answer: Text
    model: Name
    stop_reason: Name
    usage: _SpentModel = _SpentModel()
    handle: str = Field(min_length=1, max_length=1000)


class TurnsModel(Asked):
    """Turns that an instance had in a terminal, as `types.TerminalTurn` has them."""

    turns: tuple[_TerminalTurnModel, ...] = Field(min_length=1, max_length=10_000)

    def inner(self) -> list[TerminalTurn]:
        """The turns for an engine."""
        return [
            TerminalTurn(
                turn.question, turn.answer, turn.model, turn.stop_reason, Usage(**turn.usage.model_dump()), turn.handle
            )
            for turn in self.turns
        ]


class NewConversationModel(Asked):
    """A conversation to be begun."""

    source: Name
    target: Name
    title: str = Field(default="", max_length=10_000)


class StopModel(Asked):
    """How the daemon is to stop: for how long running turns may go on; None leaves it to the settings."""

    drain_s: float | None = Field(default=None, ge=0, le=86_400)


class ListenModel(Asked):
    """Where to listen besides the socket: ``127.0.0.1:8123``; port 0 takes any."""

    listen: str = Field(min_length=1, max_length=200)


class FilterModel(Asked):
    """Which events are wanted, as `events.EventFilter` has it."""

    types: tuple[Name, ...] = Field(default=(), max_length=100)
    subjects: tuple[Name, ...] = Field(default=(), max_length=100)
    namespaces: tuple[Name, ...] = Field(default=(), max_length=100)
    module: _Label = None
    instance_id: _Key = None
    turn_id: _Key = None
    priority: Priority = Priority.LOW

    @classmethod
    def of(cls, wanted: EventFilter | None) -> FilterModel:
        """`wanted` as it is sent."""
        wanted = wanted or EventFilter()
        return cls(**{name: getattr(wanted, name) for name in FilterModel.model_fields})

    def as_json(self) -> dict[str, Any]:
        """The filter as JSON values, without what was left out. Also fits as query parameters of ``/v1/events``."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def inner(self) -> EventFilter:
        """The filter for a bus."""
        return EventFilter(**{name: getattr(self, name) for name in FilterModel.model_fields})


class FocusedFilterModel(FilterModel):
    """Which events are wanted, and which of those at once: the others come as digests, every so often."""

    focus: FocusLevel = FocusLevel.EVERYTHING
    digest_s: float = Field(default=60.0, ge=1, le=86_400)
