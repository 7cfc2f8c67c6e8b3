"""The tree of errors is the contract's, and each error is JSON."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_comms import errors
from claude_comms.errors import (
    BackendCrashedError,
    BackendError,
    BackendProtocolError,
    BudgetExceededError,
    ClaudeCommsError,
    ContextTooLargeError,
    ConversationNotFoundError,
    DaemonError,
    DaemonVersionError,
    DeadlineExceededError,
    DescriptorError,
    InstanceNotFoundError,
    InstanceStateError,
    JobNotFoundError,
    LoopError,
    PermissionDeniedError,
    PoolExhaustedError,
    Problem,
    ReplyValidationError,
    TemplateError,
    TurnFailedError,
    UnknownModuleError,
    error_from_dict,
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
    "JobNotFoundError": "StoreError",
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
    assert {*found, "ClaudeCommsError", "Problem", "error_from_dict"} == set(errors.__all__)


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


_TEXT = st.text(max_size=20)
_SOME = st.none() | _TEXT
_PROBLEMS = st.lists(st.builds(Problem, _TEXT, _TEXT, st.none() | st.integers(1, 99), _TEXT), max_size=3)
_NUMBER = st.floats(0, 1e6)
_BACKEND = {"backend": _SOME, "instance_id": _SOME, "retryable": st.booleans()}
_MADE_BY: dict[type[ClaudeCommsError], st.SearchStrategy[ClaudeCommsError]] = {
    DescriptorError: st.builds(DescriptorError, _PROBLEMS, path=st.none() | st.just(Path("/d/m.yaml"))),
    UnknownModuleError: st.builds(UnknownModuleError, _TEXT, st.lists(_TEXT, max_size=3), suggestion=_SOME),
    TemplateError: st.builds(TemplateError, _TEXT, path=_SOME, line=st.none() | st.integers(1, 9)),
    ContextTooLargeError: st.builds(ContextTooLargeError, _TEXT, tokens=st.integers(0), limit=st.integers(0)),
    ReplyValidationError: st.builds(ReplyValidationError, _PROBLEMS, _TEXT),
    BackendError: st.builds(BackendError, _TEXT, **_BACKEND),
    errors.BackendUnavailableError: st.builds(errors.BackendUnavailableError, _TEXT, **_BACKEND),
    BackendCrashedError: st.builds(
        BackendCrashedError, _TEXT, exit_code=st.none() | st.integers(-64, 255), stderr_tail=_TEXT, **_BACKEND
    ),
    BackendProtocolError: st.builds(BackendProtocolError, _TEXT, line=_TEXT, **_BACKEND),
    TurnFailedError: st.builds(TurnFailedError, _TEXT, reason=_TEXT, partial=_TEXT, **_BACKEND),
    PermissionDeniedError: st.builds(PermissionDeniedError, _TEXT, grant=_TEXT),
    PoolExhaustedError: st.builds(PoolExhaustedError, _TEXT, limit=st.integers(0), retry_after_s=_NUMBER),
    InstanceStateError: st.builds(InstanceStateError, _TEXT, state=_TEXT, wanted=_TEXT, instance_id=_SOME),
    InstanceNotFoundError: st.builds(InstanceNotFoundError, _TEXT, instance_id=_TEXT),
    BudgetExceededError: st.builds(BudgetExceededError, _TEXT, budget=_TEXT, limit=_NUMBER, spent=_NUMBER),
    ConversationNotFoundError: st.builds(ConversationNotFoundError, _TEXT, matches=st.lists(_TEXT, max_size=3)),
    JobNotFoundError: st.builds(JobNotFoundError, _TEXT, matches=st.lists(_TEXT, max_size=3)),
    DaemonVersionError: st.builds(DaemonVersionError, _TEXT, daemon_version=_TEXT, client_version=_TEXT),
    LoopError: st.builds(LoopError, _TEXT, chain=st.lists(_TEXT, max_size=4)),
    DeadlineExceededError: st.builds(DeadlineExceededError, _TEXT, deadline_s=st.none() | _NUMBER),
}
_KINDS = [getattr(errors, name) for name in [*PARENTS, "ClaudeCommsError"]]


@pytest.mark.parametrize("kind", _KINDS, ids=lambda kind: kind.__name__)
@given(data=st.data(), thread_id=_SOME)
def test_every_error_comes_back_from_json_as_what_it_was(
    data: st.DataObject, thread_id: str | None, kind: type[ClaudeCommsError]
) -> None:
    error = data.draw(_MADE_BY.get(kind, st.builds(kind, _TEXT)))
    error.thread_id = thread_id
    back = error_from_dict(json.loads(json.dumps(error.as_dict())))
    assert type(back) is kind
    assert str(back) == str(error)
    assert back.as_dict() == error.as_dict()
    # Nothing that the class gives its errors is missing on one that came over a wire.
    assert vars(back).keys() >= vars(error).keys()


def test_a_tuple_of_facts_is_a_tuple_again() -> None:
    back = error_from_dict(LoopError("x", chain=["a", "b"]).as_dict())
    assert isinstance(back, LoopError)
    assert back.chain == ("a", "b")
    wrong = error_from_dict(ReplyValidationError([Problem("no", field="a.b")], "text").as_dict())
    assert isinstance(wrong, ReplyValidationError)
    assert [str(problem) for problem in wrong.problems] == ["a.b: no"]


@pytest.mark.parametrize("kind", ["FutureError", "Problem", "dataclass", None])
def test_an_error_of_an_unknown_type_is_the_daemons(kind: str | None) -> None:
    back = error_from_dict({"type": kind, "message": "what it said", "more": 1})
    assert type(back) is DaemonError
    assert str(back) == "what it said"
