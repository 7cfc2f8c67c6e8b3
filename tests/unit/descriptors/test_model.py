"""The descriptor's values: what they refuse, and what a module's block says."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from claude_comms.descriptors import (
    BaseDescriptor,
    Capability,
    Example,
    Hints,
    ModuleDescriptor,
    Permissions,
    wider_grants,
)
from claude_comms.errors import DescriptorError


class Clock(BaseDescriptor):
    name = "clock"

    def to_prompt(self, role: Literal["source", "target"]) -> str:
        return f"the clock as {role}"


def full() -> ModuleDescriptor:
    return ModuleDescriptor.model_validate(
        {
            "name": "marker",
            "version": "2.0",
            "summary": "Converts documents.",
            "description": "Reads PDF files.",
            "capabilities": [
                {
                    "name": "convert",
                    "description": "Convert one.\nSecond line.",
                    "tags": ["pdf"],
                    "input_schema": {"type": "object", "title": "SCHEMA"},
                    "examples": [{"input": {"secret": "EXAMPLE"}}],
                }
            ],
            "data_types": ["pdf", {"name": "block", "description": "a piece of a page"}],
            "hints": {"role": "an engineer", "guidance": "Be brief."},
        }
    )


def test_a_class_with_a_name_and_a_prompt_is_a_descriptor() -> None:
    clock = Clock()
    assert (clock.version, clock.summary, clock.capabilities, clock.data_types) == ("", "", (), ())
    assert clock.hints == Hints()
    assert clock.permissions == Permissions()
    assert clock.metadata == {}


def test_two_classes_do_not_share_their_metadata() -> None:
    class Other(Clock):
        metadata = {"zone": "UTC"}  # noqa: RUF012 - as somebody would write it

    assert Other().metadata == {"zone": "UTC"}
    assert Clock().metadata == {}


def test_the_target_says_who_it_is_and_lists_its_capabilities_one_line_each() -> None:
    block = full().to_prompt("target")
    for said in (
        "marker 2.0: Converts documents.",
        "Reads PDF files.",
        "an engineer",
        "Be brief.",
        "- pdf",
        "a piece of",
    ):
        assert said in block
    assert "- convert: Convert one. [pdf]" in block.splitlines()


@pytest.mark.parametrize("role", ["source", "target"])
def test_schemas_and_examples_stay_out_of_the_block(role: Literal["source", "target"]) -> None:
    block = full().to_prompt(role)
    assert "SCHEMA" not in block
    assert "EXAMPLE" not in block
    assert "Second line" not in block
    assert block == full().to_prompt(role)


def test_the_source_says_less_than_the_target() -> None:
    assert "marker 2.0" in full().to_prompt("source")
    assert "convert" not in full().to_prompt("source")


def test_wrong_values_in_code_raise_our_error_with_every_problem() -> None:
    with pytest.raises(DescriptorError) as caught:
        ModuleDescriptor.model_validate(
            {"name": "No Name", "sumary": "x", "capabilities": [{"name": "a", "input_schema": {"type": "x"}}]}
        )
    fields = {problem.field: str(problem) for problem in caught.value.problems}
    assert set(fields) == {"name", "sumary", "capabilities[0].input_schema.type"}
    assert "did you mean summary?" in fields["sumary"]
    assert "lower case" in fields["name"]


def test_a_descriptor_cannot_be_changed() -> None:
    with pytest.raises(Exception, match="frozen"):
        full().name = "other"


def test_an_example_of_null_is_checked_and_one_that_is_not_given_is_not() -> None:
    schema = {"type": "object"}
    ModuleDescriptor(name="x", capabilities=(Capability(name="a", input_schema=schema, examples=(Example(note="n"),)),))
    with pytest.raises(DescriptorError) as caught:
        ModuleDescriptor(
            name="x", capabilities=(Capability(name="a", input_schema=schema, examples=(Example(input=None),)),)
        )
    assert caught.value.field == "capabilities[0].examples[0].input"


def test_everything_but_reading_is_a_wider_grant() -> None:
    tools = ("Read", "Grep", "Glob", "Bash(ls:*)", "Write", "Read(/etc/**)", "Write")
    card = ModuleDescriptor(name="x", permissions=Permissions(tools=tools))
    assert wider_grants(card) == ("Bash(ls:*)", "Write", "Read(/etc/**)")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"summary": "\ud800"}, "summary"),
        ({"version": "\ud800"}, "version"),
        ({"capabilities": [{"name": "a", "description": "\ud800"}]}, "capabilities[0].description"),
        ({"capabilities": [{"name": "a\ud800"}]}, "capabilities[0].name"),
        ({"capabilities": [{"name": "a", "input_schema": {"title": "\ud800"}}]}, "capabilities[0].input_schema"),
        ({"capabilities": [{"name": "a", "tags": ["\ud800"]}]}, "capabilities[0].tags[0]"),
        ({"data_types": ["\ud800"]}, "data_types[0]"),
        ({"relationships": [{"module": "b", "kind": "\ud800"}]}, "relationships[0].kind"),
        ({"hints": {"role": "\ud800"}}, "hints.role"),
        ({"metadata": {"a": "\ud800"}}, "metadata"),
    ],
)
def test_a_lone_surrogate_is_refused_in_code_too(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(DescriptorError, match="not valid Unicode") as caught:
        ModuleDescriptor(name="x", **fields)
    assert field in {problem.field for problem in caught.value.problems}
