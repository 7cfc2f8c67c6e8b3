"""``config show``: each setting, its value, and where it came from."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from claude_comms.cli import _console as console
from claude_comms.mcp_servers import McpServer
from claude_comms.settings import Settings
from claude_comms.types import RetryPolicy

__all__ = ["show"]

_MASK = "********"


def show(*, as_json: bool) -> None:
    """Print all settings; secrets are masked."""
    settings = Settings.load()
    rows = [(name, _shown(getattr(settings, name)), settings.origin(name)) for name in Settings.model_fields]
    if as_json:
        console.document([{"name": name, "value": value, "origin": origin} for name, value, origin in rows])
        return
    console.table(
        [console.Column("SETTING"), console.Column("VALUE", flexible=True), console.Column("FROM", flexible=True)],
        [[name, _text(value), origin] for name, value, origin in rows],
    )


def _shown(value: Any) -> Any:
    """A setting as a JSON value without secrets."""
    match value:
        case SecretStr():
            return _MASK
        case RetryPolicy():
            return {name: getattr(value, name) for name in RetryPolicy.__slots__}
        case McpServer():
            return {name: _shown(part) for name, part in value if name in value.model_fields_set}
        case dict():
            return {key: _shown(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
        case str():
            return _without_login(value)
        case tuple():
            return [str(item) for item in value]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case int() | float() | None:
            return value
        case _:
            return str(value)


def _without_login(text: str) -> str:
    """`text`, and where it is an address with a login in it, that login masked."""
    parts = urlsplit(text)
    if "@" not in parts.netloc:
        return text
    return urlunsplit(parts._replace(netloc=f"{_MASK}@{parts.netloc.rpartition('@')[2]}"))


def _text(value: Any) -> str:
    match value:
        case None:
            return "-"
        case list():
            return ", ".join(map(str, value)) or "-"  # pyright: ignore[reportUnknownArgumentType]
        case dict():
            return ", ".join(f"{key}={item}" for key, item in value.items()) or "-"  # pyright: ignore[reportUnknownVariableType]
        case _:
            return str(value)
