"""Showing a prompt before it is sent: for people, and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_comms.text import printable
from claude_comms.types import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_comms.types import Prompt

__all__ = ["describe", "prompt_as_dict"]

_SPEAKERS = {Role.QUESTION: "user", Role.ANSWER: "assistant"}


def describe(prompt: Prompt) -> str:
    """What would be sent, in order, with cache breakpoints, what was left out, and the tokens. Safe to print."""
    return printable("\n".join(_lines(prompt)))


def prompt_as_dict(prompt: Prompt) -> dict[str, Any]:
    """The same as JSON values: `system` and `messages` as the Messages API orders them, texts unchanged.

    Each entry says in `cache_breakpoint` whether a breakpoint stands behind it.
    """
    last = len(prompt.history) - 1
    messages = [
        {"role": _SPEAKERS[message.role], "text": message.text, "cache_breakpoint": position == last}
        for position, message in enumerate(prompt.history)
    ]
    return {
        "source": prompt.pair.source,
        "target": prompt.pair.target,
        "template": prompt.template,
        "version": prompt.version,
        "tokens": prompt.tokens.tokens,
        "tokens_estimated": prompt.tokens.estimated,
        "system": [{"name": block.name, "text": block.text, "cache_breakpoint": True} for block in prompt.system],
        "messages": [*messages, {"role": "user", "text": prompt.message, "cache_breakpoint": False}],
        "question": prompt.question,
        "omitted": [omission.as_dict() for omission in prompt.omitted],
    }


def _lines(prompt: Prompt) -> Iterator[str]:
    shown = prompt_as_dict(prompt)
    estimated = "about " if prompt.tokens.estimated else ""
    note = ", estimated" if prompt.tokens.estimated else ""
    yield f"{prompt.pair}: template {prompt.template}, {estimated}{prompt.tokens.tokens:,} tokens{note}"
    yield f"context version {prompt.version}"
    for omission in prompt.omitted:
        yield f"left out: {omission.count} {omission.what} ({omission.why})"
    for block in shown["system"]:
        yield from _entry(f"system: {block['name']}", block)
    for message in shown["messages"]:
        yield from _entry(message["role"], message)


def _entry(title: str, entry: dict[str, Any]) -> Iterator[str]:
    yield ""
    yield f"=== {title} ==="
    yield entry["text"]
    if entry["cache_breakpoint"]:
        yield "=== cache breakpoint ==="
