"""What a model is told to do after each kind of error."""

from __future__ import annotations

import pytest

from claude_comms import errors
from claude_comms.plugin._failures import failure_text

STEPS: list[tuple[errors.ClaudeCommsError, str]] = [
    (errors.PoolExhaustedError("full", limit=2, retry_after_s=4.0), "Wait 4 s and call again."),
    (errors.BudgetExceededError("spent", budget="day", limit=1.0, spent=1.0), "Do not call again."),
    (errors.DeadlineExceededError("late", deadline_s=1.0), "start_task"),
    (errors.ContextTooLargeError("large", tokens=2, limit=1), "less text"),
    (errors.TemplateError("bad", path="x", line=1), "Tell the user"),
    (errors.ContextError("empty"), "Correct the question"),
    (errors.LoopError("round", chain=("a", "b", "a")), "answer from what you know"),
    (errors.UnknownModuleError("a", known=()), "list_modules"),
    (errors.ConversationNotFoundError("which"), "search_conversations"),
    (errors.JobNotFoundError("which"), "start_task"),
    (errors.InstanceStateError("paused", state="paused", wanted="idle"), "list_instances"),
    (errors.BackendUnavailableError("none", backend="api"), "Tell the user"),
    (errors.PermissionDeniedError("no", grant="Bash"), "Tell the user"),
    (errors.BackendCrashedError("gone", backend="api", exit_code=1, stderr_tail=""), "Call again once."),
    (errors.TurnFailedError("no", backend="api", reason="refusal", partial=""), "Ask differently"),
    (errors.DaemonNotRunningError("none"), "claude-comms daemon status"),
    (errors.ConfigError("thread_id: bad"), "Correct the argument"),
    (errors.StoreError("full"), "Tell the user"),
]


@pytest.mark.parametrize(("error", "step"), STEPS, ids=lambda value: type(value).__name__)
def test_each_kind_of_error_has_its_next_step(error: errors.ClaudeCommsError, step: str) -> None:
    *said, last = failure_text(error).splitlines()
    assert last.startswith("Next: ")
    assert step in last
    assert said == [f"{type(error).__name__}: {error}"]


def test_the_conversation_is_told_where_one_is_known_and_nothing_acts_on_a_terminal() -> None:
    error = errors.BackendError("it said \x1b[31mno", backend="api")
    error.thread_id = "c_1"
    first, second, _ = failure_text(error).splitlines()
    assert (first, second) == ("BackendError: it said [31mno", "Conversation: c_1")
