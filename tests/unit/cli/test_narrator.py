from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest

from claude_comms.cli._narrator import Narrator, words_of
from claude_comms.cli._wording import clock
from claude_comms.events import Event, Missed, Priority

NOW = datetime.now(UTC)
numbers = count(1)


def event(kind: str, namespace: str = "marker/arangodb", subject: str = "c_1", **data: Any) -> Event:
    number = next(numbers)
    return Event(number, f"e_{number}", kind, subject, namespace, Priority.NORMAL, NOW, data)


def said(role: str, text: str, *, turn: str = "t_1", state: str = "complete", **more: Any) -> Event:
    speaker = "marker" if role == "question" else "arangodb"
    return event("message.stored", role=role, text=text, turn_id=turn, state=state, speaker=speaker, **more)


def piece(text: str, turn: str = "t_1") -> Event:
    return event("turn.delta", text=text, turn_id=turn, target="arangodb")


def told(capsys: pytest.CaptureFixture[str], *events: Event | Missed, several: bool = False) -> str:
    narrator = Narrator(several=several)
    for one in events:
        if isinstance(one, Missed):
            narrator.missed(one)
        else:
            narrator.tell(one)
    narrator.close()
    return capsys.readouterr().out.replace(clock(NOW), "NOW")


def test_an_answer_that_came_in_pieces_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, said("question", "How?"), piece("Like "), piece("this."), said("answer", "Like this."))
    assert text == "NOW  marker asks\nHow?\nNOW  arangodb answers\nLike this.\n"


def test_an_answer_of_which_pieces_are_missing_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, piece("this."), said("answer", "Like this."))
    assert text.endswith("NOW  arangodb answers\nLike this.\n")


def test_a_part_of_an_answer_is_told_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert "PARTIAL" in told(capsys, piece("Like"), said("answer", "Like", state="partial"))
    assert "FAILED" in told(capsys, said("question", "How?", state="failed"))


def test_answers_at_the_same_time_are_kept_apart(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, piece("one", "t_1"), piece("two", "t_2"), piece(" more", "t_1"), several=True)
    assert text.splitlines() == [
        "NOW  marker → arangodb · arangodb answers",
        "one",
        "NOW  marker → arangodb · arangodb answers",
        "two",
        "NOW  marker → arangodb · arangodb goes on",
        " more",
    ]


def test_an_event_in_the_middle_of_an_answer_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, piece("Let me look."), event("turn.tool_used", tool="Read", arguments="a.py", turn_id="t_1"))
    assert text.splitlines()[1:] == ["Let me look.", "NOW  used Read a.py"]


def test_what_was_missed_is_told_beside_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    narrator = Narrator(several=False)
    narrator.missed(Missed(3, 9, "too slow"))
    assert capsys.readouterr().err == "events 3 to 9 are not shown: too slow\n"


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("instance.failed", {"name": "mine", "failure": "it died"}, "instance mine failed: it died"),
        ("instance.stopped", {}, "instance c_1 stopped"),
        ("turn.failed", {"error": {"type": "TurnFailedError", "message": "cut"}}, "failed · TurnFailedError: cut"),
        ("turn.failed", {}, "turn c_1 failed"),
        ("turn.stalled", {"silent_s": 12.4}, "nothing has come for 12 s"),
        ("turn.retried", {"attempt": 1, "reason": "529", "wait_s": 2}, "attempt 1 failed (529); again in 2.0 s"),
        ("weather.changed", {"reason": "autumn"}, "weather c_1 changed: autumn"),
        ("turn.interrupted", {"error": {}}, "interrupted"),
    ],
)
def test_every_event_has_words_also_one_of_another_version(kind: str, data: dict[str, Any], words: str) -> None:
    assert words_of(event(kind, **data)) == words


def test_what_others_wrote_cannot_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, piece("\x1b[2Jboo"), event("turn.tool_used", tool="Read", arguments="\x1b]0;x\x07\nfake line"))
    assert "\x1b" not in text
    assert text.count("\n") == 3
