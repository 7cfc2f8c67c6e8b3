"""Every error that claude-comms raises.

ClaudeCommsError
├ ConfigError ─ DescriptorError
├ UnknownModuleError
├ ContextError ─ TemplateError, ContextTooLargeError
├ ReplyValidationError
├ BackendError
│ ├ BackendUnavailableError
│ ├ BackendCrashedError
│ ├ BackendProtocolError
│ └ TurnFailedError
├ PermissionDeniedError
├ PoolError ─ PoolExhaustedError, InstanceStateError, InstanceNotFoundError
├ BudgetExceededError
├ StoreError ─ ConversationNotFoundError, JobNotFoundError
├ DaemonError ─ DaemonNotRunningError, DaemonVersionError
├ LoopError
└ DeadlineExceededError (also a TimeoutError)

The facts are attributes; the text is built from them and ends with what to do.
No exception of a library crosses the public surface: rooms translate at their edge,
always with ``raise ... from``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from claude_comms.types import Retried, Usage

__all__ = [
    "BackendCrashedError",
    "BackendError",
    "BackendProtocolError",
    "BackendUnavailableError",
    "BudgetExceededError",
    "ClaudeCommsError",
    "ConfigError",
    "ContextError",
    "ContextTooLargeError",
    "ConversationNotFoundError",
    "DaemonError",
    "DaemonNotRunningError",
    "DaemonVersionError",
    "DeadlineExceededError",
    "DescriptorError",
    "InstanceNotFoundError",
    "InstanceStateError",
    "JobNotFoundError",
    "LoopError",
    "PermissionDeniedError",
    "PoolError",
    "PoolExhaustedError",
    "Problem",
    "ReplyValidationError",
    "StoreError",
    "TemplateError",
    "TurnFailedError",
    "UnknownModuleError",
    "error_from_dict",
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file or a value, and what would be right.

    `field` is a dotted path such as ``capabilities[2].name``; empty for the whole document.
    `line` counts from 1; None where there is no file or the place is unknown.
    """

    message: str
    field: str = ""
    line: int | None = None
    hint: str = ""

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line is not None else ""
        field = f"{self.field}: " if self.field else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{place}{field}{self.message}{hint}"


class ClaudeCommsError(Exception):
    """The root: catch this to catch everything that claude-comms raises.

    `thread_id` names the conversation that was concerned, once one is known.
    """

    facts: ClassVar[tuple[str, ...]] = ()

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.thread_id: str | None = None

    def as_dict(self) -> dict[str, object]:
        """The error as JSON values: `type`, `message`, and the facts that are known."""
        facts = {name: _plain(getattr(self, name)) for name in (*self.facts, "thread_id")}
        known = {name: value for name, value in facts.items() if value is not None}
        return {"type": type(self).__name__, "message": str(self), **known}


def _plain(value: object) -> object:
    """A fact as a JSON value."""
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("list[object]", value)]
    return str(value)


class ConfigError(ClaudeCommsError):
    """A setting or an argument is wrong."""


class DescriptorError(ConfigError):
    """A descriptor cannot be used. All problems of the file are told at once.

    `path`, `line` and `field` are those of the first problem.
    """

    facts = ("path", "line", "field", "problems")

    def __init__(self, problems: Sequence[Problem], *, path: Path | str | None = None) -> None:
        self.problems = tuple(problems)
        self.path = path
        first = self.problems[0] if self.problems else Problem("unknown problem")
        self.line = first.line
        self.field = first.field
        where = str(path) if path is not None else "descriptor"
        lines = [f"{where}: {problem}" for problem in self.problems]
        super().__init__("\n".join(lines))


class UnknownModuleError(ClaudeCommsError):
    """No module of that name is known. `known` lists the names that are."""

    facts = ("name", "known")

    def __init__(self, name: str, known: Sequence[str] = (), *, suggestion: str | None = None) -> None:
        self.name = name
        self.known = tuple(known)
        self.suggestion = suggestion
        guess = f" Did you mean {suggestion!r}?" if suggestion else ""
        listing = ", ".join(self.known) if self.known else "none"
        super().__init__(
            f"no module named {name!r}.{guess} Known modules: {listing}."
            f" Register it: claude-comms register-module {name} --path DIR"
        )


class ContextError(ClaudeCommsError):
    """A prompt cannot be built from what was given."""


class TemplateError(ContextError):
    """A template is wrong: unknown, bad syntax, a parameter missing or too many."""

    facts = ("path", "line")

    def __init__(self, message: str, *, path: Path | str | None = None, line: int | None = None) -> None:
        self.path = path
        self.line = line
        place = f"{path}:{line}: " if path is not None and line is not None else f"{path}: " if path is not None else ""
        super().__init__(f"{place}{message}")


