"""Descriptors as text: both formats carry everything, and every problem has its place."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_comms.descriptors import (
    ModuleDescriptor,
    descriptor_json_schema,
    dump_descriptor,
    load_descriptor,
    loads_descriptor,
)
from claude_comms.descriptors._file import from_values
from claude_comms.errors import DescriptorError, Problem
from claude_comms.schemas import schema_problems, value_problems


def problems_of(text: str, *, json: bool = False) -> list[Problem]:
    with pytest.raises(DescriptorError) as caught:
        loads_descriptor(text, "json" if json else "yaml", path="card")
    assert caught.value.path == "card"
    return list(caught.value.problems)


# --- round trips -------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TRICKY = st.sampled_from(
    ["yes", "no", "on", "off", "~", "null", "1", "1e3", "0o17", "1_000", "1:30", "2020-01-01", "=", "<<", " a ", "a\nb",
     "a\n\nb\n", "\na", "a \nb", "\ta\nb", "- a", "a: b", "# a", "|", "'", '"', ".inf", ".5", "+1",
     "0x1F", "\x85", "\ufeff", "True"]
)  # fmt: skip
WORDS = TEXT | TRICKY
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,12}", fullmatch=True)
LABELS = st.from_regex(r"[A-Za-z0-9ä.][A-Za-z0-9 :#'\"-]{0,10}[A-Za-z0-9]", fullmatch=True)


def record(required: dict[str, Any], optional: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(required, optional=optional)


CARDS = record(
    {"name": NAMES},
    {
        "version": WORDS,
        "summary": WORDS,
        "description": WORDS,
        "capabilities": st.lists(
            record(
                {"name": LABELS},
                {
                    "description": WORDS,
                    "tags": st.lists(WORDS, max_size=3),
                    "input_schema": st.booleans() | st.just({"type": ["object", "array", "string", "number", "null"]}),
                    "output_schema": st.just({"title": "yes", "description": "a\nb"}),
                    "examples": st.lists(record({}, {"output": VALUES, "note": WORDS}), max_size=2),
                },
            ),
            max_size=3,
            unique_by=lambda item: item["name"],
        ),
        "data_types": st.lists(LABELS, max_size=2, unique=True)
        | st.lists(record({"name": LABELS}, {"description": WORDS, "schema": st.just({"type": "string"})}), max_size=1),
        "relationships": st.lists(
            record({"module": NAMES, "kind": WORDS.filter(bool)}, {"description": WORDS}), max_size=2
        ),
        "hints": record({}, {"role": WORDS, "guidance": WORDS}),
        "permissions": record({}, {"tools": st.lists(LABELS, max_size=3)}),
        "extends": NAMES | st.none(),
        "metadata": st.dictionaries(WORDS, VALUES, max_size=3),
    },
)


@given(CARDS)
@settings(max_examples=150, deadline=None)
def test_what_is_written_loads_back_equal_in_and_across_both_formats(values: dict[str, Any]) -> None:
    card = from_values(values)
    as_yaml, as_json = dump_descriptor(card, "yaml"), dump_descriptor(card, "json")
    from_yaml, from_json = loads_descriptor(as_yaml, "yaml"), loads_descriptor(as_json, "json")
    assert from_yaml == from_json == card
    assert dump_descriptor(from_yaml, "json") == as_json
    assert dump_descriptor(from_json, "yaml") == as_yaml
    assert json.loads(as_json) == values


def test_a_plain_data_type_stays_plain_and_a_described_one_described() -> None:
    text = "name: x\ndata_types:\n- pdf\n- name: block\n  schema:\n    type: object\n"
    assert dump_descriptor(loads_descriptor(text)) == text


# --- what words mean ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", ["yes", "no", "on", "off", "y", "2020-01-01", "2020-01-01T10:00:00Z", "12:30", "1_000"]
)
def test_words_that_only_old_yaml_takes_for_something_else_are_text(word: str) -> None:
    assert loads_descriptor(f"name: x\nmetadata:\n  k: {word}\n").metadata == {"k": word}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("0o17", 15),
        ("0x1f", 31),
        ("-7", -7),
        ("1e3", 1000.0),
    ],
)
def test_words_of_the_core_schema_have_its_meaning(word: str, value: object) -> None:
    assert loads_descriptor(f"name: x\nmetadata:\n  k: {word}\n").metadata == {"k": value}


def test_aliases_stand_for_their_values() -> None:
    card = loads_descriptor("name: x\nmetadata:\n  a: &a [1, {b: 2}]\n  c: *a\n")
    assert card.metadata == {"a": [1, {"b": 2}], "c": [1, {"b": 2}]}


# --- problems ----------------------------------------------------------------------------------

BROKEN = """\
name: My Module
version: 1.0
sumary: typo
capabilities:
  - name: a
    input_schema: {type: objekt}
  - name: a
    description: [not text]
    input_schema: {type: object, required: [x]}
    examples:
      - input: {y: 1}
      - input: {x: 1}
        note: 3
  - description: no name
