"""Errors as a model needs them: what went wrong, and what to do now."""

from __future__ import annotations

from claude_comms.errors import (
    BackendError,
    BackendUnavailableError,
    BudgetExceededError,
    ClaudeCommsError,
    ConfigError,
    ContextError,
    ContextTooLargeError,
    ConversationNotFoundError,
    DaemonError,
    DeadlineExceededError,
    InstanceStateError,
    JobNotFoundError,
    LoopError,
    PermissionDeniedError,
    PoolExhaustedError,
    TemplateError,
    UnknownModuleError,
)
from claude_comms.text import printable

__all__ = ["crash_text", "failure_text", "misuse_text"]

_TELL = "Tell the user what it says; calling again will not help until they have acted."

_NEXT: tuple[tuple[type[ClaudeCommsError], str], ...] = (
    (UnknownModuleError, "Call list_modules and use one of its names."),
    (
        ConversationNotFoundError,
        "Give a whole thread_id: search_conversations finds it. Or query_module begins a new one: leave thread_id out.",
    ),
    (JobNotFoundError, "Use a task_id that start_task returned, or look with activity."),
    (LoopError, "Do not ask again: answer from what you know, and say what is missing."),
    (BudgetExceededError, "Do not call again. Tell the user what was spent and what the limit is."),
    (DeadlineExceededError, "Ask something narrower, or give it to start_task and fetch it with task_result."),
    (ContextTooLargeError, "Ask again with less text."),
    (TemplateError, _TELL),
    (ContextError, "Correct the question, and call again."),
    (InstanceStateError, "Look at list_instances; wait, or begin a new conversation by leaving thread_id out."),
    (BackendUnavailableError, _TELL),
    (PermissionDeniedError, _TELL),
    (DaemonError, f"{_TELL} They can look with: claude-comms daemon status"),
    (ConfigError, "Correct the argument that it names; if it names none, tell the user."),
)


def failure_text(error: ClaudeCommsError) -> str:
    """The error's kind and text, the conversation where one is known, and the next step."""
    lines = [f"{type(error).__name__}: {printable(str(error))}"]
    if error.thread_id is not None:
        lines.append(f"Conversation: {error.thread_id}")
    return "\n".join([*lines, f"Next: {_next_step(error)}"])


def misuse_text(*problems: str) -> str:
    """What is wrong with a call itself, and the next step."""
    return f"Wrong call: {printable('; '.join(problems))}.\nNext: Correct it, and call again."


def crash_text(tool: str) -> str:
    """That something broke which nobody had foreseen: what it was stays here, in the log."""
    return (
        f"{tool} broke, which is a defect of claude-comms.\nNext: Do not call again with the same arguments. Tell the"
        " user, who finds the reason in what the server says on stderr, or with: claude-comms daemon logs"
    )


def _next_step(error: ClaudeCommsError) -> str:
    if isinstance(error, PoolExhaustedError):
        return f"Wait {error.retry_after_s:g} s and call again."
    for kind, step in _NEXT:
        if isinstance(error, kind):
            return step
    if isinstance(error, BackendError):
        return "Call again once." if error.retryable else "Ask differently, or tell the user."
    return _TELL
