from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from claude_comms.background.backends.claude_code._interactive import turns_in
from claude_comms.background.backends.claude_runtime.transcript import (
    branch_off,
    find_transcript,
    recalls,
    rows_since,
    write_transcript,
)
from claude_comms.types import HistoryMessage, Role, Usage

if TYPE_CHECKING:
    from pathlib import Path

HISTORY = (HistoryMessage(Role.QUESTION, "How many?"), HistoryMessage(Role.ANSWER, "Forty-two."))
NEW = "11111111-2222-3333-4444-555555555555"


def transcript(tmp_path: Path) -> Path:
    session_id = write_transcript(tmp_path, tmp_path, HISTORY, model="claude-sonnet-5-5", version="2.1.329")
    found = find_transcript(tmp_path, session_id)
    assert found is not None
    return found


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def row(uuid: str, parent: str | None, kind: str, text: str, **message: Any) -> dict[str, Any]:
    role = "user" if kind == "user" else "assistant"
    content: Any = text if kind == "user" else [{"type": "text", "text": text}]
    body = {"role": role, "content": content, "id": f"msg_{uuid}", **message}
    return {"uuid": uuid, "parentUuid": parent, "type": kind, "message": body}


def answer(uuid: str, parent: str, text: str, stop_reason: str | None = "end_turn") -> dict[str, Any]:
    usage = {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 11, "cache_creation_input_tokens": 13}
    return row(uuid, parent, "assistant", text, model="claude-sonnet-5-5", stop_reason=stop_reason, usage=usage)


def test_a_branch_holds_the_conversation_up_to_its_row_and_leaves_the_session_as_it_was(tmp_path: Path) -> None:
    old = transcript(tmp_path)
    before = old.read_bytes()
    last = rows_of(old)[-1]["uuid"]
    with old.open("a") as file:
        file.write(json.dumps(row("later", last, "user", "interrupted")) + "\n")
    known = branch_off(old, last, NEW)
    new = old.with_name(f"{NEW}.jsonl")
    assert known == {each["uuid"] for each in rows_of(new)}
    assert {each["sessionId"] for each in rows_of(new)} == {NEW}
    assert recalls(new, last, HISTORY)
    assert "interrupted" not in new.read_text()
    assert old.read_bytes().startswith(before)


def test_what_cannot_be_read_gives_no_branch(tmp_path: Path) -> None:
    assert branch_off(tmp_path / "gone.jsonl", "x", NEW) is None
    assert branch_off(transcript(tmp_path), "no such row", NEW) is None


def test_rows_since_are_those_behind_the_known_ones_in_order(tmp_path: Path) -> None:
    path = transcript(tmp_path)
    known = {each["uuid"] for each in rows_of(path)}
    last = rows_of(path)[-1]["uuid"]
    said = [row("q", last, "user", "And then?"), answer("a", "q", "Nothing.")]
    with path.open("a") as file:
        file.writelines(json.dumps(each) + "\n" for each in said)
    assert [each["uuid"] for each in rows_since(path, known)] == ["q", "a"]


def test_a_turn_is_a_typed_question_with_its_whole_answer(tmp_path: Path) -> None:
    rows = [
        row("q", None, "user", "And then?"),
        answer("a1", "q", "Let me look. ", stop_reason="tool_use"),
        row("r", "a1", "user", ""),
        answer("a2", "r", "Nothing."),
    ]
    [turn] = turns_in(rows, NEW)
    assert (turn.question, turn.answer, turn.handle) == ("And then?", "Let me look. Nothing.", f"{NEW}@a2")
    assert turn.usage == Usage(10, 14, 22, 26, None), "its price is known where the prices are"


def test_each_block_of_a_message_is_a_row_and_its_usage_counts_once() -> None:
    first = answer("a1", "q", "One ")
    second = {
        **answer("a2", "a1", "message."),
        "message": {**answer("a2", "a1", "message.")["message"], "id": "msg_a1"},
    }
    [turn] = turns_in([row("q", None, "user", "What?"), first, second], NEW)
    assert turn.answer == "One message."
    assert turn.usage.output_tokens == 7


def test_commands_and_interrupted_turns_are_no_turns() -> None:
    rows = [
        row("c", None, "user", "<command-name>/context</command-name>"),
        {**row("m", "c", "user", "Caveat: it is meta"), "isMeta": True},
        row("q1", "m", "user", "Never answered?"),
        answer("a1", "q1", "Half an", stop_reason=None),
        row("i", "a1", "user", "[Request interrupted by user]"),
        row("q2", "i", "user", "Answered?"),
        answer("a2", "q2", "Yes."),
    ]
    assert [turn.question for turn in turns_in(rows, NEW)] == ["Answered?"]
