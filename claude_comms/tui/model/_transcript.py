"""What was asked, answered and done around it, in the order it came, in bounded memory."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from claude_comms.text import shorten
from claude_comms.tui.model._entries import (
    LONGEST_NOTE,
    Entry,
    EntryKind,
    entries_of,
    last_answer,
    messages_of,
    next_number,
)
from claude_comms.types import MessageState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_comms.types import Conversation

__all__ = ["Transcript"]

_MOST_CHARACTERS = 64_000
_MOST_ENTRIES = 200
_LEAST_CHARACTERS = 200
"""Less of an older entry is not worth a line."""
_MORE = "…"
"""Stands where something is missing."""


class Transcript:
    """The latest entries of one instance. What a turn says beyond the bounds pushes out the oldest.

    Of the newest answer at least the end stays, whatever comes after it.
    """

    def __init__(self, *, most_characters: int = _MOST_CHARACTERS) -> None:
        self.entries: deque[Entry] = deque()
        self.cut = False
        """Older entries were let go of."""
        self._most_characters = most_characters
        self._characters = 0
        self._ended: set[str] = set()
        """Turns that stand here as the store has them."""
        self._stored: set[str] = set()
        """Messages that do."""
        self._begun: set[str] = set()
        """Turns of whose answer only the rest has come, or will."""
        self._whole_of = ""
        """The latest turn whose answer came as a whole."""

    def add(self, kind: EntryKind, text: str, *, speaker: str = "", turn_id: str = "", is_open: bool = False) -> None:
        """Put an entry at the end; the open answer before it grows no more."""
        self.close()
        if kind not in (EntryKind.QUESTION, EntryKind.ANSWER):
            text = shorten(text, LONGEST_NOTE)
        self._append(Entry(kind, self._end_of(text), speaker, turn_id, is_open=is_open))

    def piece(self, text: str, *, speaker: str, turn_id: str) -> None:
        """A piece of an answer: to the open one, else it begins one. An empty one is none."""
        if not text:
            return
        last = self.entries[-1] if self.entries else None
        if last is None or not last.open or last.turn_id != turn_id:
            if turn_id in self._begun and not self._answers(turn_id):
                text = f"{_MORE}{text}"
            self.add(EntryKind.ANSWER, text, speaker=speaker, turn_id=turn_id, is_open=True)
            return
        last.grow(text)
        self._characters += len(text)
        if last.size > self._most_characters:
            self._shorten(last, self._most_characters // 2)
        self._trim()

    def whole(self, text: str, *, speaker: str, turn_id: str, partial: bool) -> None:
        """The whole answer of a turn, as it was stored: in the place of pieces that are not all of it."""
        self.close()
        self._begun.discard(turn_id)
        self._whole_of = turn_id
        shown = self._answers(turn_id)
        if "".join(entry.text for entry in shown) != text and text:
            if shown:
                self._replace(shown, self._end_of(text))
            else:
                self._append(Entry(EntryKind.ANSWER, self._end_of(text), speaker, turn_id))
        if partial:
            self._append(Entry(EntryKind.NOTE, "only a part of the answer had come", turn_id=turn_id))

    def close(self) -> None:
        """No more pieces come to the last answer."""
        if self.entries and self.entries[-1].open:
            self.entries[-1].open = False

    # --- what was said before ------------------------------------------------------------------

    def seed(self, conversation: Conversation, most: int = _MOST_ENTRIES) -> None:
        """Put before what is known what the store knows beyond it: the latest `most` entries.

        What events have told of a turn stays, and gets its question if that came before them. Events that come later
        and say what stands here by then are told by `settles`.
        """
        told = {entry.turn_id for entry in self.entries if entry.turn_id}
        asked = {entry.turn_id for entry in self.entries if entry.kind is EntryKind.QUESTION}
        stored = list(messages_of(conversation))[-_MOST_ENTRIES:]
        under_way = {turn_id for message, turn_id in stored if message.state is MessageState.PENDING}
        self._ended |= {turn_id for _, turn_id in stored} - told - under_way - {""}
        self._stored |= {message.message_id for message, turn_id in stored if turn_id not in told}
        self._begun = under_way - asked - {self._whole_of}
        for turn_id in self._begun:
            self._say_that_it_is_the_rest(turn_id)
        lacking = [
            entry
            for entry in entries_of(conversation)
            if entry.turn_id not in told or (entry.kind is EntryKind.QUESTION and entry.turn_id not in asked)
        ]
        self._put_before(lacking[-most:])

    def settles(self, turn_id: str, message_id: str | None = None) -> bool:
        """Whether an event says nothing new: of a turn that had ended in the store, or of a message from there."""
        if message_id in self._stored:
            self._begun.discard(turn_id)  # all that comes after it will be heard
            return True
        return turn_id in self._ended

    def _say_that_it_is_the_rest(self, turn_id: str) -> None:
        for first in self._answers(turn_id)[:1]:
            first.text = f"{_MORE}{first.text}"
            first.number = next_number()
            self._characters += len(_MORE)

    def _put_before(self, entries: Sequence[Entry]) -> None:
        for entry in reversed(entries):
            room = self._most_characters - self._characters
            if len(self.entries) >= _MOST_ENTRIES or room < min(entry.size, _LEAST_CHARACTERS):
                self.cut = True
                return
            if entry.size > room:
                entry.text = _MORE + entry.text[1 - room :]
                self.cut = True
            self.entries.appendleft(entry)
            self._characters += entry.size

    @property
    def last_answer(self) -> str:
        """The text of the newest answer, all its parts; empty where there is none."""
        return last_answer(self.entries)

    # --- bounds --------------------------------------------------------------------------------

    def _answers(self, turn_id: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.turn_id == turn_id and entry.kind is EntryKind.ANSWER]

    def _end_of(self, text: str) -> str:
        """As much of a text as there is room for beside others."""
        if len(text) <= self._most_characters // 2:
            return text
        self.cut = True
        return _MORE + text[-self._most_characters // 2 :]

    def _shorten(self, entry: Entry, size: int) -> None:
        self._characters -= entry.size
        entry.text = _MORE + entry.text[-size:]
        self._characters += entry.size
        self.cut = True

    def _replace(self, shown: list[Entry], text: str) -> None:
        """The parts that were shown give way to the whole, at the place of the last of them."""
        keep = shown[-1]
        gone = {entry.number for entry in shown[:-1]}
        self.entries = deque(entry for entry in self.entries if entry.number not in gone)
        keep.text = text
        keep.number = next_number()
        self._characters = sum(entry.size for entry in self.entries)
        self._trim()

    def _append(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._characters += entry.size
        self._trim()

    def _trim(self) -> None:
        while len(self.entries) > 1 and (self._characters > self._most_characters or len(self.entries) > _MOST_ENTRIES):
            self.cut = True
            first = self.entries[0]
            if first is not self._newest_answer():
                self._characters -= self.entries.popleft().size
            elif first.size > self._most_characters // 4 + len(_MORE):
                self._shorten(first, self._most_characters // 4)
            elif len(self.entries) > 2:  # the newest stays, too
                self._characters -= self.entries[1].size
                del self.entries[1]
            else:
                return

    def _newest_answer(self) -> Entry | None:
        return next((entry for entry in reversed(self.entries) if entry.kind is EntryKind.ANSWER), None)