class ContextTooLargeError(ContextError):
    """What must be sent does not fit: `tokens` were needed, `limit` were allowed."""

    facts = ("tokens", "limit")

    def __init__(self, message: str, *, tokens: int, limit: int) -> None:
        self.tokens = tokens
        self.limit = limit
        super().__init__(message)


class ReplyValidationError(ClaudeCommsError):
    """The answer does not have the shape that was asked for, nor has the one of the repair turn.

    A module that says that it cannot answer, or asks back, gets no repair turn.

    `problems` says what is wrong; `response` is the last answer's text.
    """

    facts = ("problems", "response")

    def __init__(self, problems: Sequence[Problem], response: str) -> None:
        self.problems = tuple(problems)
        self.response = response
        listing = "; ".join(str(problem) for problem in self.problems)
        super().__init__(f"the answer does not match the schema: {listing}. Ask differently, or widen the schema.")


class BackendError(ClaudeCommsError):
    """A backend could not answer. `retryable` says whether asking again may help."""

    facts = ("backend", "instance_id", "retryable")

    def __init__(
        self,
        message: str,
        *,
        backend: str | None = None,
        instance_id: str | None = None,
        retryable: bool = False,
    ) -> None:
        self.backend = backend
        self.instance_id = instance_id
        self.retryable = retryable
        self.usage: Usage | None = None
        """What the failed turn cost, as far as it is known."""
        self.partial = ""
        """The text that had come before it failed; never an answer."""
        self.retries: tuple[Retried, ...] = ()
        """The tries that had failed before this one."""
        super().__init__(message)


class BackendUnavailableError(BackendError):
    """The backend is not installed, not logged in, refuses the key, or cannot be reached."""


class BackendCrashedError(BackendError):
    """The process behind an instance died. `stderr_tail` is its last output, cleaned.

    `retry_after_s` says when another try is allowed, where there have been too many.
    """

    facts = (*BackendError.facts, "exit_code", "stderr_tail", "retry_after_s")

    def __init__(
        self,
        message: str,
        *,
        exit_code: int | None = None,
        stderr_tail: str = "",
        backend: str | None = None,
        instance_id: str | None = None,
        retryable: bool = True,
        retry_after_s: float | None = None,
    ) -> None:
        self.retry_after_s = retry_after_s
        self.exit_code = exit_code
        self.stderr_tail = stderr_tail
        super().__init__(message, backend=backend, instance_id=instance_id, retryable=retryable)


class BackendProtocolError(BackendError):
    """The backend said something that its protocol does not allow. `line` is what it said, shortened."""

    facts = (*BackendError.facts, "line")

    def __init__(
        self,
        message: str,
        *,
        line: str = "",
        backend: str | None = None,
        instance_id: str | None = None,
        retryable: bool = True,
    ) -> None:
        self.line = line
        super().__init__(message, backend=backend, instance_id=instance_id, retryable=retryable)


class TurnFailedError(BackendError):
    """The turn ended without a complete answer. `partial` is the text that had come by then.

    `reason` is a short word: ``interrupted``, ``stalled``, ``cut``, ``overloaded``, ``rate_limited``,
    ``refusal``, ``max_tokens``, ``context_window``, ``invalid_request``, ``server_error``, ...
    """

    facts = (*BackendError.facts, "reason", "partial")

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        partial: str = "",
        backend: str | None = None,
        instance_id: str | None = None,
        retryable: bool = False,
    ) -> None:
        self.reason = reason
        super().__init__(message, backend=backend, instance_id=instance_id, retryable=retryable)
        self.partial = partial


class PermissionDeniedError(ClaudeCommsError):
    """An instance asked for what it was not granted. `grant` names it."""

    facts = ("grant",)

    def __init__(self, message: str, *, grant: str) -> None:
        self.grant = grant
        super().__init__(message)


class PoolError(ClaudeCommsError):
    """The pool cannot serve."""


class PoolExhaustedError(PoolError):
    """All `limit` places are taken. Try again after `retry_after_s` seconds."""

    facts = ("limit", "retry_after_s")

    def __init__(self, message: str, *, limit: int, retry_after_s: float) -> None:
        self.limit = limit
        self.retry_after_s = retry_after_s
        super().__init__(message)


class InstanceStateError(PoolError):
    """The instance is in `state` and cannot do what was `wanted`."""

    facts = ("instance_id", "state", "wanted")

    def __init__(self, message: str, *, state: str, wanted: str, instance_id: str | None = None) -> None:
        self.state = state
        self.wanted = wanted
        self.instance_id = instance_id
        super().__init__(message)


class InstanceNotFoundError(PoolError):
    """No instance has that id or name."""

    facts = ("instance_id",)

    def __init__(self, message: str, *, instance_id: str) -> None:
        self.instance_id = instance_id
        super().__init__(message)


