"""What the loopback API answers: text, thinking and tool calls, in the pieces and at the pace a test wants."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Answer", "Block", "Text", "Thinking", "ToolUse", "deltas_of", "started_block", "whole_block"]

_WORDS = re.compile(r"\S+\s*|\s+")
_SIGNATURE = "bG9vcGJhY2s="


@dataclass(frozen=True, slots=True)
class Text:
    """A text block. `pieces` says how it is streamed, where that matters; else about four words at a time."""

    text: str
    pieces: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Thinking:
    """A thinking block: not part of the answer's text."""

    thinking: str


@dataclass(frozen=True, slots=True)
class ToolUse:
    """A call of the tool `name`; the stop reason becomes ``tool_use`` unless the answer says another."""

    name: str
    input: Mapping[str, Any] = field(default_factory=dict[str, Any])
    id: str = ""
    """Made from the block's position when empty."""


Block = Text | Thinking | ToolUse


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the loopback API.

    Give `text`, or `pieces` (each streamed as one delta), or `blocks` for thinking and tool calls.
    """

    text: str = ""
    pieces: tuple[str, ...] = ()
    blocks: tuple[Block, ...] = ()
    stop_reason: str | None = None
    """None means ``tool_use`` after a tool call, else ``end_turn``."""
    stop_sequence: str | None = None
    usage: Mapping[str, int] = field(default_factory=dict[str, int])
    """Overrides of the counts, by the API's names: ``input_tokens``, ``output_tokens``,
    ``cache_creation_input_tokens``, ``cache_read_input_tokens``."""
    delay_s: float = 0.0
    """Before the first byte."""
    pause_s: float | Sequence[float] = 0.0
    """Before each delta of a streamed answer, or one number for each; the last one holds for the rest."""
    torn: int | None = None
    """A seed: the bytes of a streamed answer go out in chunks of random sizes, cut within characters, too."""

    @property
    def content(self) -> tuple[Block, ...]:
        """The blocks that are sent: `blocks`, or one text block; none for an empty text."""
        if self.blocks:
            return self.blocks
        text = "".join(self.pieces) or self.text
        return (Text(text, self.pieces),) if text else ()

    @property
    def ending(self) -> str:
        """The stop reason that is sent."""
        if self.stop_reason is not None:
            return self.stop_reason
        return "tool_use" if any(isinstance(block, ToolUse) for block in self.content) else "end_turn"

    def pause_before(self, delta: int) -> float:
        """Seconds to wait before the delta of that number, from 0."""
        if isinstance(self.pause_s, (int, float)):
            return self.pause_s
        return self.pause_s[min(delta, len(self.pause_s) - 1)] if self.pause_s else 0.0


def whole_block(block: Block, index: int) -> dict[str, Any]:
    """The block as it stands in a message that is not streamed."""
    match block:
        case Text():
            return {"type": "text", "text": block.text}
        case Thinking():
            return {"type": "thinking", "thinking": block.thinking, "signature": _SIGNATURE}
        case ToolUse():
            name = block.id or f"toolu_loopback_{index}"
            return {"type": "tool_use", "id": name, "name": block.name, "input": dict(block.input)}


def started_block(block: Block, index: int) -> dict[str, Any]:
    """The block as `content_block_start` shows it: without its content."""
    empty: dict[str, Any] = {"text": "", "thinking": "", "signature": "", "input": {}}
    return {key: empty.get(key, value) for key, value in whole_block(block, index).items()}


def deltas_of(block: Block) -> list[dict[str, Any]]:
    """The deltas that stream the block's content."""
    from json import dumps

    match block:
        case Text():
            return [{"type": "text_delta", "text": piece} for piece in block.pieces or _words(block.text)]
        case Thinking():
            pieces = [{"type": "thinking_delta", "thinking": piece} for piece in _words(block.thinking)]
            return [*pieces, {"type": "signature_delta", "signature": _SIGNATURE}]
        case ToolUse():
            text = dumps(dict(block.input))
            half = len(text) // 2
            return [{"type": "input_json_delta", "partial_json": part} for part in (text[:half], text[half:])]


def _words(text: str, each: int = 4) -> list[str]:
    words = _WORDS.findall(text)
    return ["".join(words[start : start + each]) for start in range(0, len(words), each)]
