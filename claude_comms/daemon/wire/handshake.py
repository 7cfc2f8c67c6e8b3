"""Do a client and the daemon speak the same version, with the same settings and credentials?

Each setting is told as a hash that is keyed with the daemon's token, so whoever sees it learns nothing of a key,
and whoever has no access to the home cannot make one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, SecretStr

from claude_comms.errors import DaemonError, DaemonVersionError

if TYPE_CHECKING:
    from claude_comms.settings import Settings

__all__ = [
    "OTHER_SETTINGS",
    "SETTINGS_HEADER",
    "VERSION_HEADER",
    "check_client",
    "differing_settings",
    "settings_digest",
]

VERSION_HEADER = "Claude-Comms-Version"
SETTINGS_HEADER = "Claude-Comms-Settings"

OTHER_SETTINGS = "the daemon was started with other settings than these"
"""How the refusal of other settings begins."""

_EACH_QUESTIONS_OWN = frozenset({"home", "daemon", "backend", "model", "deadline_s", "max_cost_usd"})
"""These travel with each question, or say where the daemon is, so they may differ."""

_LOGINS = ("ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
"""Credentials that are no settings, and that instances get from the environment of whoever started them."""

_UNREADABLE = "settings (not readable)"


def settings_digest(settings: Settings, key: str, environment: Mapping[str, str] | None = None) -> str:
    """The settings and credentials that must be equal on both sides, as a JSON object of short hashes: for a header.

    `key` is the content of the token's file; `environment` the process's own where it is not given.
    """
    ambient = os.environ if environment is None else environment
    names = sorted(set(type(settings).model_fields) - _EACH_QUESTIONS_OWN)
    digests = {name: _digest(name, getattr(settings, name), key) for name in names}
    digests |= {name: _digest(name, ambient.get(name), key) for name in _LOGINS}
    return json.dumps(digests, separators=(",", ":"))


def differing_settings(ours: str, theirs: str) -> list[str]:
    """The names of the settings in which two digests differ; one odd name where `theirs` is no digest."""
    try:
        told: object = json.loads(theirs)
    except (ValueError, RecursionError):
        return [_UNREADABLE]
    if not isinstance(told, dict):
        return [_UNREADABLE]
    mine: dict[str, str] = json.loads(ours)
    other = cast("dict[str, object]", told)
    return sorted(str(name)[:100] for name in {*mine, *other} if mine.get(name) != other.get(name))


def check_client(version: str | None, settings: str | None, *, our_version: str, our_settings: str) -> None:
    """Raise DaemonVersionError or DaemonError where a client says that it is another; None says nothing."""
    if version is not None and version != our_version:
        raise DaemonVersionError(
            f"the daemon is of version {our_version}, this client of version {version[:100]}."
            " Restart it: claude-comms daemon restart",
            daemon_version=our_version,
            client_version=version[:100],
        )
    if settings is not None and (names := differing_settings(our_settings, settings)):
        raise DaemonError(
            f"{OTHER_SETTINGS}: {', '.join(names[:20])}. Restart it with yours: claude-comms daemon restart"
        )


def _digest(name: str, value: object, key: str) -> str:
    content = json.dumps([name, _plain(value)], sort_keys=True, ensure_ascii=True)
    # blake2b takes at most 64 bytes of key.
    secret = hashlib.sha256(key.strip().encode("utf-8", "surrogatepass")).digest()
    return hashlib.blake2b(content.encode(), key=secret, digest_size=8).hexdigest()


def _plain(value: Any) -> Any:
    """A setting as JSON values, secrets as they are."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("list[object]", value)]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)
