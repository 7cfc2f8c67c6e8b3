"""``install claude-code``: shown, agreed to, repeated, undone; through Claude Code's own command and without it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import claude_agent_sdk
import pytest

from claude_comms.plugin.registration import PLUGIN_FOLDER

if TYPE_CHECKING:
    from tests.process.conftest import Cli

BINARY = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
SCOPES = ["project", "user", "local"]
OTHERS = {"mcpServers": {"other": {"command": "x"}}, "theme": "dark"}


@pytest.fixture(params=["file", "claude"])
def machine(cli: Cli, tmp_path: Path, request: pytest.FixtureRequest) -> Cli:
    """A machine without Claude Code's command, and one that has it."""
    cli.environment |= {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}
    if request.param == "claude":
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "claude").symlink_to(BINARY)
        cli.environment["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}"
    else:
        cli.environment["PATH"] = os.defpath
    return cli


def registered(path: Path, scope: str, directory: Path) -> dict[str, Any]:
    """The servers that Claude Code would find there."""
    if not path.exists():
        return {}
    values = json.loads(path.read_text())
    table = values["projects"][str(directory)] if scope == "local" and "projects" in values else values
    return table.get("mcpServers", {})


@pytest.mark.parametrize("scope", SCOPES)
def test_it_is_put_in_place_once_and_undone_whole(machine: Cli, tmp_path: Path, scope: str) -> None:
    path = machine.directory / ".mcp.json" if scope == "project" else tmp_path / ".claude.json"
    first = machine.json("install", "claude-code", "--scope", scope, "--yes")
    assert (first["path"], first["installed"], first["changed"]) == (str(path), True, True)
    server = registered(path, scope, machine.directory)["claude-comms"]
    assert server == first["server"]
    assert Path(server["command"]).is_absolute()
    assert server["args"][-1] == "mcp"
    assert server["env"]["CLAUDE_COMMS_HOME"] == str(machine.home)
    again = machine.json("install", "claude-code", "--scope", scope, "--yes")
    assert (again["changed"], again["server"]) == (False, server)
    undone = machine.json("install", "claude-code", "--scope", scope, "--remove", "--yes")
    assert (undone["installed"], undone["changed"]) == (False, True)
    assert "claude-comms" not in registered(path, scope, machine.directory)
    assert machine.json("install", "claude-code", "--scope", scope, "--remove")["changed"] is False


def test_the_server_that_is_registered_is_one_that_claude_code_can_reach(machine: Cli) -> None:
    machine.json("install", "claude-code", "--scope", "user", "--yes")
    done = subprocess.run(
        [BINARY, "mcp", "get", "claude-comms"],
        cwd=machine.directory, env=machine.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Connected" in done.stdout, (done.stdout, done.stderr)


OLD: dict[str, Any] = {"type": "stdio", "command": "/old", "args": [], "env": {}}


@pytest.mark.parametrize("old", [OLD, None, "x"])
def test_what_stands_in_its_place_is_shown_and_replaced(machine: Cli, old: Any) -> None:
    (machine.directory / ".mcp.json").write_text(json.dumps({"mcpServers": {"claude-comms": old}}))
    done = machine.run("install", "claude-code", "--scope", "project", "--yes")
    assert done.returncode == 0, done.stderr
    assert old != OLD or '"command": "/old"' in done.stderr
    [server] = registered(machine.directory / ".mcp.json", "project", machine.directory).values()
    assert server["command"] != "/old"


def git(*arguments: str | Path) -> None:
    environment = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ("-c", "user.name=n", "-c", "user.email=n@example.org")
    subprocess.run(["git", *who, *arguments], env=environment, capture_output=True, timeout=60, check=True)


@pytest.mark.parametrize("place", ["a folder", "a worktree"])
def test_within_a_repository_it_is_where_claude_code_looks_for_it(machine: Cli, tmp_path: Path, place: str) -> None:
    git("init", "-q", machine.directory)
    inside = machine.directory / "src" / "deep"
    if place == "a worktree":
        git("-C", machine.directory, "commit", "-q", "--allow-empty", "-m", "first")
        git("-C", machine.directory, "worktree", "add", "-q", tmp_path / "tree")
        inside = tmp_path / "tree" / "deep"
    inside.mkdir(parents=True)
    command = ("install", "claude-code", "--scope", "local", "--yes")
    first = machine.json(*command, cwd=inside)
    done = subprocess.run(
        [BINARY, "mcp", "get", "claude-comms"],
        cwd=inside, env=machine.environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    again = machine.json(*command, cwd=inside)
    removed = machine.json(*command, "--remove", cwd=inside)
    assert "Connected" in done.stdout, (done.stdout, done.stderr)
    assert [told["changed"] for told in (first, again, removed)] == [True, False, True]
    assert registered(tmp_path / ".claude.json", "local", machine.directory) == {}


def test_an_older_file_of_claude_codes_counts_where_it_is_there(machine: Cli, tmp_path: Path) -> None:
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / ".config.json").write_text("{}")
    told = machine.json("install", "claude-code", "--scope", "user", "--yes")
    assert told["path"] == str(tmp_path / ".claude" / ".config.json")
    assert "claude-comms" in registered(tmp_path / ".claude" / ".config.json", "user", machine.directory)


def test_a_directory_of_claude_codes_own_counts(machine: Cli, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    machine.environment["CLAUDE_CONFIG_DIR"] = str(tmp_path / "own")
    told = machine.json("install", "claude-code", "--scope", "user", "--yes")
    assert told["path"] == str(tmp_path / "own" / ".claude.json")
    assert "claude-comms" in registered(tmp_path / "own" / ".claude.json", "user", machine.directory)


def test_where_claude_codes_command_fails_the_old_definition_is_still_there(cli: Cli, tmp_path: Path) -> None:
    path = cli.directory / ".mcp.json"
    path.write_text(json.dumps({"mcpServers": {"claude-comms": OLD}}))
    (tmp_path / "bin").mkdir()
    refusing = tmp_path / "bin" / "claude"
    refusing.write_text(
        f'#!/bin/sh\ncase "$*" in *add-json*\\"mcp\\"*) echo full >&2; exit 1;; esac\nexec "{BINARY}" "$@"\n'
    )
    refusing.chmod(0o700)
    cli.environment |= {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1"}
    cli.environment["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{os.defpath}"
    done = cli.run("install", "claude-code", "--scope", "project", "--yes")
    assert (done.returncode, "full" in done.stderr) == (1, True)
    assert registered(path, "project", cli.directory) == {"claude-comms": OLD}


def test_half_a_character_in_the_file_stays(cli: Cli) -> None:
    cli.environment["PATH"] = os.defpath
    path = cli.directory / ".mcp.json"
    path.write_text('{"mcpServers": {}, "u": "\\ud800"}')
    assert cli.run("install", "claude-code", "--scope", "project", "--yes").returncode == 0
    assert json.loads(path.read_text())["u"] == "\ud800"


def test_a_file_that_is_a_link_stays_one(cli: Cli, tmp_path: Path) -> None:
    cli.environment["PATH"] = os.defpath
    (tmp_path / "elsewhere.json").write_text("{}")
    (cli.directory / ".mcp.json").symlink_to(tmp_path / "elsewhere.json")
    assert cli.run("install", "claude-code", "--scope", "project", "--yes").returncode == 0
    assert (cli.directory / ".mcp.json").is_symlink()
    assert "claude-comms" in registered(tmp_path / "elsewhere.json", "project", cli.directory)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("text", ["{ not json", "[]", '{"mcpServers": [], "projects": []}'])
def test_a_file_that_is_broken_is_left_alone_and_named(machine: Cli, tmp_path: Path, scope: str, text: str) -> None:
    path = machine.directory / ".mcp.json" if scope == "project" else tmp_path / ".claude.json"
    path.write_text(text)
    done = machine.run("install", "claude-code", "--scope", scope, "--yes")
    assert (done.returncode, path.name in done.stderr) == (2, True)
    assert path.read_text() == text


def test_what_else_stands_in_the_file_stays_and_so_does_its_mode(machine: Cli) -> None:
    path = machine.directory / ".mcp.json"
    path.write_text(json.dumps({"mcpServers": OTHERS["mcpServers"]}))
    path.chmod(0o640)
    assert machine.run("install", "claude-code", "--scope", "project", "--yes").returncode == 0
    assert machine.run("install", "claude-code", "--scope", "project", "--remove", "--yes").returncode == 0
    assert json.loads(path.read_text()) == {"mcpServers": OTHERS["mcpServers"]}


def test_nothing_is_changed_before_somebody_agreed(machine: Cli) -> None:
    done = machine.run("install", "claude-code", "--scope", "project")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert '"mcpServers"' in done.stderr, "the change was shown"
    assert str(machine.directory / ".mcp.json") in done.stderr
    assert not (machine.directory / ".mcp.json").exists()


def test_a_terminal_is_asked(cli: Cli) -> None:
    cli.environment["PATH"] = os.defpath
    refused = cli.terminal("install", "claude-code", "--scope", "project")
    refused.wait_for("Write it?")
    refused.type("n\n")
    assert refused.end() == 1
    assert not (cli.directory / ".mcp.json").exists()
    agreed = cli.terminal("install", "claude-code", "--scope", "project")
    agreed.wait_for("Write it?")
    agreed.type("y\n")
    assert agreed.end() == 0
    assert (cli.directory / ".mcp.json").exists()


def test_it_starts_our_server_and_nothing_of_the_projects(cli: Cli) -> None:
    """The server runs in the project: a file there must not be imported in place of a module of ours."""
    for name in ("claude_comms", "mcp", "anyio", "json"):
        (cli.directory / f"{name}.py").write_text("raise SystemExit('taken from the project')\n")
    cli.environment["PATH"] = os.defpath
    server = cli.json("install", "claude-code", "--scope", "project", "--yes")["server"]
    done = subprocess.run(
        [server["command"], *server["args"]],
        cwd=cli.directory, env={**cli.environment, **server["env"]}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_plugin_folder_is_one_that_claude_code_accepts(cli: Cli) -> None:
    done = subprocess.run(
        [BINARY, "plugin", "validate", PLUGIN_FOLDER],
        cwd=cli.directory, env={**cli.environment, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert (PLUGIN_FOLDER / "commands" / "ask-module.md").exists()
    servers = json.loads((PLUGIN_FOLDER / ".mcp.json").read_text())["mcpServers"]
    assert servers == {"claude-comms": {"type": "stdio", "command": "claude-comms", "args": ["mcp"]}}
