"""Descriptors made in code."""

from __future__ import annotations

import dataclasses

import pytest
from pydantic import BaseModel

from claude_comms.descriptors import Example, capability, descriptor, dump_descriptor, loads_descriptor
from claude_comms.errors import DescriptorError


class Block(BaseModel):
    html: str
    page: int = 0


@dataclasses.dataclass
class Page:
    number: int


def convert(path: str, pages: list[int] | None = None, *, model_name: str = "fast") -> Block:
    """Convert a file.

    More of it.
    """
    return Block(html=f"{path}{pages}{model_name}")


def test_a_function_becomes_a_capability() -> None:
    card = capability(convert, tags=["pdf"], examples=[({"path": "a.pdf"}, {"html": "x"})])
    assert (card.name, card.tags) == ("convert", ("pdf",))
    assert card.description == "Convert a file.\n\nMore of it."
    assert set(card.input_schema["properties"]) == {"path", "pages", "model_name"}
    assert card.input_schema["required"] == ["path"]
    assert card.output_schema["required"] == ["html"]
    assert card.examples == (Example(input={"path": "a.pdf"}, output={"html": "x"}),)


def test_schemas_come_from_models_dataclasses_and_types() -> None:
    card = capability("f", input=Block, output=list[Page])
    assert card.input_schema["properties"]["page"]["type"] == "integer"
    assert card.output_schema["type"] == "array"


def test_a_descriptor_made_in_code_checks_its_examples_and_can_be_written() -> None:
    card = descriptor("conv", "Converts.", capabilities=[convert], data_types=("pdf",))
    assert loads_descriptor(dump_descriptor(card)) == card
    with pytest.raises(DescriptorError, match=r"capabilities\[0\].examples\[0\].input"):
        descriptor("conv", capabilities=[capability(convert, examples=[({}, {"html": "x"})])])


def test_a_type_without_a_schema_and_a_bad_name_are_our_errors() -> None:
    with pytest.raises(DescriptorError, match="no JSON Schema"):
        capability("f", input=object.__new__)
    with pytest.raises(DescriptorError, match="one line"):
        capability("a\nb")
