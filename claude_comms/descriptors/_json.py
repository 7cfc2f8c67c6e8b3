"""JSON as parse events, each with its line. The standard library's parser gives no lines and recurses."""

from __future__ import annotations

import math
import re
from json.decoder import JSONDecodeError, scanstring  # pyright: ignore[reportAttributeAccessIssue,reportUnknownVariableType]
from typing import TYPE_CHECKING, Any, cast

from claude_comms.descriptors._tree import Event, Kind, refuse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_comms.errors import DescriptorError

__all__ = ["json_events"]

_SPACE = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS = {"true": True, "false": False, "null": None}


def json_events(text: str) -> Iterator[Event]:
    """The events of the JSON document `text`. DescriptorError names the line where it is none."""
    return _Reader(text).events()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0

    def events(self) -> Iterator[Event]:
        yield from self._document()
        if self._next():
            raise self._wrong("nothing more, the document ends before this")

    def _document(self) -> Iterator[Event]:
        """One value and all below it. `closers` are the brackets that are still to come."""
        closers: list[str] = []
        while True:
            opened = False
            character = self._next()
            if character and character in "[{":
                closers.append("]" if character == "[" else "}")
                yield Event(Kind.SEQUENCE if character == "[" else Kind.MAPPING, self._here())
                self._at += 1
                opened = True
            else:
                yield self._scalar(character)
            while closers and self._next() == closers[-1]:
                closers.pop()
                self._at += 1
                yield Event(Kind.END, self._here())
                opened = False
            if not closers:
                return
            if not opened:
                self._expect(",", f", or {closers[-1]}")
            if closers[-1] == "}":
                yield self._key()

    def _scalar(self, character: str) -> Event:
        line = self._here()
        if character == '"':
            return Event(Kind.SCALAR, line, self._string())
        number = _NUMBER.match(self._text, self._at)
        if number:
            self._at = number.end()
            return _number(number, line)
        word = re.compile(r"[A-Za-z]+").match(self._text, self._at)
        if word and word.group() in _WORDS:
            self._at = word.end()
            return Event(Kind.SCALAR, line, _WORDS[word.group()])
        raise self._wrong("a value")

    def _key(self) -> Event:
        if self._next() != '"':
            raise self._wrong("a key in double quotes")
        event = Event(Kind.SCALAR, self._here(), self._string())
        self._expect(":", ":")
        return event

    def _string(self) -> str:
        try:
            value, self._at = cast("tuple[str, int]", scanstring(self._text, self._at + 1, True))  # noqa: FBT003
        except JSONDecodeError as error:
            self._at = error.pos
            raise refuse(f"not JSON: {error.msg.lower()}", self._here(), "escape it, or close the text") from error
        return value

    def _expect(self, character: str, wanted: str) -> None:
        if self._next() != character:
            raise self._wrong(wanted)
        self._at += 1

    def _next(self) -> str:
        """The next character that is not white space; empty at the end."""
        self._at = cast("Any", _SPACE.match(self._text, self._at)).end()
        return self._text[self._at : self._at + 1]

    def _here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _wrong(self, wanted: str) -> DescriptorError:
        found = self._text[self._at : self._at + 1]
        return refuse(
            f"not JSON: found {found!r}" if found else "not JSON: it ends too early", self._here(), f"wanted {wanted}"
        )


def _number(number: re.Match[str], line: int) -> Event:
    fraction, exponent = number.groups()
    return number_event(number.group(), line, whole=fraction is None and exponent is None)


def number_event(text: str, line: int, *, whole: bool, base: int = 10) -> Event:
    """A number's event, or a bad one where the text means no number that JSON can carry."""
    if whole and len(text) <= 1000:
        return Event(Kind.SCALAR, line, int(text, base))
    value = math.inf if whole else float(text)
    if math.isfinite(value):
        return Event(Kind.SCALAR, line, value)
    return Event(Kind.BAD, line, ("this number is too large", "quote it if it is text"))
