from __future__ import annotations

import pytest

from claude_comms.cli import _console as console
from claude_comms.cli._wrapping import hanging, paragraph


def test_nothing_is_wrapped_in_a_pipe() -> None:
    assert hanging("- ", "word " * 100 + "end\nnext").splitlines() == ["- " + "word " * 100 + "end", "  next"]


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_text_is_wrapped_under_its_label_on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr(console, "is_terminal", lambda _stream: True)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = hanging("   shell   ", "word " * 100).splitlines()
    assert lines[0].startswith("   shell   word")
    assert all(line.startswith(" " * 11 + "word") for line in lines[1:])
    assert max(map(len, lines)) <= min(columns, 100)


def test_what_cannot_be_broken_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "is_terminal", lambda _stream: True)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setenv("COLUMNS", "40")
    assert "c_" + "0" * 60 in paragraph("see c_" + "0" * 60)


def test_what_breaks_stays_under_its_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "is_terminal", lambda _stream: True)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setenv("COLUMNS", "60")
    lines = hanging("home  ", "/a" * 80, breaks=True).splitlines()
    assert max(map(len, lines)) <= 60
    assert all(line.startswith("      ") for line in lines[1:])
    assert "".join(line[6:] for line in lines) == "/a" * 80
