"""Every error of ours has a status and a problem document."""

from __future__ import annotations

import json

import pytest

from claude_comms import errors
from claude_comms.daemon.wire import problem, status_of

_EXAMPLES: list[tuple[errors.ClaudeCommsError, int]] = [
    (errors.ConfigError("x"), 422),
    (errors.DescriptorError([errors.Problem("x")]), 422),
    (errors.UnknownModuleError("x"), 404),
    (errors.TemplateError("x"), 422),
    (errors.ContextTooLargeError("x", tokens=2, limit=1), 422),
    (errors.ReplyValidationError([errors.Problem("x")], "y"), 422),
    (errors.BackendUnavailableError("x"), 503),
    (errors.BackendCrashedError("x"), 502),
    (errors.BackendProtocolError("x"), 502),
    (errors.TurnFailedError("x", reason="cut"), 502),
    (errors.PermissionDeniedError("x", grant="Bash"), 403),
    (errors.PoolExhaustedError("x", limit=1, retry_after_s=2), 503),
    (errors.InstanceStateError("x", state="idle", wanted="busy"), 409),
    (errors.InstanceNotFoundError("x", instance_id="i"), 404),
    (errors.BudgetExceededError("x", budget="b", limit=1, spent=2), 402),
    (errors.StoreError("x"), 503),
    (errors.ConversationNotFoundError("x"), 404),
    (errors.JobNotFoundError("x"), 404),
    (errors.DaemonError("x"), 503),
    (errors.DaemonVersionError("x", daemon_version="1", client_version="2"), 409),
    (errors.DaemonNotRunningError("x"), 503),
    (errors.LoopError("x", chain=["a"]), 409),
    (errors.DeadlineExceededError("x", deadline_s=1), 504),
]


@pytest.mark.parametrize(("error", "status"), _EXAMPLES, ids=lambda value: type(value).__name__)
def test_each_error_has_its_status(error: errors.ClaudeCommsError, status: int) -> None:
    assert status_of(error) == status


@pytest.mark.parametrize(("error", "status"), _EXAMPLES, ids=lambda value: type(value).__name__)
def test_a_problem_document_holds_the_whole_error(error: errors.ClaudeCommsError, status: int) -> None:
    document = json.loads(json.dumps(problem(error)))

    assert document["type"] == f"urn:claude-comms:error:{type(error).__name__}"
    assert document["status"] == status
    assert document["title"]
    assert document["detail"] == str(error)
    assert document["error"] == json.loads(json.dumps(error.as_dict()))


def test_no_error_is_forgotten() -> None:
    named = {type(error) for error, _ in _EXAMPLES}
    ours = {getattr(errors, name) for name in errors.__all__ if name.endswith("Error")}

    assert {kind for kind in ours if not kind.__subclasses__()} <= named
