"""What a daemon that somebody starts gets of their environment and settings."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, SecretStr

if TYPE_CHECKING:
    from claude_comms.settings import Settings

__all__ = ["daemon_environment", "import_path"]

_NAMES = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE",
    "CLAUDE_CONFIG_DIR", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG",
})  # fmt: skip
_BEGINNINGS = ("LC_", "XDG_", "CLAUDE_COMMS_", "ANTHROPIC_", "CLAUDE_CODE_")
_NOT_PASSED_ON = frozenset(
    {"CLAUDE_COMMS_GUARDIAN", "CLAUDE_COMMS_READY_FD", "CLAUDE_COMMS_TURN", "CLAUDE_CODE_ENTRYPOINT"}
)


def daemon_environment(settings: Settings, ambient: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a daemon: what is allowed of `ambient`, and the settings that were given as arguments.

    Settings go as variables, never into the command line, which every user of the machine can read.
    """
    ambient = os.environ if ambient is None else ambient
    passed = {
        name: value
        for name, value in ambient.items()
        if (name in _NAMES or name.startswith(_BEGINNINGS)) and name not in _NOT_PASSED_ON
    }
    for name, field in type(settings).model_fields.items():
        if settings.origin(name) == "argument" or name == "home":
            variable = str(field.validation_alias or f"CLAUDE_COMMS_{name.upper()}")
            passed = {key: value for key, value in passed.items() if not key.startswith(f"{variable}__")}
            passed[variable] = _as_text(name, getattr(settings, name))
    passed.pop("CLAUDE_COMMS_DAEMON", None)  # whoever starts one wants one
    return {**passed, **import_path(passed.get("PYTHONPATH", ""))}


def import_path(given: str = "") -> dict[str, str]:
    """The variable by which a daemon, which works in another directory, finds this very package."""
    paths = [str(Path(entry).absolute()) for entry in given.split(os.pathsep) if entry]
    ours = Path(__file__).parents[2]
    if ours.name not in ("site-packages", "dist-packages") and str(ours) not in paths:
        paths.insert(0, str(ours))
    return {"PYTHONPATH": os.pathsep.join(paths)} if paths else {}


def _as_text(name: str, value: Any) -> str:
    if name == "descriptors":
        return os.pathsep.join(str(path) for path in value)
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _plain(value: Any) -> Any:
    """`value` as JSON values, secrets as they are."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name)) for name in value.model_fields_set}
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in cast("Mapping[object, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in cast("list[object]", value)]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    return str(value)
