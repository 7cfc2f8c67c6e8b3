"""An event in a few words, for a line of a list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from claude_comms.events import kind_of
from claude_comms.text import shorten

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_comms.events import Event

__all__ = ["words_of"]

_WIDTH = 300


def words_of(event: Event) -> str:
    """What it says, or else what its type means, on one harmless line."""
    told = _WORDS.get(event.type)
    try:
        text = told(event.data) if told is not None else _in_general(event.data)
    except (KeyError, TypeError, ValueError, AttributeError):  # of another version
        text = _in_general(event.data)
    return shorten(text or kind_of(event.type).meaning, _WIDTH)


def _in_general(data: Mapping[str, Any]) -> str:
    error = data.get("error")
    if isinstance(error, Mapping):
        return _error(cast("Mapping[str, Any]", error))
    said = (data.get(name) for name in ("reason", "failure", "text", "message", "title"))
    return next((str(value) for value in said if value), "")


def _error(error: Mapping[str, Any]) -> str:
    return f"{error.get('type', 'error')}: {error.get('message', '')}"


def _completed(data: Mapping[str, Any]) -> str:
    usage = data["reply"]["usage"]
    dollars = usage.get("cost_usd")
    price = "" if dollars is None else f" · ${dollars:.4f}"
    return f"{usage['output_tokens']} tokens out{price} · {data['reply']['duration_ms'] / 1000:.1f} s"


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "turn.started": lambda data: f"over {data['backend']} · {data['model']}",
    "turn.tool_used": lambda data: f"{data['tool']} {data.get('arguments', '')}",
    "turn.tool_refused": lambda data: f"{data['tool']} {data['aimed_at']}: {data['reason']}",
    "turn.retried": lambda data: f"try {data['attempt']}: {data['reason']}; again in {data['wait_s']:.1f} s",
    "turn.stalled": lambda data: f"silent for {data['silent_s']:.0f} s",
    "turn.completed": _completed,
    "message.stored": lambda data: f"{data['speaker']}: {data['text']}",
}
