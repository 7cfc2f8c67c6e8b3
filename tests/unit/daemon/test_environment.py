"""What a daemon that somebody starts gets of their environment and settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import claude_comms
from claude_comms.daemon._environment import daemon_environment
from claude_comms.settings import Settings
from claude_comms.types import RetryPolicy

AMBIENT = {
    "PATH": "/bin",
    "HOME": "/home/me",
    "LC_ALL": "C.UTF-8",
    "SECRET_TOKEN": "no",
    "AWS_SECRET_ACCESS_KEY": "no",
    "LD_PRELOAD": "/evil.so",
    "CLAUDE_COMMS_DAEMON": "off",
    "CLAUDE_COMMS_GUARDIAN": "1:2",
    "CLAUDE_COMMS_MAX_INSTANCES": "7",
    "CLAUDE_COMMS_RETRY__ATTEMPTS": "9",
    "ANTHROPIC_API_KEY": "key",
}

GIVEN: dict[str, Any] = {
    "descriptors": (Path("/a"), Path("/b c")),
    "max_cost_usd": 1.5,
    "prewarm": {"marker/arangodb": 2},
    "retry": RetryPolicy(attempts=2, retry_on=(500,)),
    "anthropic_api_key": "from an argument",
    "mcp_servers": {"files": {"command": "serve", "env": {"TOKEN": "s"}}},
    "log_texts": True,
}


def test_only_what_is_allowed_is_passed_on(tmp_path: Path) -> None:
    passed = daemon_environment(Settings(home=tmp_path), AMBIENT)
    assert {name: passed.get(name) for name in AMBIENT} == {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LC_ALL": "C.UTF-8",
        "SECRET_TOKEN": None,
        "AWS_SECRET_ACCESS_KEY": None,
        "LD_PRELOAD": None,
        "CLAUDE_COMMS_DAEMON": None,
        "CLAUDE_COMMS_GUARDIAN": None,
        "CLAUDE_COMMS_MAX_INSTANCES": "7",
        "CLAUDE_COMMS_RETRY__ATTEMPTS": "9",
        "ANTHROPIC_API_KEY": "key",
    }
    assert passed["CLAUDE_COMMS_HOME"] == str(tmp_path)


@pytest.mark.parametrize("name", GIVEN)
def test_a_setting_given_as_an_argument_is_the_daemons_too(
    name: str, claude_comms_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Settings.load({"home": claude_comms_home, name: GIVEN[name]})
    for variable, value in daemon_environment(ours, {"CLAUDE_COMMS_RETRY__ATTEMPTS": "9"}).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("PATH", os.defpath)
    theirs = Settings.load()
    assert theirs.home == ours.home
    assert getattr(theirs, name) == getattr(ours, name)


def test_the_daemon_finds_this_very_package_from_another_directory(tmp_path: Path) -> None:
    passed = daemon_environment(
        Settings(home=tmp_path), {"PYTHONPATH": os.path.relpath(Path(claude_comms.__file__).parents[1])}
    )
    code = "import claude_comms; print(claude_comms.__file__)"
    done = subprocess.run([sys.executable, "-c", code], env=passed, cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == claude_comms.__file__
