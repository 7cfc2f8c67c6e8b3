from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_comms.cli import _console as console
from claude_comms.cli._daemon_logs import Wanted, read_lines, show_log
from claude_comms.daemon import Places
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def line(message: str, level: str = "INFO", **more: Any) -> str:
    return json.dumps({"time": "2026-01-31T14:30:00+00:00", "level": level, "message": message, **more})


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLAUDE_COMMS_HOME", str(tmp_path))
    path = Places(Settings.load().home).log
    path.parent.mkdir()
    path.write_text(
        "\n".join(
            [
                line("begins"),
                line("asked", conversation="c_01ab"),
                line("trouble", "WARNING", conversation="c_02cd"),
                line("detail", "DEBUG"),
            ]
        )
    )
    path.with_name("daemon.jsonl.1").write_text(line("second") + "\n")
    path.with_name("daemon.jsonl.2").write_text(line("first") + "\n")
    return path


def shown(
    capsys: pytest.CaptureFixture[str], level: str = "info", conversation: str | None = None, **more: Any
) -> list[str]:
    show_log(level, conversation, more.get("limit", 100), as_json=True)
    return [found["message"] for found in json.loads(capsys.readouterr().out)]


@pytest.mark.usefixtures("log")
def test_lines_of_rotated_files_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys) == ["first", "second", "begins", "asked", "trouble"]


@pytest.mark.usefixtures("log")
def test_level_conversation_and_limit_choose(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "debug")[-1] == "detail"
    assert shown(capsys, "warning") == ["trouble"]
    assert shown(capsys, conversation="c_01") == ["asked"]
    assert shown(capsys, limit=2) == ["asked", "trouble"]


@pytest.mark.usefixtures("log")
def test_people_get_time_level_text_and_ids(capsys: pytest.CaptureFixture[str]) -> None:
    show_log("warning", None, 10, as_json=False)
    [text] = capsys.readouterr().out.splitlines()
    assert "WARNING trouble c_02cd" in text


def test_an_id_is_not_torn_on_a_narrow_terminal(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "is_terminal", lambda _stream: True)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setenv("COLUMNS", "60")
    conversation, turn = "c_" + "0" * 26, "t_" + "1" * 26
    log.write_text(line("asked something", conversation=conversation, turn=turn) + "\n")
    show_log("info", conversation, 10, as_json=False)
    shown = capsys.readouterr().out.splitlines()
    assert max(map(len, shown)) <= 60
    assert all(any(one in text for text in shown) for one in (conversation, turn))


def test_a_log_that_is_not_there_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLAUDE_COMMS_HOME", str(tmp_path))
    assert shown(capsys) == []


@given(st.lists(st.binary().filter(lambda data: b"\n" not in data)))
def test_no_line_is_too_broken_to_be_shown(lines: list[bytes]) -> None:
    found = list(read_lines(lines))
    assert len(found) == sum(bool(one.strip()) for one in lines)
    assert all(Wanted().holds(one) in (True, False) for one in found)
