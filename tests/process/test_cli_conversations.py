from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.process.conftest import Cli

QUESTION = "How should I store my page blocks?"


@pytest.fixture
def thread(cli: Cli) -> str:
    """A stored conversation of one turn between marker and arangodb."""
    return cli.json("query-module", "arangodb", QUESTION, "--from", "marker")["thread_id"]


def test_conversations_are_listed_by_pair(cli: Cli, thread: str) -> None:
    other = cli.json("query-module", "marker", "Which formats do you read?")["thread_id"]
    assert [found["thread_id"] for found in cli.json("list-conversations")] == [other, thread]
    assert [found["thread_id"] for found in cli.json("list-conversations", "--from", "marker")] == [thread]
    assert [found["thread_id"] for found in cli.json("list-conversations", "--to", "marker")] == [other]
    assert len(cli.json("list-conversations", "--limit", "1")) == 1
    assert "messages" not in cli.json("list-conversations")[0]


def test_a_list_in_a_pipe_is_whole_and_on_a_narrow_terminal_fits(cli: Cli, thread: str) -> None:
    assert thread in cli.run("list-conversations").stdout
    for columns in (80, 200):
        terminal = cli.terminal("list-conversations", columns=columns)
        assert terminal.end() == 0
        assert thread[:14] in terminal.text
        assert (thread in terminal.text) is (columns == 200)
        assert max(map(len, terminal.text.splitlines())) <= columns + len("\x1b[1m\x1b[0m")


def test_a_conversation_is_shown_by_id_prefix_and_option(cli: Cli, thread: str) -> None:
    for arguments in ([thread], [thread[:16]], ["--id", thread]):
        assert cli.json("show-conversation", *arguments)["thread_id"] == thread
    text = cli.run("show-conversation", thread).stdout
    assert "marker asks" in text
    assert QUESTION in text
    assert "arangodb answers" in text


def test_an_unknown_or_ambiguous_id_is_a_failure(cli: Cli, thread: str) -> None:
    assert cli.json("show-conversation", "c_nosuch", code=1)["error"]["type"] == "ConversationNotFoundError"
    other = cli.json("query-module", "arangodb", QUESTION)["thread_id"]
    error = cli.json("show-conversation", "c_", code=1)["error"]
    assert sorted(error["matches"]) == sorted([thread, other])


def test_search_finds_what_was_said(cli: Cli, thread: str) -> None:
    hits = cli.json("search-conversations", "page blocks")
    assert hits[0]["thread_id"] == thread
    assert "blocks" in hits[0]["excerpt"]
    assert thread in cli.run("search-conversations", "page blocks").stdout
    assert cli.json("search-conversations", "page blocks", "--to", "marker") == []
    assert cli.json("search-conversations", "zebra") == []


def test_an_export_is_written_here_privately_and_its_path_printed(cli: Cli, thread: str) -> None:
    done = cli.run("export-conversation", "--id", thread)
    file = cli.directory / f"{thread}.json"
    assert done.stdout == f"{file}\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text())["messages"][0]["text"] == QUESTION
    assert cli.json("export-conversation", thread)["path"] == str(file), "an earlier export is replaced"


def test_an_export_can_be_markdown_and_go_elsewhere(cli: Cli, thread: str) -> None:
    assert cli.run("export-conversation", thread, "--format", "markdown").stdout.endswith(f"{thread}.md\n")
    target = cli.directory / "out.md"
    assert cli.run("export-conversation", thread, "--format", "markdown", "--output", target).returncode == 0
    assert QUESTION in target.read_text()
    assert cli.run("export-conversation", thread, "--format", "markdown", "--output", "-").stdout == target.read_text()


def test_an_export_to_stdout_is_the_conversation(cli: Cli, thread: str) -> None:
    text = cli.run("export-conversation", thread, "--output", "-").stdout
    document = cli.json("export-conversation", thread, "--output", "-")
    assert json.loads(text) == document
    assert document["thread_id"] == thread


def test_an_export_keeps_every_character_in_a_narrow_locale(cli: Cli) -> None:
    thread = cli.json("query-module", "arangodb", "Größe → 漢?")["thread_id"]
    done = cli.run("export-conversation", thread, "--output", "-", environment={"PYTHONIOENCODING": "ascii"})
    assert json.loads(done.stdout)["messages"][0]["text"] == "Größe → 漢?"


def test_an_export_that_cannot_be_written_is_misuse(cli: Cli, thread: str) -> None:
    error = cli.json("export-conversation", thread, "--output", "no/such/folder/x.json", code=2)["error"]
    assert "no/such/folder" in error["message"]


def test_an_archived_conversation_is_hidden_until_restored(cli: Cli, thread: str) -> None:
    assert cli.json("archive-conversation", thread)["state"] == "archived"
    assert cli.json("list-conversations") == []
    assert [found["thread_id"] for found in cli.json("list-conversations", "--state", "archived")] == [thread]
    assert [found["thread_id"] for found in cli.json("list-conversations", "--state", "all")] == [thread]
    assert cli.json("archive-conversation", "--id", thread, "--restore")["state"] == "active"
    assert [found["thread_id"] for found in cli.json("list-conversations")] == [thread]
