"""How long the context generator takes for one prompt: a descriptor as large as those shipped, a short history.

python benchmarks/context_build.py
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

from claude_comms.context import ContextGenerator
from claude_comms.types import HistoryMessage, Role

ROUNDS = 2_000
TARGET_MS = 0.25


@dataclass(frozen=True)
class Skill:
    """A capability."""

    name: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    tags: tuple[str, ...] = ("store", "page")
    examples: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Module:
    """A descriptor."""

    name: str
    summary: str
    capabilities: tuple[Skill, ...] = ()
    description: str = ""
    data_types: tuple[str, ...] = ()
    relationships: tuple[Any, ...] = ()

    def to_prompt(self, role: str) -> str:
        """The module's block."""
        return "\n".join([self.name, self.summary, role, *(skill.name for skill in self.capabilities)])


def main() -> None:
    """Build prompts and print the median."""
    fields = {f"field_{number}": {"type": "string", "description": "a field of the document"} for number in range(10)}
    schema = {"type": "object", "properties": fields, "required": ["field_1"]}
    skills = tuple(
        Skill(f"store_pages_{number}", "Stores blocks of pages in a collection.", schema, schema)
        for number in range(15)
    )
    source, target = Module("marker", "PDF to Markdown"), Module("arangodb", "Documents and graphs", skills)
    history = [HistoryMessage(role, "word " * 400) for _ in range(3) for role in (Role.QUESTION, Role.ANSWER)]
    generator = ContextGenerator()
    times: list[float] = []
    for number in range(ROUNDS):
        start = time.perf_counter()
        generator.build(source, target, f"How should I store page {number}?", history=history, data={"n": 1})
        times.append((time.perf_counter() - start) * 1_000)
    prompt = generator.build(source, target, "How should I store a page?", history=history, data={"n": 1})
    print(f"prompt of {prompt.tokens.tokens:,} tokens (estimated), {ROUNDS:,} builds")
    print(f"first {times[0]:.2f} ms, median {statistics.median(times):.3f} ms (target {TARGET_MS} ms)")


if __name__ == "__main__":
    main()
