"""Whether Claude Code can be used, and what the user is told where it cannot."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from claude_comms.background.backends.claude_code import ClaudeCodeBackend, _backend
from claude_comms.background.backends.claude_runtime.binary import find_binary, read_version
from claude_comms.errors import BackendUnavailableError
from claude_comms.types import InstanceSpec, Pair

pytestmark = pytest.mark.anyio

SPEC = InstanceSpec(Pair("a", "b"), "claude-code")


def fake(path: Path, says: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


async def test_with_a_binary_and_a_key_it_is_usable_and_tells_versions_but_no_secret(tmp_path: Path) -> None:
    backend = ClaudeCodeBackend(tmp_path, variables={"ANTHROPIC_API_KEY": "sk-secret"})
    health = await backend.health()
    assert health.usable
    assert health.facts["version"] == "2.1.329"
    assert "SDK bundle" in health.facts["binary"]
    assert "sk-secret" not in str(health)


async def test_without_a_login_it_says_how_to_log_in(tmp_path: Path) -> None:
    health = await ClaudeCodeBackend(tmp_path).health()
    assert not health.usable
    assert "ANTHROPIC_API_KEY" in health.hint
    assert "/login" in health.hint
    (tmp_path / "claude-code" / "config").mkdir(parents=True)
    (tmp_path / "claude-code" / "config" / ".credentials.json").write_text("{}")
    assert (await ClaudeCodeBackend(tmp_path).health()).usable


@pytest.mark.parametrize(
    ("says", "told"), [("2.1.197 (Claude Code)", "or later is needed"), ("hello", "does not answer as Claude Code")]
)
async def test_a_binary_that_is_too_old_or_something_else_is_refused(says: str, told: str, tmp_path: Path) -> None:
    backend = ClaudeCodeBackend(tmp_path / "home", binary=fake(tmp_path / "claude", says))
    health = await backend.health()
    assert not health.usable
    assert told in f"{health.reason} {health.hint}"
    with pytest.raises(BackendUnavailableError, match=told):
        await backend.open(SPEC)


async def test_a_binary_that_hangs_is_refused_and_nothing_of_it_is_left(tmp_path: Path) -> None:
    binary, pids = tmp_path / "claude", tmp_path / "pids"
    binary.write_text(f"#!/bin/sh\nsleep 4243 &\necho $$ $! > '{pids}'\nwait\n")
    binary.chmod(0o755)
    health = await ClaudeCodeBackend(tmp_path / "home", binary=binary).health()
    assert "timed out after 3" in f"{health.reason}{health.hint}"
    assert _left(pids) == []


async def test_what_a_binary_leaves_behind_after_its_answer_is_stopped(tmp_path: Path) -> None:
    binary, pids = tmp_path / "claude", tmp_path / "pids"
    binary.write_text(f"#!/bin/sh\nsleep 4243 >/dev/null 2>&1 &\necho $! > '{pids}'\necho 2.1.329\n")
    binary.chmod(0o755)
    assert read_version(binary) == (2, 1, 329)
    assert _left(pids) == []


def _left(pids: Path) -> list[str]:
    """Those of the processes that do not end within ten seconds; a killed one takes a moment, or is a zombie."""
    stats = [Path("/proc", pid, "stat") for pid in pids.read_text().split()]
    until = time.monotonic() + 10
    while (left := [stat.parent.name for stat in stats if _runs(stat)]) and time.monotonic() < until:
        time.sleep(0.01)
    return left


def _runs(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_a_module_path_that_cannot_be_looked_at_is_told_with_the_path(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300)
    with pytest.raises(BackendUnavailableError, match=f"the path of b .*{path}"):
        await ClaudeCodeBackend(tmp_path).open(replace(SPEC, directory=path))


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
async def test_a_module_below_an_unreadable_directory_is_told_with_the_path(tmp_path: Path) -> None:
    path = tmp_path / "closed" / "module"
    path.mkdir(parents=True)
    path.parent.chmod(0)
    try:
        with pytest.raises(BackendUnavailableError, match=f"Permission denied.*{path}"):
            await ClaudeCodeBackend(tmp_path).open(replace(SPEC, directory=path))
    finally:
        path.parent.chmod(0o700)


async def test_a_setting_that_names_no_program_is_refused(tmp_path: Path) -> None:
    health = await ClaudeCodeBackend(tmp_path, binary=tmp_path / "none").health()
    assert not health.usable
    assert str(tmp_path / "none") in health.reason


async def test_without_the_sdk_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_backend, "sdk_version", lambda: None)
    with pytest.raises(BackendUnavailableError, match=r"claude-module-comms\[claude-code\]"):
        await ClaudeCodeBackend(tmp_path).open(SPEC)
    health = await ClaudeCodeBackend(tmp_path).health()
    assert "pip install" in health.hint


async def test_another_version_of_the_sdk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_backend, "sdk_version", lambda: "0.3.0")
    with pytest.raises(BackendUnavailableError, match=r"0\.3\.0 is installed, and only 0\.2\.186"):
        await ClaudeCodeBackend(tmp_path).open(SPEC)


def test_path_is_searched_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path / "claude", "2.1.400 (Claude Code)")
    monkeypatch.setenv("PATH", str(tmp_path))
    bundled = find_binary()
    assert bundled is not None
    assert bundled.origin == "SDK bundle"

    def missing(_name: str) -> None:
        return None

    monkeypatch.setattr("importlib.util.find_spec", missing)
    on_path = find_binary()
    assert on_path is not None
    assert (on_path.origin, on_path.path) == ("PATH", tmp_path / "claude")


def test_importing_the_backend_does_not_import_the_sdk() -> None:
    import subprocess

    code = "import sys, claude_comms.background.backends.claude_code; print('claude_agent_sdk' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
