"""The way to the daemon: found, or started with a word about it, or refused with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_comms.cli import _console as console
from claude_comms.errors import DaemonError, DaemonNotRunningError
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from claude_comms.communicator import Background, InstanceManager

__all__ = ["background", "managing", "require_daemon", "stays_here", "told_by_daemon", "uses_daemon"]


def uses_daemon(settings: Settings, *, no_daemon: bool) -> bool:
    """Whether a command that asks goes through the daemon; where it does, one is running afterwards."""
    if stays_here(settings, no_daemon=no_daemon):
        return False
    _ensure(settings)
    return True


def stays_here(settings: Settings, *, no_daemon: bool) -> bool:
    """Whether the user wants everything in this process."""
    return no_daemon or settings.daemon == "off"


def require_daemon(settings: Settings, *, no_daemon: bool) -> None:
    """A daemon is running afterwards. DaemonError where the user wants none: there is no other way."""
    if stays_here(settings, no_daemon=no_daemon):
        kept = "--no-daemon" if no_daemon else f"daemon = off ({settings.origin('daemon')})"
        raise DaemonError(
            f"jobs and events live in the daemon, and {kept} keeps this command in its own process, which has none."
            " Leave that out."
        )
    _ensure(settings)


def managing(*, no_daemon: bool, watching: bool = False) -> InstanceManager:
    """The daemon's instances, or this process's where the user wants no daemon: they end with it.

    Who is only `watching` starts no other daemon once this one has been stopped.
    """
    settings = Settings.load()
    in_daemon = uses_daemon(settings, no_daemon=no_daemon)
    from claude_comms.communicator import InstanceManager

    return InstanceManager(settings, use_background=None if watching and in_daemon else in_daemon)


def background(*, no_daemon: bool, watching: bool = False) -> Background:
    """The daemon's jobs and events; `watching` as for `managing`."""
    settings = Settings.load()
    require_daemon(settings, no_daemon=no_daemon)
    from claude_comms.communicator import Background

    return Background(settings, use_background=None if watching else True)


def _ensure(settings: Settings) -> None:
    from claude_comms.daemon import ensure, find

    if find(settings, patient=True) is None:
        console.note("The daemon is not running; starting it. To stop it: claude-comms daemon stop")
    ensure(settings)


def told_by_daemon(settings: Settings, route: str, **parameters: object) -> Any:
    """What the running daemon answers to a GET. DaemonNotRunningError without one."""
    from urllib.parse import urlencode

    from claude_comms.daemon import find, short_request

    info = find(settings)
    if info is None:
        raise DaemonNotRunningError("no daemon is running. Start it: claude-comms daemon start")
    return short_request(info.socket, "GET", f"{route}?{urlencode(parameters, doseq=True)}" if parameters else route)
