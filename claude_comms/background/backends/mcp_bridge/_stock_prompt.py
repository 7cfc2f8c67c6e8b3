"""One text that holds a whole conversation: a stock claude-code-mcp keeps nothing between calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_comms.errors import ContextError, ContextTooLargeError
from claude_comms.text import fence
from claude_comms.types import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_comms.types import HistoryMessage, Prompt

__all__ = ["MOST_BYTES", "stock_prompt"]

MOST_BYTES = 131_071
"""Longest prompt in UTF-8: claude-code-mcp hands it to Claude Code as one argument of a command line, and Linux takes
131,072 bytes there, the final NUL included. The thread gets what the rest leaves of it."""

_BYTES_PER_TOKEN = 4
"""A rule of thumb, for errors."""

_OPENING = "First who you are, then what was said before, and last what you are asked now."
"""Claude Code reads a prompt that begins with a slash as a command, and one that begins with a dash as an option."""

_SAID = "What was said in this conversation so far, oldest first:"
_LABELS = {Role.QUESTION: "earlier-question", Role.ANSWER: "earlier-answer"}


def stock_prompt(prompt: Prompt, *, most_bytes: int = MOST_BYTES) -> tuple[str, int]:
    """`prompt` as one text of at most `most_bytes`, and how many of the oldest turns were left out for that.

    It begins with the system text; each message of the thread stands in a fence of its own; it ends as
    `prompt.message` does, with the question. ContextTooLargeError where it does not fit without any thread;
    ContextError where it holds what no command line can.
    """
    turns = _turns(prompt.history)
    left_out = _left_out(prompt, turns, most_bytes)
    text = _joined(prompt, turns[left_out:], left_out)
    if _size(text) > most_bytes:
        raise _too_large(_size(text), most_bytes)
    _refuse_what_cannot_pass(text)
    return text, left_out


def _left_out(prompt: Prompt, turns: Sequence[str], most_bytes: int) -> int:
    """How many of the oldest turns have to go; all of them where not even that is enough."""
    sizes = [_size(f"{turn}\n\n") for turn in turns]
    thread = sum(sizes)
    rest = _size(_joined(prompt, turns[:1], 0)) - sum(sizes[:1])
    for number, size in enumerate(sizes):
        if rest + thread + sum(_size(f"{line}\n\n") for line in _omission(number)) <= most_bytes:
            return number
        thread -= size
    return len(turns)


def _turns(history: Sequence[HistoryMessage]) -> list[str]:
    """Each question with its answer, fenced."""
    fenced = [fence(_LABELS[message.role], message.text) for message in history]
    return ["\n\n".join(fenced[start : start + 2]) for start in range(0, len(fenced), 2)]


def _joined(prompt: Prompt, turns: Sequence[str], left_out: int) -> str:
    said = [_SAID] if turns else []
    parts = [_OPENING, prompt.system_text, *_omission(left_out), *said, *turns, prompt.message]
    return "\n\n".join(part for part in parts if part)


def _omission(left_out: int) -> list[str]:
    if not left_out:
        return []
    which = "The oldest question and its answer are" if left_out == 1 else f"The {left_out} oldest turns are"
    return [f"{which} left out of this conversation: there was no room for more."]


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _too_large(size: int, limit: int) -> ContextTooLargeError:
    return ContextTooLargeError(
        f"the question and what goes with it come to {size:,} bytes, and claude-code-mcp can pass on {limit:,}: it"
        " hands them to Claude Code on a command line. Ask something shorter, or with less data; or set"
        " bridge_server to claude-comms-bridge, which has no such limit.",
        tokens=-(-size // _BYTES_PER_TOKEN),
        limit=limit // _BYTES_PER_TOKEN,
    )


def _refuse_what_cannot_pass(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ContextError(
            "the conversation holds half a character (a lone surrogate), which claude-code-mcp cannot pass on."
            " Take it out, or set bridge_server to claude-comms-bridge."
        ) from error
    if "\0" in text:
        raise ContextError(
            "the conversation holds a NUL character, which claude-code-mcp cannot pass on: no command line can."
            " Take it out, or set bridge_server to claude-comms-bridge."
        )
