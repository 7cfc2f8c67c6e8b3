"""What was asked, answered or done around it, as one thing to be read; and a stored conversation as such."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

from claude_comms.text import shorten
from claude_comms.tui._figures import cost_and_tokens, seconds
from claude_comms.types import MessageState, Role, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from claude_comms.types import Conversation, Message

__all__ = [
    "LONGEST_NOTE",
    "Entry",
    "EntryKind",
    "cost_line",
    "entries_of",
    "error_line",
    "last_answer",
    "messages_of",
    "next_number",
]

LONGEST_NOTE = 400
_MOST_PARTS = 200
_numbers = itertools.count(1)


def next_number() -> int:
    """The number of an entry that has to be drawn anew."""
    return next(_numbers)


class EntryKind(StrEnum):
    """What an entry is."""

    QUESTION = "question"
    ANSWER = "answer"
    TOOL = "tool"
    NOTE = "note"
    TROUBLE = "trouble"
    COST = "cost"


class Entry:
    """One thing that was said or done. `text` of an answer under way grows; nothing else changes.

    Pieces are joined when somebody reads the text, or when they are many: an answer is told in thousands of them.
    """

    __slots__ = ("_parts", "kind", "number", "open", "size", "speaker", "turn_id")

    def __init__(
        self,
        kind: EntryKind,
        text: str,
        speaker: str = "",
        turn_id: str = "",
        *,
        is_open: bool = False,
        number: int | None = None,
    ) -> None:
        self.kind = kind
        self.speaker = speaker
        self.turn_id = turn_id
        self.open = is_open
        """More of it may come."""
        self.number = next_number() if number is None else number
        self.size = len(text)
        self._parts = [text]

    @property
    def text(self) -> str:
        """All of it."""
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0]

    @text.setter
    def text(self, text: str) -> None:
        self._parts = [text]
        self.size = len(text)

    def grow(self, piece: str) -> None:
        """A piece more."""
        self._parts.append(piece)
        self.size += len(piece)
        if len(self._parts) > _MOST_PARTS:
            self._parts = ["".join(self._parts)]

    @property
    def stamp(self) -> tuple[int, int, bool]:
        """Differs where it has to be drawn anew."""
        return self.number, self.size, self.open


def last_answer(entries: Sequence[Entry]) -> str:
    """The text of the newest answer, all its parts; empty where there is none."""
    last = next((entry for entry in reversed(entries) if entry.kind is EntryKind.ANSWER), None)
    if last is None:
        return ""
    parts = [e.text for e in entries if e.kind is EntryKind.ANSWER and (e is last or _same_turn(e, last))]
    return "".join(parts)


def _same_turn(one: Entry, other: Entry) -> bool:
    return bool(one.turn_id) and one.turn_id == other.turn_id


def entries_of(conversation: Conversation) -> list[Entry]:
    """A stored conversation as entries: questions, answers, the tools used for them, their cost, what went wrong."""
    return [entry for message, turn_id in messages_of(conversation) for entry in _of_message(message, turn_id)]


def messages_of(conversation: Conversation) -> Iterator[tuple[Message, str]]:
    """Its messages, each with the turn that it is of. Only questions name it: what follows one belongs to it."""
    turn_id = ""
    for message in conversation.messages:
        turn_id = message.turn_id or ("" if message.role is Role.QUESTION else turn_id)
        yield message, turn_id


def _of_message(message: Message, turn_id: str) -> Iterable[Entry]:
    if message.role is Role.QUESTION:
        yield Entry(EntryKind.QUESTION, message.text, message.speaker, turn_id)
    for tool in message.tools:
        yield Entry(EntryKind.TOOL, shorten(f"{tool.tool} {tool.arguments}", LONGEST_NOTE), turn_id=turn_id)
    for refused in message.refusals:
        text = f"refused {refused.tool} {refused.target}: {refused.reason}"
        yield Entry(EntryKind.TROUBLE, shorten(text, LONGEST_NOTE), turn_id=turn_id)
    if message.role is Role.ANSWER:
        yield Entry(EntryKind.ANSWER, message.text, message.speaker, turn_id)
        if message.state is MessageState.PARTIAL:
            yield Entry(EntryKind.NOTE, "only a part of the answer had come", turn_id=turn_id)
        if message.usage is not None:
            yield Entry(EntryKind.COST, cost_line(message.usage, message.duration_ms), turn_id=turn_id)
    elif message.error is not None:
        yield Entry(EntryKind.TROUBLE, shorten(error_line(message.error), LONGEST_NOTE), turn_id=turn_id)
        if message.usage is not None:
            yield Entry(EntryKind.COST, cost_line(message.usage, message.duration_ms), turn_id=turn_id)


def cost_line(usage: Usage, duration_ms: float | None) -> str:
    """What a turn cost and took."""
    took = f" · {seconds(duration_ms)}" if duration_ms is not None else ""
    return f"{cost_and_tokens(usage)}{took}"


def error_line(error: object) -> str:
    """An error as events and messages carry it."""
    if not isinstance(error, Mapping):
        return str(error)
    error = cast("Mapping[str, Any]", error)
    return f"{error.get('type', 'error')}: {error.get('message', '')}"
