"""Foreign text stays inside its fence and does nothing to a terminal."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from claude_comms.text import fence, one_line, printable, shorten, visible

if TYPE_CHECKING:
    import pytest

any_text = st.text(st.characters(exclude_categories=()))


@given(any_text)
def test_a_fence_holds_its_text_unchanged_between_two_marks(text: str) -> None:
    fenced = fence("data", text)
    match = re.fullmatch(r"<(data-[0-9a-f]{12})>\n(.*)\n</\1>", fenced, re.DOTALL)
    assert match
    assert match.group(2) == text
    assert match.group(1) not in text


@given(any_text, any_text, st.integers(1, 4))
def test_a_text_made_from_its_own_fence_cannot_close_it(before: str, after: str, times: int) -> None:
    text = before
    for _ in range(times):
        text = f"{fence('data', text)}\n{after}"
    fenced = fence("data", text)
    closing = fenced.rpartition("\n")[2]
    assert fenced.count(closing) == 1
    assert fenced == f"{closing.replace('/', '')}\n{text}\n{closing}"


def test_a_text_that_holds_its_own_mark_gets_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody can be expected to find a text with its own hash; a hash of one byte shows what happens if they do.
    whole = hashlib.blake2b

    def short(content: bytes, *, digest_size: int, salt: bytes) -> Any:
        assert digest_size > 1
        return whole(content, digest_size=1, salt=salt)

    monkeypatch.setattr(hashlib, "blake2b", short)
    assert fence("data", " ".join(f"data-{number:02x}" for number in range(255))).startswith("<data-ff>\n")


def test_the_same_text_gets_the_same_fence() -> None:
    assert fence("data", "text") == fence("data", "text") != fence("data", "text ")


@given(any_text)
def test_nothing_printable_acts_on_a_terminal(text: str) -> None:
    shown = printable(text)
    assert not re.search(r"[^\t\n\x20-\x7e\xa0-\U0010ffff]", shown)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    shown.encode()


def test_tabs_and_newlines_stay_and_carriage_returns_go() -> None:
    assert printable("a\tb\r\nc\x1b[31md\x9b0me\u202ef\x00g") == "a\tb\nc[31md0mefg"


def test_what_is_shown_has_nothing_unseen_in_it_and_keeps_what_scripts_are_written_with() -> None:
    assert visible("mar\u200bker\u200e \u061c\ufeffa\u2028b\u2029c\u202e\x1b[m") == "marker a\nb\nc[m"
    assert (
        visible("\u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f52c\ufe0f")
        == "\u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f52c\ufe0f"
    )
    assert printable("a\u200b\u2028b") == "a\u200b\u2028b", "what is stored does not change"


def test_one_line_is_one_line() -> None:
    assert one_line(" a\r\n\tb\x1b \n c ") == "a b c"


@given(any_text, st.integers(1, 40))
def test_a_shortened_text_is_never_wider(text: str, width: int) -> None:
    short = shorten(text, width)
    assert len(short) <= width
    assert "\n" not in short
    assert short == one_line(text) or short.endswith("…")
