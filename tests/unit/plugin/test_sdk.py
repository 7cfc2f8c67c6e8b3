"""Without the SDK."""

from __future__ import annotations

import subprocess
import sys

import pytest

from claude_comms.errors import ConfigError
from claude_comms.plugin import serve_stdio
from claude_comms.settings import Settings


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
