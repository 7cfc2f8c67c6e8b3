"""Foreign text made safe: fences for prompts, control characters for terminals."""

from __future__ import annotations

import hashlib
import re

__all__ = ["fence", "mended", "one_line", "printable", "sentence", "shorten"]

# C0 and C1 controls without tab and newline; bidirectional overrides and isolates; lone surrogates.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


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
