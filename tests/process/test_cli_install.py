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


def test_an_older_definition_is_replaced(machine: Cli) -> None:
    old: dict[str, Any] = {"mcpServers": {"claude-comms": {"type": "stdio", "command": "/old", "args": [], "env": {}}}}
    (machine.directory / ".mcp.json").write_text(json.dumps(old))
    assert machine.json("install", "claude-code", "--scope", "project", "--yes")["changed"] is True
    [server] = registered(machine.directory / ".mcp.json", "project", machine.directory).values()
    assert server["command"] != "/old"


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


def test_a_file_that_is_no_json_is_left_alone(cli: Cli) -> None:
    cli.environment["PATH"] = os.defpath
    (cli.directory / ".mcp.json").write_text("{ not json")
    done = cli.run("install", "claude-code", "--scope", "project", "--yes")
    assert (done.returncode, ".mcp.json" in done.stderr) == (2, True)
    assert (cli.directory / ".mcp.json").read_text() == "{ not json"


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
