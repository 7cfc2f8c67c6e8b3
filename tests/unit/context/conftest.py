"""Two modules to talk about, made of plain dataclasses: whatever looks like a descriptor will do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pytest

from claude_comms.context import ContextGenerator

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Example:
    input: Any
    output: Any
    note: str | None = None


@dataclass(frozen=True)
class Capability:
    name: str
    description: str | None = None
    tags: tuple[str, ...] = ()
    input_schema: dict[str, Any] | None = None
    output_schema: dict[str, Any] | None = None
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Relationship:
    module: str
    kind: str
    description: str | None = None


@dataclass(frozen=True)
class Module:
    name: str
    summary: str | None = None
    description: str | None = None
    capabilities: tuple[Capability, ...] = ()
    data_types: tuple[Any, ...] = ()
    relationships: tuple[Relationship, ...] = ()

    def to_prompt(self, role: Literal["source", "target"]) -> str:
        lines = [f"name: {self.name}", f"summary: {self.summary}"]
        if role == "target":
            lines += [f"- {capability.name}" for capability in self.capabilities]
        return "\n".join(lines)


@dataclass(frozen=True)
class DataType:
    name: str
    description: str


SCHEMA = {
    "type": "object",
    "required": ["collection"],
    "properties": {
        "collection": {"type": "string", "description": "where the documents go"},
        "documents": {"type": "array", "items": {"$ref": "#/$defs/document"}},
    },
    "$defs": {"document": {"type": "object", "properties": {"_key": {"type": "string", "description": "its key"}}}},
}

ARANGODB = Module(
    "arangodb",
    summary="A database for documents and graphs.",
    description="Stores documents, edges and search views.",
    capabilities=(
        Capability(
            "insert_documents",
            "Stores many documents in a collection.",
            ("write",),
            SCHEMA,
            {"type": "object", "properties": {"created": {"type": "integer"}}},
            (Example({"collection": "pages", "documents": [{"_key": "p1"}]}, {"created": 1}, "a page"),),
        ),
        Capability("traverse_graph", "Walks edges from a vertex.", ("graph",), {"type": "object"}),
        Capability("search_view", "Full-text search with BM25 ranking.", ("search",)),
    ),
    data_types=("document", DataType("edge", "Connects two documents.")),
    relationships=(
        Relationship("claude_mcp", "serves"),
        Relationship("marker", "stores", "The blocks that marker extracts."),
    ),
)

MARKER = Module(
    "marker",
    summary="Turns PDF files into Markdown and blocks.",
    relationships=(Relationship("arangodb", "feeds", "Sends page blocks."),),
)


@pytest.fixture(scope="session")
def arangodb() -> Module:
    return ARANGODB


@pytest.fixture(scope="session")
def marker() -> Module:
    return MARKER


@pytest.fixture(scope="session")
def module() -> Callable[..., Module]:
    return Module


@pytest.fixture(scope="session")
def capability() -> Callable[..., Capability]:
    return Capability


@pytest.fixture(scope="session")
def generator() -> ContextGenerator:
    return ContextGenerator()
