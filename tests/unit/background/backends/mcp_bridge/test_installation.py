"""What ``install bridge`` would do, and what npm may know and run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from claude_comms.background.backends.mcp_bridge import _sources, installation
from claude_comms.background.backends.mcp_bridge._sources import PROGRAM, install_directory
from claude_comms.background.backends.mcp_bridge.installation import npm_environment, planned
from claude_comms.errors import BackendUnavailableError
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A machine whose npm does nothing, and sources of a bridge to install."""
    shipped = tmp_path / "shipped"
    script(shipped / PROGRAM, "true")
    (shipped / "package.json").write_text('{"version": "0.1.0"}')
    for module in (_sources, installation):
        monkeypatch.setattr(module, "shipped_directory", lambda: shipped)
    node = script(tmp_path / "node" / "node", "echo v20.0.0")
    script(tmp_path / "node" / "npm", "exit 0")
    claude = script(tmp_path / "claude", "echo '2.1.329 (Claude Code)'")
    return Settings(home=tmp_path / "home", node_binary=node, claude_code_binary=claude)


def installed(settings: Settings) -> Path:
    """The bridge in the home, with the packages that it needs."""
    folder = install_directory(settings.home)
    script(folder / PROGRAM, "true")
    (folder / "package.json").write_text('{"version": "0.1.0"}')
    for name in ("ws", "@anthropic-ai/claude-agent-sdk"):
        (folder / "node_modules" / name).mkdir(parents=True)
        (folder / "node_modules" / name / "package.json").write_text('{"main": "main.js"}')
        (folder / "node_modules" / name / "main.js").touch()
    return folder


def test_npm_runs_no_script_of_a_package_and_brings_no_second_claude_code(machine: Settings) -> None:
    command = planned(machine, remove=False).command
    assert command[0].endswith("/npm")
    assert {"--ignore-scripts", "--omit=dev", "--omit=optional"} <= set(command)
    alone = Settings(home=machine.home, node_binary=machine.node_binary, claude_code_binary=machine.home / "missing")
    assert "--omit=optional" not in planned(alone, remove=False).command


def test_npm_knows_its_own_settings_and_no_login_of_ours() -> None:
    settings = {"npm_config_registry": "x", "NPM_CONFIG_CAFILE": "y", "PATH": "/bin", "HTTPS_PROXY": "p"}
    ours = {"ANTHROPIC_API_KEY": "k", "CLAUDE_COMMS_HOME": "h", "AWS_SECRET_ACCESS_KEY": "s", "NODE_OPTIONS": "o"}
    assert npm_environment({**settings, **ours}) == settings


def test_a_bridge_that_is_there_is_installed_again_only_where_it_differs(machine: Settings) -> None:
    folder = installed(machine)
    assert not planned(machine, remove=False).needed
    (folder / PROGRAM).write_text("something else")
    assert planned(machine, remove=False).needed
    (folder / PROGRAM).unlink()
    assert planned(machine, remove=False).needed


def test_an_npm_that_brings_nothing_changes_nothing(machine: Settings) -> None:
    with pytest.raises(BackendUnavailableError, match="did not bring what the bridge needs"):
        planned(machine, remove=False).apply()
    assert list((machine.home / "bridge").iterdir()) == []


def test_only_this_version_is_removed(machine: Settings) -> None:
    folder = installed(machine)
    other = folder.with_name("0.0.9")
    other.mkdir()
    planned(machine, remove=True).apply()
    assert not folder.exists()
    assert other.exists()
    assert not planned(machine, remove=True).needed
