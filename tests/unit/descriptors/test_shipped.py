"""The descriptors that come with claude-comms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from claude_comms.descriptors import ModuleDescriptor, Registry, descriptor_json_schema, load_descriptor
from claude_comms.descriptors._catalogue import shipped_directory
from claude_comms.descriptors._file import to_values
from claude_comms.schemas import value_problems

if TYPE_CHECKING:
    from pathlib import Path

SHIPPED = ["arangodb", "claude_mcp", "marker"]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "home")


def load(name: str) -> ModuleDescriptor:
    return load_descriptor(shipped_directory() / f"{name}.yaml")


@pytest.mark.parametrize("name", SHIPPED)
def test_each_loads_is_complete_and_matches_the_exported_schema(name: str) -> None:
    card = load(name)
    assert card.name == name
    assert all((card.version, card.summary, card.description, card.data_types, card.relationships, card.hints.guidance))
    assert all(item.description and item.tags and item.input_schema and item.examples for item in card.capabilities)
    assert value_problems(descriptor_json_schema(), to_values(card)) == []


@pytest.mark.parametrize("name", SHIPPED)
def test_each_is_related_to_modules_that_are_shipped_and_asks_for_no_tools(name: str) -> None:
    card = load(name)
    assert {item.module for item in card.relationships} <= set(SHIPPED)
    assert card.permissions.tools == ()


def test_marker_and_arangodb_know_each_other() -> None:
    assert [item.module for item in load("marker").relationships] == ["arangodb"]
    assert "marker" in [item.module for item in load("arangodb").relationships]


def test_the_claude_code_tool_has_its_real_schema() -> None:
    (tool,) = load("claude_mcp").capabilities
    assert tool.name == "claude_code"
    assert {name: field["type"] for name, field in tool.input_schema["properties"].items()} == {
        "prompt": "string",
        "workFolder": "string",
    }
    assert tool.input_schema["required"] == ["prompt"]


def test_the_question_of_the_demo_finds_arangodb_and_how_to_store_blocks(registry: Registry) -> None:
    best, *_ = registry.find_modules("How should I store my page blocks?")
    assert best.module.name == "arangodb"
    assert {"import_bulk", "create_collection"} <= {item.name for item in best.capabilities[:4]}


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("Convert a PDF to Markdown", "marker"),
        ("run an AQL query", "arangodb"),
        ("MCP server for Claude Code", "claude_mcp"),
    ],
)
def test_other_questions_find_their_module(registry: Registry, question: str, name: str) -> None:
    assert registry.find_modules(question)[0].module.name == name
