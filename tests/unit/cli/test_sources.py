from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
import typer

from claude_comms.cli import _sources as sources


@pytest.mark.parametrize(
    ("first", "second", "option", "expected"),
    [
        ("c_1", "why?", None, ("c_1", "why?")),
        ("why?", None, "c_1", ("c_1", "why?")),
        ("c_1", "why?", "c_1", ("c_1", "why?")),
    ],
)
def test_the_id_is_the_first_argument_or_the_option(
    first: str, second: str | None, option: str | None, expected: tuple[str, str]
) -> None:
    assert sources.pick_id_and_prompt(first, second, option) == expected


@pytest.mark.parametrize(
    ("first", "second", "option"),
    [("c_1", None, None), (None, None, None), (None, None, "c_1"), ("c_1", "why?", "c_2")],
)
def test_an_id_or_prompt_that_is_missing_or_doubled_is_misuse(
    first: str | None, second: str | None, option: str | None
) -> None:
    with pytest.raises(typer.BadParameter):
        sources.pick_id_and_prompt(first, second, option)


def test_a_dash_reads_the_prompt_from_stdin_less_its_last_newline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Wie?\n\n")))
    assert sources.read_prompt("-") == "Wie?\n"


def test_stdin_that_is_not_utf_8_is_misuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    with pytest.raises(typer.BadParameter, match="not UTF-8"):
        sources.read_prompt("-")


def test_a_closed_stdin_is_misuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(typer.BadParameter, match="stdin is closed"):
        sources.read_prompt("-")


def test_a_prompt_without_end_is_not_read_on_and_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/zero").open(encoding="utf-8") as endless:
        monkeypatch.setattr(sys, "stdin", endless)
        with pytest.raises(typer.BadParameter, match=r"stdin holds more than 16,384 KiB"):
            sources.read_prompt("-")


def test_data_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text('{"a": [1]}', encoding="utf-8-sig")
    assert sources.read_data(file) == {"a": [1]}
    assert sources.read_data(None) is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", ""),
        ("[" * 100_000, ""),
        ("", ""),
        ('{"a": [{"b": 1, "b": 1}]}', "'b' is given twice"),
        ('{"a": NaN}', "NaN"),
        ("[-Infinity]", "-Infinity"),
        ("1e999", "1e999"),
    ],
)
def test_a_file_that_is_no_json_is_misuse_that_names_it(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "data.json"
    file.write_text(text)
    with pytest.raises(typer.BadParameter, match=rf"data\.json is not JSON: .*{why}"):
        sources.read_data(file)


def test_only_regular_files_of_some_size_are_read(tmp_path: Path) -> None:
    fits, large, pipe = tmp_path / "fits.json", tmp_path / "large.json", tmp_path / "pipe"
    fits.write_text('"' + "x" * (256 * 1024 - 2) + '"')
    large.write_text('"' + "x" * (256 * 1024 - 1) + '"')
    os.mkfifo(pipe)
    with pytest.raises(typer.BadParameter, match="an object is needed"):
        sources.read_schema(fits)
    with pytest.raises(typer.BadParameter, match=r"large\.json holds more than 256 KiB"):
        sources.read_schema(large)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(typer.BadParameter, match="not a regular file"):
            sources.read_data(path)
    with large.open("ab") as file:
        file.truncate(16 * 1024 * 1024 + 1)
    with pytest.raises(typer.BadParameter, match=r"holds more than 16,384 KiB"):
        sources.read_data(large)


def test_a_schema_must_be_an_object(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text("[]")
    with pytest.raises(typer.BadParameter, match="not a JSON Schema"):
        sources.read_schema(file)


def test_parameters_are_split_at_the_first_equals_sign() -> None:
    assert sources.read_parameters(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}


@pytest.mark.parametrize("given", [["a"], ["=1"], ["a=1", "a=2"]])
def test_parameters_that_are_no_pairs_or_come_twice_are_misuse(given: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        sources.read_parameters(given)
