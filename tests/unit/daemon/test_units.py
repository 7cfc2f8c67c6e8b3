"""The units that are shown to the user, and then written."""

from __future__ import annotations

import configparser
import plistlib
import sys
from typing import TYPE_CHECKING

import pytest

from claude_comms.daemon import units
from claude_comms.daemon.units import Unit, install, launchd_unit, systemd_unit, uninstall
from claude_comms.errors import DaemonError
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-key")
    return Settings.load({"home": tmp_path / "my $home 100%"})


def test_the_systemd_unit_starts_the_daemon_and_lets_it_drain(settings: Settings, tmp_path: Path) -> None:
    unit = systemd_unit(settings)
    assert unit.path == tmp_path / "config" / "systemd" / "user" / "claude-comms.service"
    parsed = configparser.RawConfigParser(strict=False, comment_prefixes=("#",))
    parsed.optionxform = str  # pyright: ignore[reportAttributeAccessIssue] - as its documentation says
    parsed.read_string(unit.text)
    service = parsed["Service"]
    assert service["ExecStart"] == f'"{sys.executable}" "-m" "claude_comms" "daemon" "run"'
    assert service["KillMode"] == "mixed"
    assert service["Restart"] == "on-failure"
    assert int(service["TimeoutStopSec"]) > settings.drain_s + units.BEYOND_DRAINING_S
    assert f'Environment="CLAUDE_COMMS_HOME={tmp_path}/my $home 100%%"' in unit.text
    assert unit.enable[-1] == ("systemctl", "--user", "enable", "--now", "claude-comms.service")


def test_the_launchd_agent_says_the_same(settings: Settings, tmp_path: Path) -> None:
    unit = launchd_unit(settings)
    assert unit.path == tmp_path / "Library" / "LaunchAgents" / "claude-comms.daemon.plist"
    values = plistlib.loads(unit.text.encode())
    assert values["ProgramArguments"] == [sys.executable, "-m", "claude_comms", "daemon", "run"]
    assert values["EnvironmentVariables"]["CLAUDE_COMMS_HOME"] == str(tmp_path / "my $home 100%")
    assert values["KeepAlive"] == {"SuccessfulExit": False}


@pytest.mark.parametrize("make", [systemd_unit, launchd_unit])
def test_a_unit_holds_no_key(settings: Settings, make: Callable[[Settings], Unit]) -> None:
    assert "canary-key" not in make(settings).text


def test_a_unit_is_written_and_removed(settings: Settings) -> None:
    unit = systemd_unit(settings)
    install(unit, enable=False)
    assert unit.path.read_text() == unit.text
    assert uninstall(unit, disable=False)
    assert not unit.path.exists()
    assert not uninstall(unit, disable=False)


def test_its_commands_are_run_and_what_they_say_is_told(tmp_path: Path) -> None:
    done = tmp_path / "done"
    install(Unit(tmp_path / "u", "text", enable=(("touch", str(done)),), disable=()))
    assert done.exists()
    with pytest.raises(DaemonError, match=r"^ls "):
        install(Unit(tmp_path / "u", "text", enable=(("ls", str(tmp_path / "missing")),), disable=()))
    with pytest.raises(DaemonError, match="not installed here"):
        install(Unit(tmp_path / "u", "text", enable=(("no-such-program-here",),), disable=()))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DaemonError, match="cannot be written"):
        install(Unit(tmp_path / "file" / "unit", "text", (), ()))


@pytest.mark.parametrize("made", [systemd_unit, launchd_unit])
def test_a_unit_says_that_its_daemon_has_no_key_and_holds_none(
    settings: Settings, made: Callable[[Settings], Unit]
) -> None:
    unit = made(settings)
    assert "has no ANTHROPIC_API_KEY" in unit.key_advice
    assert "canary" not in unit.key_advice + unit.text


def test_the_way_to_give_systemd_a_key_is_a_file_of_ones_own(settings: Settings) -> None:
    unit = systemd_unit(settings)
    assert f"{unit.path}.d/key.conf" in unit.key_advice
    assert "EnvironmentFile=" in unit.key_advice
    assert "0600" in unit.key_advice
