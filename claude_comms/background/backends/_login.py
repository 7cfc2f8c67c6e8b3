"""What the settings say of key and address, for the backends that need them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_comms.settings import Settings

__all__ = ["api_key", "login_variables"]


def api_key(settings: Settings) -> str | None:
    """The key for the Messages API; None where none is set."""
    key = settings.anthropic_api_key
    return (key.get_secret_value().strip() or None) if key is not None else None


def login_variables(settings: Settings) -> dict[str, str]:
    """The same, and the API's address, as Claude Code knows them."""
    given = {"ANTHROPIC_API_KEY": api_key(settings), "ANTHROPIC_BASE_URL": settings.anthropic_base_url}
    return {name: value for name, value in given.items() if value}
