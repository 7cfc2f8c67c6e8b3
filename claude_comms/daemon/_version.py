"""Which claude-comms this is."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, version

__all__ = ["own_version"]


@cache
def own_version() -> str:
    """The installed distribution's version; ``0+checkout`` for a tree that is not installed."""
    try:
        return version("claude-module-comms")
    except PackageNotFoundError:
        return "0+checkout"
