"""The tree of errors is the contract's, and each error is JSON."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

from claude_comms import errors
from claude_comms.errors import (
    BackendCrashedError,
    BackendError,
    BackendProtocolError,
    BudgetExceededError,
    ClaudeCommsError,
    ContextTooLargeError,
    ConversationNotFoundError,
    DeadlineExceededError,
    DescriptorError,
    InstanceStateError,
    LoopError,
    PermissionDeniedError,
    PoolExhaustedError,
    Problem,
    ReplyValidationError,
    TemplateError,
    TurnFailedError,
    UnknownModuleError,
)

PARENTS = {
    "ConfigError": "ClaudeCommsError",
    "DescriptorError": "ConfigError",
    "UnknownModuleError": "ClaudeCommsError",
    "ContextError": "ClaudeCommsError",
    "TemplateError": "ContextError",
    "ContextTooLargeError": "ContextError",
    "ReplyValidationError": "ClaudeCommsError",
    "BackendError": "ClaudeCommsError",
    "BackendUnavailableError": "BackendError",
    "BackendCrashedError": "BackendError",
    "BackendProtocolError": "BackendError",
    "TurnFailedError": "BackendError",
    "PermissionDeniedError": "ClaudeCommsError",
    "PoolError": "ClaudeCommsError",
    "PoolExhaustedError": "PoolError",
    "InstanceStateError": "PoolError",
    "InstanceNotFoundError": "PoolError",
    "BudgetExceededError": "ClaudeCommsError",
    "StoreError": "ClaudeCommsError",
    "ConversationNotFoundError": "StoreError",
    "DaemonError": "ClaudeCommsError",
    "DaemonNotRunningError": "DaemonError",
    "DaemonVersionError": "DaemonError",
    "LoopError": "ClaudeCommsError",
    "DeadlineExceededError": "ClaudeCommsError",
}

EXAMPLES = [
    (
        DescriptorError([Problem("wrong", field="name", line=3, hint="right"), Problem("too")], path=Path("/d/m.yaml")),
        {
            "path": "/d/m.yaml",
            "line": 3,
            "field": "name",
            "problems": ["line 3: name: wrong (right)", "too"],
        },
    ),
    (UnknownModuleError("marke", ["marker"], suggestion="marker"), {"name": "marke", "known": ["marker"]}),
    (TemplateError("bad", path=Path("a.j2"), line=2), {"path": "a.j2", "line": 2}),
    (ContextTooLargeError("big", tokens=9, limit=3), {"tokens": 9, "limit": 3}),
    (ReplyValidationError([Problem("no")], "text"), {"problems": ["no"], "response": "text"}),
    (
        BackendError("x", backend="api", instance_id="i", retryable=True),
        {"backend": "api", "instance_id": "i", "retryable": True},
    ),
    (BackendCrashedError("x", exit_code=1, stderr_tail="e"), {"exit_code": 1, "stderr_tail": "e", "retryable": True}),
    (BackendProtocolError("x", line="{"), {"line": "{"}),
    (TurnFailedError("x", reason="cut", partial="ha"), {"reason": "cut", "partial": "ha", "retryable": False}),
    (PermissionDeniedError("x", grant="Bash"), {"grant": "Bash"}),
    (PoolExhaustedError("x", limit=4, retry_after_s=1.5), {"limit": 4, "retry_after_s": 1.5}),
    (InstanceStateError("x", state="busy", wanted="ask"), {"state": "busy", "wanted": "ask"}),
    (BudgetExceededError("x", budget="call", limit=1.0, spent=2.0), {"budget": "call", "limit": 1.0, "spent": 2.0}),
    (ConversationNotFoundError("c_1", matches=["c_12", "c_13"]), {"wanted": "c_1", "matches": ["c_12", "c_13"]}),
    (LoopError("x", chain=["a", "b"]), {"chain": ["a", "b"]}),
    (DeadlineExceededError("x", deadline_s=3.0), {"deadline_s": 3.0}),
]


def test_the_tree_is_the_contracts() -> None:
    found = {
        name: kind.__mro__[1].__name__
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, ClaudeCommsError) and kind is not ClaudeCommsError
    }
    assert found == PARENTS
    assert {*found, "ClaudeCommsError", "Problem"} == set(errors.__all__)


def test_a_missed_deadline_is_also_a_timeout() -> None:
    assert isinstance(DeadlineExceededError("late"), TimeoutError)


@pytest.mark.parametrize(("error", "facts"), EXAMPLES, ids=lambda value: type(value).__name__)
def test_an_error_as_json_has_its_type_message_and_facts(error: ClaudeCommsError, facts: dict[str, object]) -> None:
    shown = json.loads(json.dumps(error.as_dict()))
    assert shown["type"] == type(error).__name__
    assert shown["message"] == str(error)
    assert facts.items() <= shown.items()
    assert None not in shown.values()
    assert "thread_id" not in shown
    error.thread_id = "c_1"
    assert error.as_dict()["thread_id"] == "c_1"
    error.thread_id = None


def test_a_descriptor_error_tells_every_problem_with_its_place() -> None:
    error = DescriptorError([Problem("one", line=1), Problem("two", field="name", hint="a name")], path="m.yaml")
    assert str(error) == "m.yaml: line 1: one\nm.yaml: name: two (a name)"


def test_a_template_error_begins_with_its_place() -> None:
    assert str(TemplateError("bad", path="a.j2", line=2)) == "a.j2:2: bad"
    assert str(TemplateError("bad", path="a.j2")) == "a.j2: bad"
    assert str(TemplateError("bad")) == "bad"


def test_an_unknown_module_says_what_is_known_and_what_to_do() -> None:
    text = str(UnknownModuleError("marke", ["arangodb", "marker"], suggestion="marker"))
    assert "Did you mean 'marker'?" in text
    assert "Known modules: arangodb, marker." in text
    assert "claude-comms register-module marke --path DIR" in text
