"""What a hostile or careless MCP server says of its tools, and what of it gets into a descriptor."""

from __future__ import annotations

from typing import Any

from mcp_types import Tool

from claude_comms.descriptors import dump_descriptor, loads_descriptor
from claude_comms.descriptors._draft_mcp import _descriptor, _Offered

GOOD = {"type": "object", "properties": {"table": {"type": "string"}}}


def drafted(*tools: Tool, **said: Any) -> Any:
    """The descriptor, which always goes through a file."""
    card = _descriptor("rows", _Offered(tools=tools, **said))
    assert loads_descriptor(dump_descriptor(card)) == card
    return card


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        schema = {"type": "object", "properties": {"x": schema}}
    return schema


def test_names_and_texts_lose_what_acts_on_a_terminal_and_what_is_too_long() -> None:
    card = drafted(
        Tool(
            name="\x1b[31mcount\nrows" + "x" * 300,
            description="Counts\x1b]0;gone\x07." + "y" * 9_000,
            input_schema=GOOD,
        ),
        version="1\x1b",
        instructions="Hello\x1b[2J.\n\nMore.",
    )
    (tool,) = card.capabilities
    assert tool.name.startswith("[31mcount rowsx")
    assert len(tool.name) <= 128
    assert len(tool.description) == 4_000
    assert "\x1b" not in dump_descriptor(card)
    assert (card.version, card.summary) == ("1", "Hello[2J.")


def test_a_name_that_is_there_twice_or_empty_counts_once_or_not_at_all() -> None:
    card = drafted(*(Tool(name=name, input_schema=GOOD) for name in ("count", "count", " ", "\x1b", "wipe")))
    assert [tool.name for tool in card.capabilities] == ["count", "wipe"]


def test_a_schema_that_does_not_stand_by_itself_is_left_out_and_its_tool_stays() -> None:
    bad: list[dict[str, Any]] = [
        {"type": "objekt"},
        {"$ref": "https://evil.example/schema.json"},
        {"pattern": "("},
        nested(40),
        nested(200),
        {"description": "x" * 40_000},
        {"enum": list(range(20_000))},
    ]
    card = drafted(*(Tool(name=f"t{number}", input_schema=schema) for number, schema in enumerate([*bad, GOOD])))
    schemas = [tool.input_schema for tool in card.capabilities]
    assert schemas == [None] * len(bad) + [GOOD]


def test_what_does_not_fit_into_a_file_is_cut_from_the_end() -> None:
    large = {"type": "object", "description": "x" * 20_000}
    card = drafted(*(Tool(name=f"t{number}", input_schema=large) for number in range(100)))
    assert card.capabilities[0].name == "t0"
    kept = len(card.capabilities)
    assert 9 < kept < 13
    assert card.metadata["drafted_from"] == ["MCP server", f"the first {kept} of 100 tools"]


def test_of_very_many_tools_the_first_are_told_of_and_that_there_are_more() -> None:
    card = drafted(*(Tool(name=f"t{number}", input_schema=GOOD) for number in range(1_000)))
    assert len(card.capabilities) == 500
    assert card.metadata["drafted_from"][1] == "the first 500 of 1000 tools"
    card = drafted(Tool(name="t", input_schema=GOOD), has_more=True)
    assert card.metadata["drafted_from"][1] == "the first 1 of 1 and more tools"


def test_a_server_that_says_nothing_of_itself_still_makes_a_descriptor() -> None:
    card = drafted()
    assert card.summary == "The MCP server rows."
    assert card.metadata == {"drafted_from": ["MCP server"]}
