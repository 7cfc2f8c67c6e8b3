"""A conversation as a file: JSON for programs, Markdown for people."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from claude_comms.errors import ConfigError
from claude_comms.text import one_line, printable
from claude_comms.types import MessageState, Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_comms.types import Conversation, Message, Usage

__all__ = ["EXPORT_FORMATS", "export_conversation", "extension"]

_MARKUP = re.compile(r"([\\`*_\[\]<>#~&$|!])")
_BACKTICKS = re.compile("`+")
_NOTES = {
    MessageState.PENDING: "waits for its answer",
    MessageState.PARTIAL: "partial: the answer broke off, this is not an answer",
    MessageState.FAILED: "failed: no answer came",
}


def export_conversation(conversation: Conversation, format: str = "json") -> str:  # noqa: A002 - the contract's name
    """`conversation`, with its messages, as text in `format`. ConfigError for an unknown format.

    ``json`` holds everything that the store knows of it. ``markdown`` is for reading: what was said stands in
    fences that it cannot close, without characters that act on a terminal.
    """
    return _format(format)[1](conversation)


def extension(format: str) -> str:  # noqa: A002
    """The file name extension for `format`, without a dot. ConfigError for an unknown format."""
    return _format(format)[0]


def _json(conversation: Conversation) -> str:
    return json.dumps(conversation.as_dict(), indent=2, ensure_ascii=False) + "\n"


def _markdown(conversation: Conversation) -> str:
    facts = {
        "Conversation": conversation.thread_id,
        "From": conversation.source,
        "To": conversation.target,
        "Backend": conversation.backend,
        "Model": conversation.model,
        "State": str(conversation.state),
        "Begun": conversation.created_at.isoformat(timespec="seconds"),
        "Last changed": conversation.updated_at.isoformat(timespec="seconds"),
    }
    title = f"# {_inline(conversation.title) or conversation.thread_id}"
    listing = "\n".join(f"- {name}: {_inline(value)}" for name, value in facts.items() if value)
    parts = [title, listing, *(_message(message) for message in conversation.messages)]
    return "\n\n".join(parts) + "\n"


def _message(message: Message) -> str:
    verb = "asks" if message.role is Role.QUESTION else "answers"
    parts = [f"## {message.position + 1}. {_inline(message.speaker)} {verb}"]
    if note := _NOTES.get(message.state):
        reason = f" ({_inline(str(message.error.get('message', '')))})" if message.error else ""
        parts.append(f"**{note}**{reason}")
    parts.append(_fenced(message.text, "markdown"))
    if message.data is not None:
        parts.append("Data:\n\n" + _fenced(json.dumps(message.data, indent=2, ensure_ascii=False), "json"))
    if message.sources:
        parts.append("\n".join(f"- rests on {_inline(item.kind)} {_inline(item.value)}" for item in message.sources))
    parts.append(_small_print(message))
    return "\n\n".join(parts)


def _small_print(message: Message) -> str:
    facts = [
        message.created_at.isoformat(timespec="seconds"),
        _inline(message.backend or ""),
        _inline(message.model or ""),
    ]
    if message.usage is not None:
        facts.append(_usage(message.usage))
    if message.duration_ms is not None:
        facts.append(f"{message.duration_ms / 1000:.1f} s")
    return f"*{' · '.join(fact for fact in facts if fact)}*"


def _usage(usage: Usage) -> str:
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    cost = "" if usage.cost_usd is None else f", ${usage.cost_usd:.4f}"
    return f"{prompt} tokens in, {usage.output_tokens} out{cost}"


def _inline(text: str) -> str:
    """`text` on one line, with nothing that Markdown would act on."""
    return _MARKUP.sub(r"\\\1", one_line(text))


def _fenced(text: str, language: str) -> str:
    """`text` in a fence longer than any run of backticks in it."""
    text = printable(text)
    fence = "`" * max(3, 1 + max((len(run) for run in _BACKTICKS.findall(text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"


_FORMATS: dict[str, tuple[str, Callable[[Conversation], str]]] = {
    "json": ("json", _json),
    "markdown": ("md", _markdown),
}

EXPORT_FORMATS = tuple(_FORMATS)
"""The names that `export_conversation` knows."""


def _format(name: str) -> tuple[str, Callable[[Conversation], str]]:
    if name not in _FORMATS:
        raise ConfigError(f"no export format {name!r}. Known formats: {', '.join(_FORMATS)}.")
    return _FORMATS[name]
