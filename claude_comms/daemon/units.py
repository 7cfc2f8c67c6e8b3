"""Units by which the system starts the daemon when its user logs in: systemd on Linux, launchd on macOS."""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from claude_comms.daemon._environment import import_path
from claude_comms.daemon._life import BEYOND_DRAINING_S, daemon_command
from claude_comms.errors import DaemonError

if TYPE_CHECKING:
    from claude_comms.settings import Settings

__all__ = ["Unit", "install", "launchd_unit", "own_unit", "systemd_unit", "uninstall"]

_SYSTEMD_NAME = "claude-comms.service"
_LAUNCHD_LABEL = "claude-comms.daemon"
_WITHIN_S = 30.0
_NO_KEY = "A daemon that it starts has no ANTHROPIC_API_KEY: this shell's is not written down."


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit file: shown to the user, then written. The commands make it take effect, and end that."""

    path: Path
    text: str
    enable: tuple[tuple[str, ...], ...]
    disable: tuple[tuple[str, ...], ...]
    key_advice: str = ""
    """That a daemon started by it has no API key, and how to give it one."""


def own_unit(settings: Settings) -> Unit:
    """The unit for this system."""
    return launchd_unit(settings) if sys.platform == "darwin" else systemd_unit(settings)


def systemd_unit(settings: Settings) -> Unit:
    """A systemd user unit. It holds no secret: a key belongs into the user manager's environment, or a login."""
    command = " ".join(_quoted(word).replace("$", "$$") for word in daemon_command())
    environment = "\n".join(
        f"Environment={_quoted(f'{name}={value}')}" for name, value in _environment(settings).items()
    )
    stop_s = round(settings.drain_s + BEYOND_DRAINING_S + 15)
    text = f"""\
[Unit]
Description=claude-comms: keeps instances of Claude for the modules of {_literal(str(settings.home))}
StartLimitIntervalSec=180
StartLimitBurst=5

[Service]
Type=exec
ExecStart={command}
{environment}
Restart=on-failure
RestartSec=1
# The guardian passes the signal on; everything else in the group ends by what the daemon does, or is killed after it.
KillMode=mixed
TimeoutStopSec={stop_s}

[Install]
WantedBy=default.target
"""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    control = ("systemctl", "--user")
    path = base / "systemd" / "user" / _SYSTEMD_NAME
    return Unit(
        path=path,
        text=text,
        key_advice=(
            f"{_NO_KEY} To give it one, write ANTHROPIC_API_KEY=... into a file of mode 0600, and name that file in"
            f" {path}.d/key.conf:\n\n[Service]\nEnvironmentFile=/path/of/that/file\n\nThen: systemctl --user"
            f" daemon-reload && systemctl --user restart {_SYSTEMD_NAME}"
        ),
        enable=((*control, "daemon-reload"), (*control, "enable", "--now", _SYSTEMD_NAME)),
        disable=((*control, "disable", "--now", _SYSTEMD_NAME),),
    )


def launchd_unit(settings: Settings) -> Unit:
    """A launchd agent. It holds no secret."""
    values = {
        "Label": _LAUNCHD_LABEL,
        "ProgramArguments": daemon_command(),
        "EnvironmentVariables": _environment(settings),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ProcessType": "Background",
        "ExitTimeOut": round(settings.drain_s + BEYOND_DRAINING_S + 15),
        "StandardErrorPath": str(settings.home / "logs" / "daemon.err"),
    }
    path = Path.home() / "Library" / "LaunchAgents" / f"{_LAUNCHD_LABEL}.plist"
    domain = f"gui/{os.getuid()}"
    return Unit(
        path=path,
        text=plistlib.dumps(values, sort_keys=False).decode(),
        key_advice=(
            f"{_NO_KEY} To give it one, stop it and start it from a shell that has the key: claude-comms daemon restart"
        ),
        enable=(("launchctl", "bootstrap", domain, str(path)),),
        disable=(("launchctl", "bootout", f"{domain}/{_LAUNCHD_LABEL}"),),
    )


def install(unit: Unit, *, enable: bool = True) -> None:
    """Write the unit to the user's own place, and make it take effect. DaemonError where that fails."""
    try:
        unit.path.parent.mkdir(parents=True, exist_ok=True)
        unit.path.write_text(unit.text, encoding="utf-8")
    except OSError as error:
        raise DaemonError(f"{unit.path} cannot be written: {error.strerror}. Write it by hand.") from error
    if enable:
        _run_all(unit.enable)


def uninstall(unit: Unit, *, disable: bool = True) -> bool:
    """Undo `install`; False where nothing was installed."""
    if not unit.path.exists():
        return False
    if disable:
        _run_all(unit.disable)
    unit.path.unlink(missing_ok=True)
    return True


def _environment(settings: Settings) -> dict[str, str]:
    return {
        "CLAUDE_COMMS_HOME": str(settings.home),
        "PATH": os.environ.get("PATH", os.defpath),
        **import_path(),
    }


def _run_all(commands: tuple[tuple[str, ...], ...]) -> None:
    for command in commands:
        program = shutil.which(command[0])
        if program is None:
            raise DaemonError(
                f"{command[0]} is not installed here. Start the daemon by hand: claude-comms daemon start"
            )
        try:
            subprocess.run(  # noqa: S603 - one of the fixed commands above
                [program, *command[1:]], check=True, capture_output=True, text=True, timeout=_WITHIN_S
            )
        except subprocess.CalledProcessError as error:
            raise DaemonError(f"{' '.join(command)} failed: {error.stderr.strip() or error}.") from error
        except (OSError, subprocess.SubprocessError) as error:
            raise DaemonError(f"{' '.join(command)} failed: {error}.") from error


def _quoted(word: str) -> str:
    """`word` as one word of a systemd unit, whatever is in it."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{_literal(escaped)}"'


def _literal(text: str) -> str:
    return text.replace("%", "%%")
