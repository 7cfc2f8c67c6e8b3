from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.conftest import Cli

READER = """\
name: reader
summary: Reads feeds.
capabilities:
- name: fetch_feed
  description: Fetches a news feed by its address.
  tags: [network]
data_types: [feed]
relationships:
- module: keeper
  kind: feeds
"""


@pytest.fixture
def project(cli: Cli) -> Path:
    """A little Python project that would do harm if it were run."""
    folder = cli.directory / "counter"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "counter"\nversion = "1.2"\ndescription = "Counts words."\n'
    )
    (folder / "counter.py").write_text(
        'import pathlib\npathlib.Path(__file__).with_name("RUN").touch()\n\n'
        'def count_words(text: str) -> int:\n    """Counts the words of a text."""\n    return 0\n'
    )
    return folder


@pytest.fixture
def reader(cli: Cli) -> Path:
    file = cli.directory / "reader.yaml"
    file.write_text(READER)
    return file


def test_a_module_without_a_descriptor_is_drafted_and_shown_and_not_run(cli: Cli, project: Path) -> None:
    done = cli.run("register-module", "counter", "--path", project)
    assert done.returncode == 0, done.stderr
    assert "count_words" in done.stdout
    assert "It is a draft" in done.stderr
    assert not (project / "RUN").exists()
    assert "counter" in cli.run("list-modules").stdout
    assert cli.json("show-module", "counter")["capabilities"][0]["name"] == "count_words"


def test_a_draft_of_a_shipped_name_says_which_file_it_hides_and_how_to_keep_it(cli: Cli, project: Path) -> None:
    done = cli.run("register-module", "marker", "--path", project)
    assert done.returncode == 0, done.stderr
    assert "count_words" in done.stdout
    hint = done.stderr.split("To use that one: --desc ")[1].split()[0]
    again = cli.json("register-module", "marker", "--path", project, "--desc", hint)
    assert "count_words" not in str(again["capabilities"])


def test_a_descriptor_file_registers_and_answers_every_filter(cli: Cli, project: Path, reader: Path) -> None:
    registered = cli.json("register-module", "reader", "--path", project, "--desc", reader)
    assert registered["path"] == str(project)
    for filters in (
        ["--capability", "fetch_feed"],
        ["--tag", "network"],
        ["--data-type", "feed"],
        ["--related-to", "keeper"],
    ):
        assert [module["name"] for module in cli.json("list-modules", *filters)] == ["reader"], filters
    assert cli.json("list-modules", "--capability", "no-such") == []


def test_the_name_must_be_the_descriptors(cli: Cli, project: Path, reader: Path) -> None:
    error = cli.json("register-module", "writer", "--path", project, "--desc", reader, code=2)["error"]
    assert "'reader', not 'writer'" in error["message"]
    assert "writer" not in {module["name"] for module in cli.json("list-modules")}


def test_every_problem_of_a_descriptor_is_told_with_its_line(cli: Cli, project: Path) -> None:
    file = cli.directory / "broken.yaml"
    file.write_text("name: Broken Name\nsummary: 5\nno_such_field: 1\n")
    error = cli.json("register-module", "broken", "--path", project, "--desc", file, code=2)["error"]
    assert error["type"] == "DescriptorError"
    assert error["path"] == str(file)
    assert {problem.split(":")[0] for problem in error["problems"]} >= {"line 1", "line 3"}


def test_wider_grants_are_never_taken_silently(cli: Cli, project: Path, reader: Path) -> None:
    reader.write_text(READER + "permissions:\n  tools: [Read, Bash]\n")
    arguments = ("register-module", "reader", "--path", project, "--desc", reader)
    refused = cli.run(*arguments)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert "Bash" in refused.stderr
    assert cli.json("show-module", "reader", code=1)["error"]["type"] == "UnknownModuleError"

    assert cli.json(*arguments, "--yes")["granted"] == ["Bash"]
    assert cli.run(*arguments).returncode == 0, "what was granted once is not asked again"