class BudgetExceededError(ClaudeCommsError):
    """The question would cost, or has cost, more than allowed. `limit` and `spent` are USD."""

    facts = ("budget", "limit", "spent")

    def __init__(self, message: str, *, budget: str, limit: float, spent: float) -> None:
        self.budget = budget
        self.limit = limit
        self.spent = spent
        self.usage: Usage | None = None
        """What the turn that went beyond it has cost, where one ran."""
        super().__init__(message)


class StoreError(ClaudeCommsError):
    """The store cannot be read or written."""

    facts = ("response",)

    response: str | None = None
    """A complete answer that could not be stored: it is here and nowhere else."""


class ConversationNotFoundError(StoreError):
    """No stored conversation has that id, or a prefix fits several (`matches`)."""

    facts = ("wanted", "matches")

    def __init__(self, wanted: str, *, matches: Sequence[str] = ()) -> None:
        self.wanted = wanted
        self.matches = tuple(matches)
        if self.matches:
            text = f"{wanted!r} fits several conversations: {', '.join(self.matches)}. Give more of the id."
        else:
            text = f"no conversation {wanted!r}. See: claude-comms list-conversations"
        super().__init__(text)


class JobNotFoundError(StoreError):
    """No job has that id, or a beginning fits several (`matches`)."""

    facts = ("wanted", "matches")

    def __init__(self, wanted: str, *, matches: Sequence[str] = ()) -> None:
        self.wanted = wanted
        self.matches = tuple(matches)
        if self.matches:
            text = f"{wanted!r} fits several jobs: {', '.join(self.matches)}. Give more of the id."
        else:
            text = f"no job {wanted!r}. See: claude-comms list-jobs"
        super().__init__(text)


class DaemonError(ClaudeCommsError):
    """The daemon could not serve."""


class DaemonNotRunningError(DaemonError):
    """There is no daemon to talk to."""


class DaemonVersionError(DaemonError):
    """The daemon is of another version than this client."""

    facts = ("daemon_version", "client_version")

    def __init__(self, message: str, *, daemon_version: str, client_version: str) -> None:
        self.daemon_version = daemon_version
        self.client_version = client_version
        super().__init__(message)


class LoopError(ClaudeCommsError):
    """A question would come back to a module that is being asked, or is too many hops from the first.

    `chain` is the way it took, the module that would have been asked last.
    """

    facts = ("chain",)

    def __init__(self, message: str, *, chain: Sequence[str]) -> None:
        self.chain = tuple(chain)
        super().__init__(message)


class DeadlineExceededError(ClaudeCommsError, TimeoutError):
    """The call did not end within its deadline of `deadline_s` seconds."""

    facts = ("deadline_s",)

    def __init__(self, message: str, *, deadline_s: float | None = None) -> None:
        super().__init__(message)
        self.deadline_s = deadline_s
        self.partial = ""
        """The text that had come by then; never an answer."""
        self.usage: Usage | None = None
        self.retries: tuple[Retried, ...] = ()
        """The tries that had failed by then."""


# --- back from JSON ----------------------------------------------------------------------------


def error_from_dict(values: Mapping[str, object]) -> ClaudeCommsError:
    """The error that `as_dict` made `values` of: its type, text and facts; what it did not tell is empty.

    A type that this version does not know becomes a DaemonError with the same text.
    """
    kind = globals().get(str(values.get("type")))
    if not (isinstance(kind, type) and issubclass(kind, ClaudeCommsError)):
        kind = DaemonError
    error = kind.__new__(kind)
    ClaudeCommsError.__init__(error, str(values.get("message", "")))
    for name, absent in _UNTOLD.items():
        if issubclass(kind, absent.kinds):
            setattr(error, name, absent.value)
    for name in (*kind.facts, "thread_id"):
        setattr(error, name, _fact(name, values.get(name), getattr(error, name, None)))
    return error


@dataclass(frozen=True, slots=True)
class _Untold:
    """What an attribute is where JSON does not tell it, and on which errors it stands."""

    kinds: tuple[type[ClaudeCommsError], ...]
    value: object


_UNTOLD = {
    "usage": _Untold((BackendError, BudgetExceededError, DeadlineExceededError), None),
    "partial": _Untold((BackendError, DeadlineExceededError), ""),
    "retries": _Untold((BackendError, DeadlineExceededError), ()),
    "suggestion": _Untold((UnknownModuleError,), None),
    "matches": _Untold((ConversationNotFoundError, JobNotFoundError), ()),
}


def _fact(name: str, value: object, absent: object) -> object:
    if value is None:
        return absent
    if not isinstance(value, list):
        return value
    items = cast("list[object]", value)
    # A problem's place is part of its text by now.
    return tuple(Problem(str(item)) for item in items) if name == "problems" else tuple(items)
