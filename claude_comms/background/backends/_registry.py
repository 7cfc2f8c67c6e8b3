"""Backends by name, and which one `auto` means."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from claude_comms.background.backends._login import api_key, login_variables
from claude_comms.background.backends.protocol import Backend, BackendHealth
from claude_comms.errors import ClaudeCommsError, ConfigError
from claude_comms.types import API, BRIDGE, CLAUDE_CODE, OFFLINE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from claude_comms.settings import Settings

__all__ = ["ENTRY_POINTS", "Choice", "backend_names", "choose_backend", "claude_code_health", "make_backend"]

ENTRY_POINTS = "claude_comms.backends"
"""The entry point group for other backends: each names a callable that takes the Settings and returns a Backend."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend's name and why it is that one, in words that can follow "because"."""

    backend: str
    reason: str


def backend_names() -> list[str]:
    """All names that may be asked for: ours, then those of entry points."""
    return list(dict.fromkeys([OFFLINE, API, CLAUDE_CODE, BRIDGE, *sorted(_registered())]))


def make_backend(name: str, settings: Settings) -> Backend:
    """The backend of that name. Its libraries are imported now; nothing is connected yet.

    ConfigError for a name that nobody knows, or an entry point that makes no backend.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name](settings)
    entry_point = _registered().get(name)
    if entry_point is None:
        raise ConfigError(f"no backend {name!r}. Known backends: {', '.join(backend_names())}.")
    return _from_entry_point(entry_point, settings)


def choose_backend(settings: Settings, *, target_path: Path | None) -> Choice:
    """The backend for a new conversation with a target that lives at `target_path`, if it has a place.

    What is set wins. `auto` is claude-code for a target with a path, else api, else claude-code, else offline;
    claude-code where it is usable, and api where a key is set.
    """
    if settings.backend != "auto":
        return Choice(settings.backend, f"it is set ({settings.origin('backend')})")
    claude_code = claude_code_health(settings)
    if claude_code.usable and target_path is not None:
        return Choice(CLAUDE_CODE, f"the target has a path, and {claude_code.reason}")
    if api_key(settings) is not None:
        return Choice(API, f"ANTHROPIC_API_KEY is set, and {_unused(claude_code, target_path)}")
    if claude_code.usable:
        return Choice(CLAUDE_CODE, f"ANTHROPIC_API_KEY is not set, and {claude_code.reason}")
    return Choice(OFFLINE, f"ANTHROPIC_API_KEY is not set, and {_unused(claude_code, target_path)}")


def claude_code_health(settings: Settings) -> BackendHealth:
    """Whether Claude Code can be used here: the Agent SDK, credentials, and a binary of a version that will do.

    Blocks for 3 s at most where a binary is met for the first time: it is asked for its version, once.
    """
    module = import_module("claude_comms.background.backends.claude_code")
    return module.look_for_claude_code(settings.home, settings.claude_code_binary, login_variables(settings))


def _unused(claude_code: BackendHealth, target_path: Path | None) -> str:
    if claude_code.usable and target_path is None:
        return "the target has no path"
    return f"Claude Code is not usable, because {claude_code.reason}"


def _offline(_settings: Settings) -> Backend:
    return import_module("claude_comms.background.backends.offline").OfflineBackend()


def _api(settings: Settings) -> Backend:
    module = import_module("claude_comms.background.backends.messages_api")
    return module.MessagesApiBackend(
        api_key=api_key(settings), base_url=settings.anthropic_base_url, retry=settings.retry
    )


def _claude_code(settings: Settings) -> Backend:
    module = import_module("claude_comms.background.backends.claude_code")
    return module.ClaudeCodeBackend(
        settings.home,
        binary=settings.claude_code_binary,
        variables=login_variables(settings),
        most_idle=settings.claude_code_warm,
        mcp_servers=settings.mcp_servers,
    )


def _bridge(settings: Settings) -> Backend:
    return import_module("claude_comms.background.backends.mcp_bridge").make_bridge(settings)


_BUILT_IN: dict[str, Callable[[Settings], Backend]] = {
    OFFLINE: _offline,
    API: _api,
    CLAUDE_CODE: _claude_code,
    BRIDGE: _bridge,
}


def _registered() -> dict[str, EntryPoint]:
    return {entry_point.name: entry_point for entry_point in entry_points(group=ENTRY_POINTS)}


def _from_entry_point(entry_point: EntryPoint, settings: Settings) -> Backend:
    place = f"backend {entry_point.name!r} (entry point {entry_point.value})"
    try:
        made: Any = entry_point.load()(settings)
    except ClaudeCommsError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{place} cannot be made: {type(error).__name__}: {error}. Repair or uninstall it."
        ) from error
    if not isinstance(made, Backend):
        raise ConfigError(f"{place} makes a {type(made).__name__}, which is no backend. Repair or uninstall it.")
    return made
