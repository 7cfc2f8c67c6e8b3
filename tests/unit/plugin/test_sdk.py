"""Without the SDK."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from claude_comms.errors import ConfigError
from claude_comms.plugin import serve_stdio
from claude_comms.plugin.registration import planned
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("missing", ["mcp", "mcp_types"])
def test_without_the_sdk_it_is_said_what_to_install(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ConfigError, match=r"claude-module-comms\[mcp\]"):
        serve_stdio(Settings())


def test_the_daemon_and_the_command_line_do_not_pay_for_the_sdk() -> None:
    code = "import sys, claude_comms.cli._app, claude_comms.plugin, claude_comms.plugin.registration;"
    code += "print([name for name in sys.modules if name.partition('.')[0] in ('mcp', 'mcp_types')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_server_that_could_not_run_is_not_registered_and_one_that_is_can_be_taken_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ConfigError, match=r"claude-module-comms\[mcp\]"):
        planned(Settings(), "project", tmp_path)
    assert not planned(Settings(), "project", tmp_path, remove=True).needed
