"""What processes that are gone have left is swept, and nothing of those that live."""

from __future__ import annotations

import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from claude_comms.background.backends.claude_runtime.orphans import MARK
from claude_comms.background.backends.claude_runtime.workspace import CREDENTIALS, Scratch, Workspace
from claude_comms.files import private_dir
from claude_comms.mcp_servers import McpServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    workspace.open()
    return workspace


@pytest.fixture
def gone(tmp_path: Path) -> Scratch:
    """The scratch folder of a process that has ended."""
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    return Scratch(private_dir(tmp_path / "claude-code" / "scratch" / f"{ended.pid}-abcd"))


@pytest.fixture
def orphan(gone: Scratch) -> Iterator[subprocess.Popen[bytes]]:
    """What that process had started, and nobody has stopped."""
    process = subprocess.Popen(["/bin/sleep", "600"], env={MARK: str(gone.folder)})
    yield process
    process.kill()
    process.wait()


def transcript(workspace: Workspace, session_id: str) -> Path:
    """A session's file, as Claude Code leaves it."""
    folder = workspace.config / "projects" / "-module"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{session_id}.jsonl").write_text("{}\n")
    return folder / f"{session_id}.jsonl"


def test_what_a_dead_process_started_is_killed_and_its_folder_removed(
    workspace: Workspace, gone: Scratch, orphan: subprocess.Popen[bytes]
) -> None:
    bystander = subprocess.Popen(["/bin/sleep", "600"], env={MARK: f"{gone.folder}-other"})
    try:
        workspace.sweep()
        assert orphan.wait(10) == -9
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    assert not gone.folder.exists()


def test_what_a_living_process_uses_stays(workspace: Workspace) -> None:
    mine = workspace.scratch()
    child = subprocess.Popen(["/bin/sleep", "600"], env={MARK: str(mine.folder)})
    try:
        workspace.sweep()
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()
    assert mine.folder.is_dir()


def test_sessions_that_nobody_will_ask_for_go_with_their_process_unless_somebody_uses_them(
    workspace: Workspace, gone: Scratch
) -> None:
    unanswered, used, answered = (str(uuid.uuid4()) for _ in range(3))
    paths = {name: transcript(workspace, name) for name in (unanswered, used, answered)}
    gone.unanswered.write_text(f"{unanswered}\n{used}")
    lease = workspace.lease(used)
    assert lease.take()
    workspace.sweep()
    lease.release()
    assert {name for name, path in paths.items() if path.exists()} == {used, answered}


def test_a_sweep_is_due_once_in_ten_minutes(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert workspace.sweep_due
    workspace.open()
    assert not workspace.sweep_due


def test_an_mcp_server_does_not_inherit_our_login(workspace: Workspace) -> None:
    scratch = workspace.scratch()
    told = scratch.told_servers({"shop": McpServer(command="shop", env={"TOKEN": SecretStr("its own")})})
    environment = told["shop"]["env"]
    assert environment["TOKEN"] == "its own"
    assert [environment[name] for name in CREDENTIALS] == [""] * len(CREDENTIALS)
    assert environment["CLAUDE_COMMS_HOME"] == str(scratch.home)
