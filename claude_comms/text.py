"""Foreign text made safe: fences for prompts, control characters for terminals."""

from __future__ import annotations

import hashlib
import re

__all__ = ["fence", "mended", "one_line", "printable", "sentence", "shorten", "visible"]

# C0 and C1 controls without tab and newline; bidirectional overrides and isolates; lone surrogates.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")

# What nobody sees and what makes two texts look alike, or turns the order of a line around: marks of direction, blanks
# without width, invisible operators, tags. Joiners (U+200C, U+200D) stay: scripts and emoji are written with them.
_UNSEEN = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_BREAKS = str.maketrans({"\u2028": "\n", "\u2029": "\n"})


def fence(label: str, text: str) -> str:
    """`text`, unchanged, between two marks that it cannot contain.

    The marks carry a hash of the text, so the text would have to contain its own hash to close its fence;
    should it, another hash is taken. `label` is a short word of letters, digits, ``-`` and ``_``.
    """
    salt = 0
    while True:
        content = text.encode("utf-8", "surrogatepass")
        mark = f"{label}-{hashlib.blake2b(content, digest_size=6, salt=salt.to_bytes(4)).hexdigest()}"
        if mark not in text:
            return f"<{mark}>\n{text}\n</{mark}>"
        salt += 1


def mended(text: str) -> str:
    """`text` with a replacement character where it has half a character: what must be stored, whatever it is."""
    return _LONE_SURROGATE.sub("\ufffd", text)


def printable(text: str) -> str:
    """`text` without what acts on a terminal: escape and control characters, direction overrides.

    Tabs and newlines stay; a carriage return before a newline goes.
    """
    return _UNSAFE.sub("", text)


def visible(text: str) -> str:
    """`text` made printable, and without what is not seen: for a screen, on which it is compared by eye.

    Line and paragraph separators (U+2028, U+2029) become newlines. Not for what is stored or sent on: there these marks
    may be meant.
    """
    return _UNSEEN.sub("", printable(text.translate(_BREAKS)))


def one_line(text: str) -> str:
    """`text` made printable, with each run of white space as one space."""
    return " ".join(printable(text.replace("\r", " ")).split())


def sentence(text: str) -> str:
    """`text` with a full stop, where it does not end a sentence yet."""
    text = text.rstrip()
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def shorten(text: str, width: int) -> str:
    """`text` on one line of at most `width` characters, ending in an ellipsis where something was cut."""
    line = one_line(text)
    return line if len(line) <= width else line[: max(0, width - 1)].rstrip() + "…"
