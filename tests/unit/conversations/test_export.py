from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_comms.conversations import EXPORT_FORMATS, export_conversation, extension
from claude_comms.errors import ConfigError
from claude_comms.types import Conversation, ConversationState, Message, MessageState, Role, Source, Usage

AT = datetime(2026, 11, 21, 6, 30, tzinfo=UTC)


def message(position: int, text: str, state: MessageState = MessageState.COMPLETE, **more: Any) -> Message:
    role = Role.ANSWER if position % 2 else Role.QUESTION
    speaker = "arangodb" if position % 2 else "marker"
    return Message(f"m_{position}", "c_1", position, role, speaker, text, state, AT, **more)


def conversation(*messages: Message, title: str = "Page blocks") -> Conversation:
    state = ConversationState.ACTIVE
    return Conversation("c_1", "marker", "arangodb", "api", "claude-x", state, title, AT, AT, len(messages), messages)


TALK = conversation(
    message(0, "How should I store my page blocks?", data={"pages": 3}),
    message(
        1,
        "As vertices.\n\n```aql\nFOR b IN blocks\n```",
        backend="api",
        model="claude-x",
        usage=Usage(100, 20, 30, 40, 0.0125),
        price_date="2026-10-24",
        duration_ms=1500.0,
        sources=(Source("file", "graph.py"),),
    ),
    message(2, "And edges?", MessageState.FAILED, error={"type": "TurnFailedError", "message": "the stream was *cut*"}),
    message(3, "Edges go", MessageState.PARTIAL),
)


def test_json_holds_everything() -> None:
    exported = json.loads(export_conversation(TALK, "json"))
    assert exported == json.loads(json.dumps(TALK.as_dict()))
    assert exported["messages"][1]["usage"]["cost_usd"] == 0.0125
    assert exported["messages"][1]["price_date"] == "2026-10-24"
    assert exported["messages"][2]["error"]["type"] == "TurnFailedError"
    assert [item["state"] for item in exported["messages"]] == ["complete", "complete", "failed", "partial"]


def test_markdown_reads_as_a_conversation() -> None:
    lines = export_conversation(TALK, "markdown").splitlines()
    assert lines[0] == "# Page blocks"
    headings = [line for line in lines if line.startswith("## ")]
    assert headings == [
        "## 1. marker asks",
        "## 2. arangodb answers",
        "## 3. marker asks",
        "## 4. arangodb answers",
    ]
    assert "How should I store my page blocks?" in lines
    assert "FOR b IN blocks" in lines
    assert "*2026-11-21T06:30:00+00:00 · api · claude-x · 170 tokens in, 20 out, $0.0125 · 1.5 s*" in lines


def test_markdown_never_shows_a_partial_or_failed_message_as_an_answer() -> None:
    text = export_conversation(TALK, "markdown")
    third, fourth = text.split("## 3. ")[1].split("## 4. ")
    assert "**failed: no answer came** (the stream was \\*cut\\*)" in third
    assert "**partial: the answer broke off, this is not an answer**" in fourth
    assert "partial" not in text.split("## 3. ")[0]


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    for call in (lambda: export_conversation(TALK, "pdf"), lambda: extension("pdf")):
        with pytest.raises(ConfigError, match=r"'pdf'\. Known formats: json, markdown"):
            call()


def test_every_format_has_an_extension() -> None:
    assert {name: extension(name) for name in EXPORT_FORMATS} == {"json": "json", "markdown": "md"}


def _outside_fences(markdown: str) -> list[str]:
    """The lines that a CommonMark reader sees outside of fenced code."""
    outside: list[str] = []
    fence = ""
    for line in re.split(r"\r\n|\r|\n", markdown):
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if fence:
            if mark and mark[1].startswith(fence) and not line.strip(" `"):
                fence = ""
        elif mark:
            fence = mark[1]
        else:
            outside.append(line)
    assert fence == "", "a fence was left open"
    return outside


HOSTILE = st.text(alphabet="`~#>-*|<\\ \n\r\tab\x1b\x00\u202e\ud800", max_size=60) | st.text(max_size=60)


@given(text=HOSTILE, title=HOSTILE, reason=HOSTILE)
def test_foreign_text_cannot_change_the_documents_structure(text: str, title: str, reason: str) -> None:
    def lines(foreign: tuple[str, str, str]) -> list[str]:
        said, named, why = foreign
        failed = message(1, said, MessageState.PARTIAL, error={"message": why}, data={"key": said})
        return _outside_fences(export_conversation(conversation(message(0, said), failed, title=named), "markdown"))

    hostile, harmless = lines((text, title, reason)), lines(("harmless", "harmless", "harmless"))
    assert len(hostile) == len(harmless)
    for line, expected in zip(hostile, harmless, strict=True):
        if "harmless" not in expected:
            assert line == expected
        assert "\x1b" not in line
        assert re.search(r"(?<!\\)<", line) is None
