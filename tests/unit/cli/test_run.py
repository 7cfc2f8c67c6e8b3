from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import typer

from claude_comms.cli._interrupted import streams
from claude_comms.cli._run import exit_code, run
from claude_comms.errors import (
    BackendUnavailableError,
    ConfigError,
    ConversationNotFoundError,
    DescriptorError,
    Problem,
    UnknownModuleError,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (typer.BadParameter("wrong"), 2),
        (ConfigError("wrong"), 2),
        (DescriptorError([Problem("wrong")]), 2),
        (UnknownModuleError("nobody"), 1),
        (ConversationNotFoundError("c_1"), 1),
        (BackendUnavailableError("no"), 1),
        (RuntimeError("a defect"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


@pytest.mark.parametrize(
    "arguments",
    [
        ["query-module"],
        ["query-module", "arangodb", "why?", "--no-such-option"],
        ["no-such-command"],
        ["query-module", "arangodb", "why?", "--deadline", "soon"],
        *(
            ["query-module", "arangodb", "why?", option, bound]
            for option in ("--deadline", "--max-cost")
            for bound in ("nan", "inf", "0", "-1")
        ),
        ["register-module", "reader", "--path", ""],
        ["show-conversation"],
        ["continue-conversation", "c_1"],
        ["query-module", "arangodb", "  "],
        ["query-module", "arangodb", "why?", "--data", "no-such-file.json"],
        ["query-module", "arangodb", "why?", "--param", "no-equals-sign"],
        ["show-module"],
        ["list-conversations", "--state", "no-such-state"],
    ],
)
def test_misuse_exits_with_2_and_is_told_as_text_or_as_one_document(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Error: " in shown.err

    assert run([*arguments, "--json"]) == 2
    shown = capsys.readouterr()
    assert shown.out.count("\n") == 1
    assert json.loads(shown.out)["error"]["type"] == "UsageError"
    assert shown.err == ""


def test_json_after_two_dashes_is_a_word_and_no_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["no-such-command", "--", "--json"]) == 2
    assert capsys.readouterr().out == ""


def test_version_and_help_are_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert "query-module" in capsys.readouterr().out
    assert run([]) == 0
    assert "query-module" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["query-module", "arangodb", "why?", "--background"],
        ["listen-module", "marker"],
        ["list-jobs"],
    ],
)
@pytest.mark.parametrize("kept", ["--no-daemon", "CLAUDE_COMMS_DAEMON"])
def test_what_there_is_only_in_a_daemon_is_refused_without_one_and_says_why(
    arguments: list[str], kept: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CLAUDE_COMMS_HOME", str(tmp_path))
    if kept == "CLAUDE_COMMS_DAEMON":
        monkeypatch.setenv(kept, "off")
    assert run([*arguments, "--json", *([kept] if kept.startswith("--") else [])]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "DaemonError"
    assert kept in error["message"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "endless"),
    [
        ("monitor-instance i_1 --json", True),
        ("listen-module marker", True),
        ("list-instances --watch", True),
        ("list-instances --check", False),
        ("daemon logs -f", True),
        ("daemon logs --json", False),
        ("daemon status", False),
        ("query-module --watch", False),
        ("", False),
    ],
)
def test_what_streams_until_it_is_ended_is_known(arguments: str, endless: bool) -> None:
    assert streams(arguments.split()) is endless