def test_what_a_granted_mcp_server_runs_is_shown_where_it_is_asked_about(cli: Cli, project: Path, reader: Path) -> None:
    reader.write_text(READER + "permissions:\n  tools: ['mcp:rows/count', 'mcp:nowhere']\n")
    cli.home.mkdir()
    (cli.home / "config.toml").write_text(
        '[mcp_servers.rows]\ncommand = "rows-server"\nargs = ["--all tables"]\nenv = { ROWS_KEY = "not-to-be-seen" }\n'
    )
    arguments = ("register-module", "reader", "--path", project, "--desc", reader)
    refused = cli.run(*arguments)
    assert refused.returncode == 2
    assert "mcp:rows/count, mcp:nowhere" in refused.stderr
    assert "MCP server rows: rows-server '--all tables'" in refused.stderr
    assert "MCP server nowhere: not defined yet" in refused.stderr
    assert "[mcp_servers.nowhere]" in refused.stderr
    assert "not-to-be-seen" not in refused.stderr
    assert cli.json(*arguments, "--yes")["granted"] == ["mcp:rows/count", "mcp:nowhere"]


def test_a_granted_mcp_server_is_asked_about_again_once_it_is_defined_differently(
    cli: Cli, project: Path, reader: Path
) -> None:
    reader.write_text(READER + "permissions:\n  tools: ['mcp:rows/count', 'mcp:rows/list', Bash]\n")
    cli.home.mkdir()
    config = cli.home / "config.toml"
    config.write_text('[mcp_servers.rows]\ncommand = "rows-server"\nenv = { ROWS_KEY = "one" }\n')
    arguments = ("register-module", "reader", "--path", project, "--desc", reader)
    cli.json(*arguments, "--yes")
    config.write_text('[mcp_servers.rows]\ncommand = "rows-server"\nenv = { ROWS_KEY = "two" }\n')
    assert cli.run(*arguments).returncode == 0, "a renewed token is no other server"

    config.write_text('[mcp_servers.rows]\ncommand = "another-server"\nenv = { ROWS_KEY = "two" }\n')
    asked = ("query-module", "reader", "How many?", "--backend", "claude-code")
    error = cli.json(*asked, code=1, environment={"ANTHROPIC_API_KEY": "k"})["error"]
    assert (error["type"], error["grant"]) == ("PermissionDeniedError", "mcp:rows/count")
    assert f"register-module reader --path {project} --desc {reader}" in error["message"]
    refused = cli.run(*arguments)
    assert refused.returncode == 2
    assert "MCP servers that are not defined as then: rows" in refused.stderr
    assert "MCP server rows: another-server" in refused.stderr
    assert "Bash" not in refused.stderr
    cli.json(*arguments, "--yes")
    assert cli.run(*arguments).returncode == 0


@pytest.mark.parametrize(("answer", "code"), [("y\r", 0), ("\r", 1)])
def test_a_terminal_is_asked_about_wider_grants(cli: Cli, project: Path, reader: Path, answer: str, code: int) -> None:
    reader.write_text(READER + "permissions:\n  tools: [Bash]\n")
    terminal = cli.terminal("register-module", "reader", "--path", project, "--desc", reader)
    terminal.wait_for("Grant these tools?")
    terminal.type(answer)
    assert terminal.end() == code
    assert cli.run("show-module", "reader").returncode == code


def test_reading_its_own_path_needs_no_question(cli: Cli, project: Path, reader: Path) -> None:
    reader.write_text(READER + "permissions:\n  tools: [Read, Grep, Glob]\n")
    assert cli.run("register-module", "reader", "--path", project, "--desc", reader).returncode == 0


def test_what_show_module_prints_is_a_descriptor_again(cli: Cli, project: Path, reader: Path) -> None:
    cli.json("register-module", "reader", "--path", project, "--desc", reader)
    shown = cli.run("show-module", "reader").stdout
    assert f"# registered: {reader}" in shown
    reader.write_text(shown)
    assert cli.json("show-module", "reader")["capabilities"][0]["name"] == "fetch_feed"


