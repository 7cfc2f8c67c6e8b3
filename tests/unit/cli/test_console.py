from __future__ import annotations

import codecs
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_comms.cli import _console as console

COLUMNS = [console.Column("NAME"), console.Column("SUMMARY", flexible=True), console.Column("N", right=True)]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Stdout passes for a terminal; set COLUMNS for its width."""
    monkeypatch.setattr(console, "is_terminal", lambda _stream: True)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    monkeypatch.setenv("NO_COLOR", "1")
    return monkeypatch


def test_a_table_in_a_pipe_is_whole_and_without_lines(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(COLUMNS, [["marker", "s" * 300, "1"], ["arangodb", "short", "22"]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "SUMMARY", "N"]
    assert "s" * 300 in lines[1]
    assert lines[2].startswith("arangodb  short")
    assert lines[1].endswith("  1")
    assert lines[2].endswith(" 22")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_table_fits_the_terminal(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> None:
    terminal.setenv("COLUMNS", str(columns))
    console.table(COLUMNS, [["marker", "s" * 300, "1"], ["arangodb", "漢字" * 100, "22"]])
    lines = capsys.readouterr().out.splitlines()
    assert max(console._cells(line) for line in lines) <= columns
    assert all("…" in line for line in lines[1:])


def test_a_table_that_cannot_fit_keeps_what_must_not_be_shortened(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.setenv("COLUMNS", "10")
    console.table(COLUMNS, [["a-long-identifier-of-32-characters", "summary", "1"]])
    assert "a-long-identifier-of-32-characters" in capsys.readouterr().out


def test_escape_codes_and_markup_in_a_cell_do_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(COLUMNS, [["\x1b[31mred", "[link=file:///etc/passwd]x[/link]\nnext", "1"]])
    shown = capsys.readouterr().out
    assert "\x1b[31m" not in shown
    assert "[link=file:///etc/passwd]x[/link] next" in shown


@given(st.text())
def test_a_document_is_one_line_of_json_that_loads_back_and_acts_on_no_terminal(text: str) -> None:
    value = {"text": text, "more": "\x1b]0;title\x07 \x9b31m \u202e \u2028 \ud800"}
    with pytest.MonkeyPatch.context() as patch:
        shown = _document(patch, value, "utf-8")
    assert json.loads(shown) == value
    assert shown.count("\n") == 1
    assert not any(sign in shown for sign in "\x1b\x07\x9b\u202e\u2028")


def test_a_document_survives_a_narrow_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = _document(monkeypatch, {"text": "é → 漢"}, "ascii")
    assert json.loads(shown) == {"text": "é → 漢"}
    assert shown.isascii()


def _document(patch: pytest.MonkeyPatch, value: object, encoding: str) -> str:
    """What `document` writes to a stdout with that encoding."""
    import io
    import sys

    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    patch.setattr(sys, "stdout", stream)
    console.document(value)
    stream.flush()
    return raw.getvalue().decode(encoding)


def test_what_an_encoding_cannot_write_gets_an_ascii_form() -> None:
    console.prepare()
    assert "marker → arangodb … ✓ é".encode("ascii", "claude-comms") == b"marker -> arangodb ... ok \\xe9"
    with pytest.raises(UnicodeDecodeError):
        codecs.decode(b"\xff", "utf-8", "claude-comms")
