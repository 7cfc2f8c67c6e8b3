"""``install bridge``: shown, agreed to, repeated, undone; and what is there then runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import claude_agent_sdk
import pytest

from claude_comms.background.backends.mcp_bridge._sources import SHIPPED, shipped_directory
from claude_comms.background.backends.mcp_bridge.installation import npm_environment
from claude_comms.testing import LoopbackAPI

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.process.conftest import Cli

BINARY = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"


@pytest.fixture
def machine(cli: Cli) -> Iterator[Cli]:
    """A machine with npm as its user has set it, and Claude Code against the loopback API."""
    user = npm_environment(os.environ).get("npm_config_userconfig") or str(Path.home() / ".npmrc")
    with LoopbackAPI(lambda _: "As rows.") as api:
        cli.environment |= {"npm_config_userconfig": user, "ANTHROPIC_BASE_URL": api.base_url, "ANTHROPIC_API_KEY": "k"}
        cli.environment |= {"CLAUDE_COMMS_CLAUDE_CODE_BINARY": str(BINARY), "CLAUDE_COMMS_DAEMON": "off"}
        yield cli


def test_it_is_installed_once_runs_and_is_undone_whole(machine: Cli) -> None:
    first = machine.json("install", "bridge", "--yes")
    folder = Path(first["path"])
    assert (first["client"], first["installed"], first["changed"]) == ("bridge", True, True)
    assert folder == machine.home / "bridge" / first["version"]
    assert first["node"]
    assert {path.name for path in folder.iterdir()} == {"node_modules", *SHIPPED} & {
        "node_modules", *(path.name for path in shipped_directory().iterdir()),
    }  # fmt: skip
    assert not (folder / "node_modules" / "typescript").exists()
    assert [path.name for path in folder.parent.iterdir()] == [first["version"]]
    assert machine.json("install", "bridge", "--yes")["changed"] is False
    [check] = [check for check in machine.json("doctor") if check["name"] == "backend bridge"]
    assert check["ok"] is True
    for word in ("Node", "SDK 0.3.", str(folder), "Claude Code"):
        assert word in check["detail"]
    answer = machine.json("query-module", "arangodb", "How?", "--from", "marker", "--backend", "bridge")
    assert (answer["response"], answer["backend"]) == ("As rows.", "bridge")
    undone = machine.json("install", "bridge", "--remove", "--yes")
    assert (undone["installed"], undone["changed"]) == (False, True)
    assert not (machine.home / "bridge").exists()
    assert machine.json("install", "bridge", "--remove")["changed"] is False


def test_a_bridge_that_lacks_a_part_is_installed_anew(machine: Cli) -> None:
    folder = Path(machine.json("install", "bridge", "--yes")["path"])
    shutil.rmtree(folder / "node_modules" / "ajv")
    failed = machine.json("query-module", "arangodb", "How?", "--from", "marker", "--backend", "bridge", code=1)
    assert "Cannot find package 'ajv'" in failed["error"]["message"]
    assert "--token-file" not in failed["error"]["message"]
    assert machine.json("install", "bridge", "--yes")["changed"] is True
    assert (folder / "node_modules" / "ajv").is_dir()
    assert machine.json("install", "bridge", "--yes")["changed"] is False


def test_where_nobody_can_agree_nothing_is_done(machine: Cli) -> None:
    refused = machine.run("install", "bridge")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert "would be copied" in refused.stderr
    assert not (machine.home / "bridge").exists()


def test_an_npm_that_fails_leaves_nothing_and_is_quoted(machine: Cli) -> None:
    machine.environment["npm_config_registry"] = "http://127.0.0.1:9/"
    machine.environment["npm_config_fetch_retries"] = "0"
    machine.environment["npm_config_cache"] = str(machine.home.parent / "npm-cache")
    failed = machine.run("install", "bridge", "--yes")
    assert failed.returncode == 1
    assert "npm could not install the bridge" in failed.stderr
    assert "Nothing was changed" in failed.stderr
    assert list((machine.home / "bridge").iterdir()) == []