def test_show_module_says_which_file_hides_which(cli: Cli, reader: Path) -> None:
    other = cli.directory / "more"
    other.mkdir()
    (other / "reader.yaml").write_text(READER)
    inner = cli.home / "descriptors"
    inner.mkdir(parents=True)
    (inner / "reader.yaml").write_text(READER)
    environment = {"CLAUDE_COMMS_DESCRIPTORS": str(other)}
    shown = cli.json("show-module", "reader", environment=environment)
    assert shown["file"] == str(other / "reader.yaml")
    assert shown["hides"] == [str(inner / "reader.yaml")]
    assert f"# hides: {inner / 'reader.yaml'}" in cli.run("show-module", "reader", environment=environment).stdout


def test_the_file_format_is_a_json_schema(cli: Cli) -> None:
    schema = json.loads(cli.run("show-module", "--schema").stdout)
    assert schema == cli.json("show-module", "--schema")
    assert "capabilities" in schema["properties"]


def test_find_module_ranks_modules_for_a_question(cli: Cli, project: Path, reader: Path) -> None:
    cli.json("register-module", "reader", "--path", project, "--desc", reader)
    cli.json("register-module", "counter", "--path", project)
    found = cli.json("find-module", "Who counts the words of a text?")
    assert found[0]["name"] == "counter"
    assert found[0]["capabilities"] == ["count_words"]
    assert "counter" in cli.run("find-module", "Who counts the words of a text?").stdout


def test_a_module_can_be_forgotten(cli: Cli, project: Path) -> None:
    cli.json("register-module", "counter", "--path", project)
    assert cli.json("unregister-module", "counter")["unregistered"] is True
    error = cli.json("unregister-module", "counter", code=1)["error"]
    assert error["type"] == "UnknownModuleError"
    assert error["name"] == "counter"


def test_a_broken_file_among_the_descriptors_is_told_and_hides_nothing_else(cli: Cli) -> None:
    folder = cli.home / "descriptors"
    folder.mkdir(parents=True)
    (folder / "bad.yaml").write_text("name: bad\ncapabilities: 5\n")
    (folder / "good.yaml").write_text("name: good\nsummary: Good.\n")
    done = cli.run("list-modules")
    assert done.returncode == 0
    assert "good" in done.stdout
    assert "bad.yaml" in done.stderr


def test_escape_codes_in_a_descriptor_reach_no_terminal(cli: Cli) -> None:
    folder = cli.home / "descriptors"
    folder.mkdir(parents=True)
    (folder / "evil.json").write_text(
        json.dumps({"name": "evil", "summary": "\x1b]0;owned\x07[bold]\x9b31m", "description": "\x1b[2J"})
    )
    for arguments in (["list-modules"], ["show-module", "evil"], ["list-modules", "--json"]):
        terminal = cli.terminal(*arguments)
        assert terminal.end() == 0
        assert "\x1b]0;" not in terminal.text
        assert "\x1b[2J" not in terminal.text
        assert "\x9b" not in terminal.text
        assert "[bold]" in terminal.text or arguments[0] == "show-module"


def test_find_module_outlives_a_descriptor_with_half_a_character(cli: Cli) -> None:
    folder = cli.home / "descriptors"
    folder.mkdir(parents=True)
    (folder / "half.yaml").write_text('name: half\nsummary: "Graphs \\ud800 and documents."\n')
    assert "arangodb" in [match["name"] for match in cli.json("find-module", "Which database stores documents?")]


def test_grants_that_are_inherited_are_asked_for_like_its_own(cli: Cli, project: Path, reader: Path) -> None:
    parent = cli.home / "descriptors" / "shell.yaml"
    parent.parent.mkdir(parents=True)
    parent.write_text("name: shell\nsummary: Runs things.\npermissions:\n  tools: [Bash]\n")
    reader.write_text(f"extends: shell\n{READER}")
    refused = cli.run("register-module", "reader", "--path", project, "--desc", reader)
    assert refused.returncode == 2, refused.stderr
    assert "--yes" in refused.stderr
    assert "Bash" in refused.stderr
    assert cli.json("show-module", "reader", code=1)["error"]["type"] == "UnknownModuleError"


def test_an_empty_path_is_not_the_working_directory(cli: Cli) -> None:
    refused = cli.run("register-module", "reader", "--path", "")
    assert refused.returncode == 2
    assert "--path" in refused.stderr
    assert "reader" not in cli.run("list-modules").stdout
    assert cli.json("register-module", "reader", "--path", ".")["path"] == str(cli.directory)
