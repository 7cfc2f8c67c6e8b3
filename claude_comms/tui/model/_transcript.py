"""What was asked, answered and done around it, in the order it came, in bounded memory."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, cast

from claude_comms.text import shorten
from claude_comms.tui._figures import cost_and_tokens, seconds
from claude_comms.types import MessageState, Role, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claude_comms.types import Conversation, Message

__all__ = ["Entry", "EntryKind", "Transcript", "cost_line", "entries_of", "error_line"]

_LONGEST_NOTE = 400
_MOST_CHARACTERS = 64_000
_MOST_ENTRIES = 200
_MOST_PARTS = 200
_numbers = itertools.count(1)


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
        self.number = next(_numbers) if number is None else number
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


class Transcript:
    """The latest entries of one instance. What a turn says beyond the bounds pushes out the oldest."""

    def __init__(self, *, most_characters: int = _MOST_CHARACTERS) -> None:
        self.entries: deque[Entry] = deque()
        self.cut = False
        """Older entries were let go of."""
        self._most_characters = most_characters
        self._characters = 0

    def add(self, kind: EntryKind, text: str, *, speaker: str = "", turn_id: str = "", is_open: bool = False) -> None:
        """Put an entry at the end; the open answer before it grows no more."""
        self.close()
        if kind not in (EntryKind.QUESTION, EntryKind.ANSWER):
            text = shorten(text, _LONGEST_NOTE)
        self._append(Entry(kind, text[-self._most_characters :], speaker, turn_id, is_open=is_open))

    def piece(self, text: str, *, speaker: str, turn_id: str) -> None:
        """A piece of an answer: to the open one, else it begins one."""
        last = self.entries[-1] if self.entries else None
        if last is None or not last.open or last.turn_id != turn_id:
            self.add(EntryKind.ANSWER, text, speaker=speaker, turn_id=turn_id, is_open=True)
            return
        last.grow(text)
        self._characters += len(text)
        if last.size > self._most_characters:
            self._characters -= last.size
            last.text = "…" + last.text[-self._most_characters // 2 :]
            self._characters += last.size
            self.cut = True
        self._trim()

    def whole(self, text: str, *, speaker: str, turn_id: str, partial: bool) -> None:
        """The whole answer of a turn, as it was stored: in the place of pieces that are not all of it."""
        self.close()
        shown = [entry for entry in self.entries if entry.turn_id == turn_id and entry.kind is EntryKind.ANSWER]
        if "".join(entry.text for entry in shown) != text and text:
            if shown:
                self._replace(shown, text[-self._most_characters :])
            else:
                self._append(Entry(EntryKind.ANSWER, text[-self._most_characters :], speaker, turn_id))
        if partial:
            self._append(Entry(EntryKind.NOTE, "only a part of the answer had come", turn_id=turn_id))

    def close(self) -> None:
        """No more pieces come to the last answer."""
        if self.entries and self.entries[-1].open:
            self.entries[-1].open = False

    def seed(self, entries: Iterable[Entry]) -> None:
        """Put older entries before what is known."""
        for entry in reversed(list(entries)):
            if self._characters + entry.size > self._most_characters or len(self.entries) >= _MOST_ENTRIES:
                self.cut = True
                return
            self.entries.appendleft(entry)
            self._characters += entry.size

    @property
    def last_answer(self) -> str:
        """The text of the newest answer, all its parts; empty where there is none."""
        last = next((entry for entry in reversed(self.entries) if entry.kind is EntryKind.ANSWER), None)
        if last is None:
            return ""
        parts = [e.text for e in self.entries if e.kind is EntryKind.ANSWER and (e is last or _same_turn(e, last))]
        return "".join(parts)

    def _replace(self, shown: list[Entry], text: str) -> None:
        """The parts that were shown give way to the whole, at the place of the last of them."""
        keep = shown[-1]
        gone = {entry.number for entry in shown[:-1]}
        self.entries = deque(entry for entry in self.entries if entry.number not in gone)
        keep.text = text
        keep.number = next(_numbers)
        self._characters = sum(entry.size for entry in self.entries)
        self._trim()

    def _append(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._characters += entry.size
        self._trim()

    def _trim(self) -> None:
        while len(self.entries) > 1 and (self._characters > self._most_characters or len(self.entries) > _MOST_ENTRIES):
            self._characters -= self.entries.popleft().size
            self.cut = True


def _same_turn(one: Entry, other: Entry) -> bool:
    return bool(one.turn_id) and one.turn_id == other.turn_id


def entries_of(conversation: Conversation) -> list[Entry]:
    """A stored conversation as entries: questions, answers, the tools used for them, their cost, what went wrong."""
    return [entry for message in conversation.messages for entry in _of_message(message)]


def _of_message(message: Message) -> Iterable[Entry]:
    turn_id = message.turn_id or ""
    if message.role is Role.QUESTION:
        yield Entry(EntryKind.QUESTION, message.text, message.speaker, turn_id)
    for tool in message.tools:
        yield Entry(EntryKind.TOOL, shorten(f"{tool.tool} {tool.arguments}", _LONGEST_NOTE), turn_id=turn_id)
    for refused in message.refusals:
        text = f"refused {refused.tool} {refused.target}: {refused.reason}"
        yield Entry(EntryKind.TROUBLE, shorten(text, _LONGEST_NOTE), turn_id=turn_id)
    if message.role is Role.ANSWER:
        yield Entry(EntryKind.ANSWER, message.text, message.speaker, turn_id)
        if message.state is MessageState.PARTIAL:
            yield Entry(EntryKind.NOTE, "only a part of the answer had come", turn_id=turn_id)
        if message.usage is not None:
            yield Entry(EntryKind.COST, cost_line(message.usage, message.duration_ms), turn_id=turn_id)
    elif message.error is not None:
        yield Entry(EntryKind.TROUBLE, shorten(error_line(message.error), _LONGEST_NOTE), turn_id=turn_id)


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
