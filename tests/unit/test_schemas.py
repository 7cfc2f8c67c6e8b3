"""JSON Schemas of strangers: checked, never fetched, never a reason to hang or crash."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from claude_comms.schemas import schema_problems, value_problems

PERSON = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("schema", [True, {}, PERSON, {"$ref": "#/$defs/a", "$defs": {"a": PERSON}}])
def test_a_schema_has_no_problems(schema: object) -> None:
    assert schema_problems(schema) == []


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"properties": {"a": {"type": "strin"}}}, "input_schema.properties.a.type"),
        ({"anyOf": [{}, {"minLength": -1}]}, "input_schema.anyOf[1].minLength"),
        (5, "input_schema"),
        ({"enum": [object()]}, "input_schema"),
        ({"title": "\ud800"}, "input_schema"),
        ({1: 2}, "input_schema"),
    ],
)
def test_what_is_no_schema_is_told_with_its_place(schema: object, field: str) -> None:
    [problem] = schema_problems(schema, field="input_schema")
    assert problem.field == field
    assert problem.message.startswith("not a JSON Schema 2020-12: ")


def test_a_value_is_checked_and_its_problems_placed() -> None:
    assert value_problems(PERSON, {"name": "a"}) == []
    [problem] = value_problems({"items": PERSON}, [{"name": "a"}, {"name": 3}], field="answer")
    assert problem.field == "answer[1].name"
    assert "not of type" in problem.message


def test_at_most_20_problems_are_told() -> None:
    assert len(value_problems({"items": {"type": "string"}}, list(range(100)))) == 20


def test_checking_against_what_is_no_schema_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="strin"):
        value_problems({"type": "strin"}, 1)


@pytest.mark.parametrize("reference", ["http://{}/x.json", "https://{}/x.json", "file:///etc/hosts"])
def test_a_reference_out_of_the_document_is_refused_without_any_network(reference: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        host, port = server.getsockname()
        [problem] = schema_problems({"$ref": reference.format(f"{host}:{port}")})
        with pytest.raises(BlockingIOError):  # nobody is waiting to be let in
            server.accept()
    assert "only references within it (#/...) are followed" in problem.message


def test_a_reference_to_a_file_beside_it_is_refused() -> None:
    assert "retrieving it failed" in schema_problems({"$ref": "other.json"})[0].message


def test_a_pattern_runs_in_linear_time() -> None:
    # A backtracking engine needs 2^50,000 steps for this one: the test would never end.
    [problem] = value_problems({"pattern": "^(a+)+$"}, "a" * 50_000 + "b")
    assert len(problem.message) <= 300


@pytest.mark.parametrize("pattern", ["(?=a)b", r"(a)\1", "(", "(a{1,1000}){1,1000}"])
def test_a_pattern_that_could_not_is_refused(pattern: str) -> None:
    [problem] = schema_problems({"pattern": pattern})
    assert problem.field == "pattern"


def test_a_deep_schema_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(20_000):
        schema = {"not": schema}
    assert "limit" in schema_problems(schema)[0].message


def test_a_deep_value_is_refused() -> None:
    recursive = {"type": "array", "items": {"$ref": "#"}}
    assert value_problems(recursive, nested(99)) == []
    [problem] = value_problems(recursive, nested(20_000))
    assert "levels deep" in problem.message


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"allOf": [{"$ref": "#"}]}, {"anyOf": [{"$ref": "#"}] * 2}])
def test_a_schema_that_refers_to_itself_ends(schema: dict[str, Any]) -> None:
    assert schema_problems(schema) == []
    assert value_problems(schema, {"a": 1}) == []


@pytest.mark.parametrize("value", ["\ud800", {"a": "\ud800"}, {"a": object()}, {1: 2}])
def test_a_value_that_is_not_json_is_a_problem(value: object) -> None:
    [problem] = value_problems({"pattern": "x", "additionalProperties": {"enum": ["x"]}}, value, field="answer")
    assert problem.field == "answer"
    assert problem.message.startswith("not a JSON value")
