"""Text that models, modules and files wrote cannot act on the reader's terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_comms.jobs import JobState
from claude_comms.tui._text import fitted, markdown_lines, plain_lines
from tui.support import LARGE, BoardEngine, conversation, driven, info, job, notices, screen, shown_view, turn, until

if TYPE_CHECKING:
    from rich.segment import Segment
    from textual.pilot import Pilot

HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07\x1b]8;;file:///etc/passwd\x1b\\click\x1b]8;;\x1b\\ \x9b31m\u202egnp.exe [red]red[/red]"
    " [link=file:///etc/passwd]link[/link] [@click=app.quit]quit[/] [a](file:///etc/passwd) <b>bold</b>"
    " ![i](http://127.0.0.1/x.png)\r\x08\x00\x7f\u2028line\u200bblank\u200e\u200f\u061cmark"
)
pytestmark = pytest.mark.anyio


def drawn(lines: list[list[Segment]]) -> str:
    return "\n".join("".join(part.text for part in line) for line in lines)


def harmless(text: str) -> bool:
    return not any(
        (ord(one) < 32 and one != "\n")
        or 0x7F <= ord(one) <= 0x9F
        or "\u2028" <= one <= "\u202e"
        or one in "\u061c\u200b\u200e\u200f\u2066\u2067\u2068\u2069\ufeff"
        for one in text
    )


@given(st.text(max_size=300), st.integers(1, 120))
def test_no_text_is_an_error_or_leaves_an_escape(text: str, width: int) -> None:
    for lines in (markdown_lines(text, width), plain_lines(text, width)):
        assert harmless(drawn(lines))
        assert all(part.style is None or (part.style.link is None and not part.style.meta) for p in lines for part in p)
    assert harmless(fitted(text, width))


@given(st.lists(st.sampled_from(["#", "|", "-", "`", "```\n", "> ", "\n", "[a](b)", "* ", "1. ", "<x>", "a", "\t"])))
def test_no_markdown_is_an_error(parts: list[str]) -> None:
    markdown_lines("".join(parts), 40)


def test_a_link_is_text_with_its_address_and_html_is_text() -> None:
    shown = drawn(markdown_lines(HOSTILE, 400))
    assert "[a](file:///etc/passwd)" in shown
    assert "guide (https://example.org)" in drawn(markdown_lines("[guide](https://example.org)", 400))
    assert "<b>bold</b>" in shown
    assert "[link=file:///etc/passwd]link[/link]" in shown


def test_a_very_long_answer_is_shown_as_it_is() -> None:
    assert len(markdown_lines("# x\n" * 60_000, 40)) >= 60_000


async def test_hostile_text_is_only_text_on_every_screen() -> None:
    engine = BoardEngine(info(0, name=HOSTILE, failure=HOSTILE, model=HOSTILE))
    engine.threads = {"c_00": conversation(0, HOSTILE, title=HOSTILE)}
    engine.jobs.known = {"j_01": job(1, JobState.FAILED, prompt=HOSTILE, error={"type": HOSTILE, "message": HOSTILE})}
    async with driven(engine, LARGE) as pilot:
        for kind in ("question", "answer"):
            engine.tell("message.stored", turn(0, role=kind, speaker=HOSTILE, text=HOSTILE, state="complete"))
        engine.tell("turn.tool_refused", turn(0, tool=HOSTILE, aimed_at=HOSTILE, reason=HOSTILE))
        engine.tell("turn.failed", turn(0, error={"type": HOSTILE, "message": HOSTILE}), namespace=HOSTILE)
        await until(pilot, lambda: notices(pilot))
        for key in ("1", "z", "z", "2", "3", "4", "5"):
            await pilot.press(key)
            await pilot.pause(0.3)
            assert harmless(screen(pilot))
            assert acting(pilot) == []
        await pilot.press("3", "end", "enter")
        await pilot.pause(0.2)
        assert harmless(screen(pilot))
        await pilot.press("escape", "1", "X")
        await pilot.pause(0.2)
        assert harmless(screen(pilot))
        assert acting(pilot) == []
        await pilot.press("escape", "1", "a")
        await pilot.pause(0.2)
        assert harmless(screen(pilot))


def acting(pilot: Pilot[Any]) -> list[str]:
    """What on the screen is a link, or would do something when clicked."""
    strips = pilot.app.screen._compositor.render_strips()
    return [
        part.text
        for strip in strips
        for part in strip
        if part.style is not None and (part.style.link or "@click" in part.style.meta)
    ]


async def test_what_is_told_copied_and_alarmed_is_only_text() -> None:
    hostile = "\x1b[2J\x07[red]a[/red] [@click=app.quit]b[/] \u202e\u2028c\u200b"
    engine = BoardEngine(info(0))
    engine.threads = {"c_00": conversation(0, f"{hostile}\u200d")}
    async with driven(engine, LARGE, toasts=True) as pilot:
        engine.tell("turn.failed", turn(0, error={"type": "Failed", "message": hostile}), namespace=f"{hostile}/x")
        await until(pilot, lambda: "turn.failed" in screen(pilot))
        shown_view(pilot).say(f"said {hostile}")
        shown_view(pilot).complain(f"complained {hostile}")
        await until(pilot, lambda: "complained [2J[red]a[/red] [@click=app.quit]b[/] c" in screen(pilot))
        assert "said [2J[red]a[/red] [@click=app.quit]b[/] c" in screen(pilot)
        assert "Failed: [2J[red]a[/red] [@click=app.quit]b[/]" in screen(pilot)
        assert harmless(screen(pilot))
        assert acting(pilot) == []
        for key in ("1", "2"):
            await pilot.press(key)
            await until(pilot, lambda: "Σ" in screen(pilot))
            await pilot.press("y")
            # What is pasted keeps what is only unseen: it may be meant.
            assert pilot.app.clipboard == "[2J[red]a[/red] [@click=app.quit]b[/] \u2028c\u200b\u200d"
