"""A prompt as the Messages API takes it, and an answer put together from the events that it streams."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from claude_comms.errors import BackendProtocolError
from claude_comms.types import Role, Usage

if TYPE_CHECKING:
    from claude_comms.types import Prompt

__all__ = ["AnswerSoFar", "messages_of", "system_of"]

_EPHEMERAL = {"type": "ephemeral"}
_SYSTEM_BREAKPOINTS = 3
"""The API takes four in all; the history needs one."""


def system_of(prompt: Prompt) -> list[dict[str, Any]]:
    """The system blocks, each ending in a cache breakpoint; of more than three, the last three."""
    blocks: list[dict[str, Any]] = [{"type": "text", "text": block.text} for block in prompt.system if block.text]
    for block in blocks[-_SYSTEM_BREAKPOINTS:]:
        block["cache_control"] = _EPHEMERAL
    return blocks


def messages_of(prompt: Prompt) -> list[dict[str, Any]]:
    """The history, its last message with a cache breakpoint, then the question's message."""
    messages: list[dict[str, Any]] = [
        {"role": "user" if entry.role is Role.QUESTION else "assistant", "content": entry.text}
        for entry in prompt.history
    ]
    if messages:
        messages[-1]["content"] = [
            {"type": "text", "text": messages[-1]["content"], "cache_control": _EPHEMERAL},
        ]
    messages.append({"role": "user", "content": prompt.message})
    return messages


class AnswerSoFar:
    """One response of the API as its events come in.

    Events are the API's JSON as it comes, which nobody has validated: `add` raises BackendProtocolError for events
    that cannot be, and KeyError, TypeError or AttributeError for what has not the shape of one.
    """

    __slots__ = ("_blocks", "_counts", "_limit", "_size", "model", "refusal", "started", "stop_reason", "stopped")

    def __init__(self, limit: int) -> None:
        self.model = ""
        self.stop_reason: str | None = None
        self.refusal = ""
        """What the API says about a refusal."""
        self.started = False
        self.stopped = False
        """Whether the API said that it is done. Without that, the answer may be half of one."""
        self._limit = limit
        self._size = 0
        self._counts: dict[str, int] = {}
        self._blocks: dict[int, _Block] = {}

    def add(self, event: Any) -> str:
        """Take one event in; the text that it adds to the answer, mostly none."""
        kind = event["type"]
        if kind == "content_block_delta":
            return self._delta(event["index"], event["delta"])
        if kind == "content_block_start":
            block = self._blocks[event["index"]] = _Block(event["content_block"])
            return self._text(block, event["content_block"].get("text") or "")
        if kind == "message_start":
            self._start(event["message"])
        elif kind == "message_delta":
            self._end(event["delta"], event.get("usage"))
        elif kind == "message_stop":
            self.stopped = True
        elif not isinstance(kind, str):
            raise TypeError("an event without a type")
        return ""

    @property
    def usage(self) -> Usage:
        """What the API has counted by now; thinking is part of the output."""
        return Usage(
            input_tokens=self._counts.get("input_tokens", 0),
            output_tokens=self._counts.get("output_tokens", 0),
            cache_read_tokens=self._counts.get("cache_read_input_tokens", 0),
            cache_write_tokens=self._counts.get("cache_creation_input_tokens", 0),
        )

    def content(self) -> list[dict[str, Any]]:
        """The blocks, to be sent back where the turn goes on."""
        return [block.whole() for _, block in sorted(self._blocks.items()) if not block.blank]

    def _start(self, message: Any) -> None:
        if self.started:
            raise BackendProtocolError("the Messages API began its answer twice. Ask again.", backend="api")
        self.started = True
        self.model = str(message["model"])
        self._count(message.get("usage"))

    def _end(self, delta: Any, usage: Any) -> None:
        self.stop_reason = delta.get("stop_reason")
        details: Any = delta.get("stop_details") or {}
        self.refusal = str(details.get("explanation") or details.get("category") or "")
        self._count(usage)

    def _delta(self, index: int, delta: Any) -> str:
        block = self._blocks.get(index)
        if block is None:
            raise BackendProtocolError(
                "the Messages API went on with a part of its answer that it had not begun. Ask again.", backend="api"
            )
        kind = delta["type"]
        if kind == "text_delta":
            return self._text(block, delta["text"])
        if kind == "thinking_delta":
            self._text(block, delta["thinking"])
        elif kind == "input_json_delta":
            self._text(block, delta["partial_json"])
        elif kind == "signature_delta":
            block.signature = delta["signature"]
        return ""

    def _text(self, block: _Block, text: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:  # JSON may carry lone surrogates, which can be neither stored nor printed
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        self._size += len(text)
        if self._size > self._limit:
            raise BackendProtocolError(
                f"the answer has more than {self._limit} characters, which max_output_tokens cannot yield."
                " Check what answers at the base URL.",
                backend="api",
            )
        block.parts.append(text)
        return text

    def _count(self, usage: Any) -> None:
        for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
            value = usage.get(name) if usage is not None else None
            if isinstance(value, int) and value >= 0:  # later counts are cumulative; absent ones stand
                self._counts[name] = value


class _Block:
    """A content block with the parts that were streamed for it."""

    __slots__ = ("opened", "parts", "signature")

    def __init__(self, opened: Any) -> None:
        self.opened = opened
        self.parts: list[str] = []
        self.signature: str | None = None

    @property
    def blank(self) -> bool:
        """Whether it is a text block without text, which the API would refuse."""
        return self.opened["type"] == "text" and not "".join(self.parts).strip()

    def whole(self) -> dict[str, Any]:
        """The block as the API takes it back."""
        block: dict[str, Any] = dict(self.opened)
        joined = "".join(self.parts)
        if block["type"] == "text":
            block["text"] = joined
        elif block["type"] == "thinking":
            block["thinking"] = joined
            block["signature"] = self.signature or block.get("signature", "")
        elif joined:
            block["input"] = json.loads(joined)
        return block