relationships:
  - module: Other One
hints: text
data_types: [3]
metadata: {n: .nan}
"""

EXPECTED = {
    ("name", 1, "lower case"),
    ("version", 2, 'quote it: "1.0"'),
    ("sumary", 3, "did you mean summary?"),
    ("capabilities[0].input_schema.type", 6, "not a JSON Schema"),
    ("capabilities[1].name", 7, "already capabilities[0]"),
    ("capabilities[1].description", 8, "must be text, not a list"),
    ("capabilities[1].examples[0].input", 11, '"x" is a required property'),
    ("capabilities[1].examples[1].note", 13, 'quote it: "3"'),
    ("capabilities[2].name", 14, "add name: ..."),
    ("relationships[0].module", 16, "lower case"),
    ("relationships[0].kind", 16, "add kind: ..."),
    ("hints", 17, "must be a mapping, not text"),
    ("data_types[0]", 18, 'quote it: "3"'),
    ("metadata.n", 19, "no JSON number"),
}


def test_all_problems_are_told_at_once_each_with_field_line_and_what_would_be_right() -> None:
    problems = problems_of(BROKEN)
    assert {(problem.field, problem.line) for problem in problems} == {(field, line) for field, line, _ in EXPECTED}
    for field, line, said in EXPECTED:
        texts = [str(problem) for problem in problems if (problem.field, problem.line) == (field, line)]
        assert any(said in text for text in texts), (field, texts)
    assert [problem.line for problem in problems] == sorted(cast("int", problem.line) for problem in problems)


def test_json_problems_have_lines_too() -> None:
    text = '{\n "name": "x",\n "capabilities": [\n  {"name": "a"},\n  {\n   "name": "b",\n   "tags": 3\n  }\n ]\n}'
    assert [(problem.field, problem.line) for problem in problems_of(text, json=True)] == [("capabilities[1].tags", 7)]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_key_that_is_there_twice_names_both_lines(as_json: bool) -> None:
    text = '{"name": "x",\n"hints": {"role": "a",\n"role": "b"}}'
    (problem,) = problems_of(text, json=as_json)
    assert (problem.field, problem.line) == ("hints.role", 3)
    assert "line 2" in problem.message


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("name: x\n  bad: y\n", 2, "not YAML"),
        ("name: x\n---\nname: y\n", 2, "second document"),
        ("name: x\nmetadata: {<<: {a: 1}}\n", 2, "merge keys"),
        ("name: x\nmetadata: {1: a}\n", 2, "quote it"),
        ("name: x\nmetadata:\n  ? [a]\n  : b\n", 3, "a key must be text"),
        ("name: x\nmetadata: {a: *b}\n", 2, "*b is not known"),
        ("", 1, "is empty"),
        ("- name: x\n", 1, "must be a mapping"),
    ],
)
def test_what_is_no_descriptor_at_all_says_where(text: str, line: int, said: str) -> None:
    (problem,) = problems_of(text)
    assert problem.line == line
    assert said in str(problem)


@pytest.mark.parametrize(
    "text",
    ['{"name": "x",}', '{"name": "x"} x', "{'name': 'x'}", '{"name": tru}', '{"name" "x"}', '["a" "b"]', '{"a": 01}',
     "[1,]", '{"name": "a\nb"}', '{"name": "x"', '{"n": 1e999}', '{"a": NaN}', "", '{"a": "\\ud800"}', "{,}"],
)  # fmt: skip
def test_what_is_not_json_is_refused(text: str) -> None:
    assert problems_of(text, json=True)


@given(VALUES)
@settings(max_examples=100, deadline=None)
def test_the_json_reader_agrees_with_the_standard_library(value: object) -> None:
    from claude_comms.descriptors._json import json_events
    from claude_comms.descriptors._tree import build

    for text in (json.dumps(value), json.dumps(value, indent=1, ensure_ascii=False)):
        assert build(json_events(text)).value == json.loads(text)


# --- files -------------------------------------------------------------------------------------


def test_a_byte_order_mark_is_allowed(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xef\xbb\xbfname: x\n")
    assert load_descriptor(file) == ModuleDescriptor(name="x")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("name: x\n".encode("utf-16"), "UTF-16"),
        ("name: x\n".encode("utf-16-le"), "NUL"),
        ("name: x\n".encode("utf-32"), "UTF-32"),
        ("name: x\nsummary: ü\n".encode("latin-1"), "line 2: byte 0xfc is not UTF-8"),
        (b"name: x\nsummary: \0\n", "line 2: contains a NUL"),
        (b"name: x\nsummary: \x01\n", "not YAML"),
    ],
)
def test_other_encodings_are_named(tmp_path: Path, data: bytes, said: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(data)
    with pytest.raises(DescriptorError, match=said) as caught:
        load_descriptor(file)
    assert caught.value.path == file


def test_a_file_that_is_not_there_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(DescriptorError, match="No such file"):
        load_descriptor(tmp_path / "x.yaml")


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.yaml")
    for path in (tmp_path / "x.yaml", tmp_path, Path("/dev/zero")):
        with pytest.raises(DescriptorError, match="not a regular file"):
            load_descriptor(path)


# --- for editors -------------------------------------------------------------------------------


def test_the_exported_schema_takes_what_loads_and_refuses_what_does_not() -> None:
    schema = descriptor_json_schema()
    assert schema_problems(schema) == []
    assert schema["$schema"].endswith("2020-12/schema")
    good = {
        "name": "x",
        "data_types": ["a", {"name": "b", "schema": True}],
        "class": "c",
        "capabilities": [{"name": "a"}],
    }
    assert value_problems(schema, good) == []
    for bad in (
        {},
        {"name": "No"},
        {"name": "x", "sumary": ""},
        {"name": "x", "hints": {"rol": ""}},
        {"name": "x", "version": 1},
    ):
        assert value_problems(schema, bad), bad


def test_the_exported_schema_explains_every_field() -> None:
    schema = descriptor_json_schema()
    properties = {**schema["properties"], **schema["$defs"]["Capability"]["properties"]}
    assert [name for name, field in properties.items() if not field.get("description")] == []


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        ('{"name": "x",\n "summary": "a\\ud800"}', 2, "summary"),
        (
            '{"name": "x",\n "capabilities": [{"name": "a",\n"description": "\\udc00"}]}',
            3,
            "capabilities[0].description",
        ),
        ('{"name": "x", "capabilities": [{"name": "a",\n"tags": ["b", "\\ud800"]}]}', 2, "capabilities[0].tags[1]"),
        ('{"name": "x",\n "metadata": {"a": ["\\ud800"]}}', 2, "metadata.a[0]"),
        ('{"name": "x",\n "metadata": {"\\ud800": 1}}', 2, "metadata"),
    ],
)
def test_a_lone_surrogate_is_refused_with_its_place(tmp_path: Path, text: str, line: int, field: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DescriptorError, match=r"not valid Unicode: \\ud[c8]00") as caught:
        load_descriptor(path)
    assert (caught.value.path, caught.value.line, caught.value.field) == (path, line, field)
    assert len(caught.value.problems) == 1


def test_both_halves_of_a_character_are_one() -> None:
    assert loads_descriptor('{"name": "x", "summary": "\\ud83d\\ude00"}', "json").summary == "\U0001f600"
