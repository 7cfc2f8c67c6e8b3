"""What counts as an address from which something is imported, or which a card names."""

from __future__ import annotations

import re

from claude_comms.text import shorten

__all__ = ["ADDRESS", "NO_ADDRESS", "shown"]

ADDRESS = re.compile(r"https?://[^/@\s]+(/\S*)?", re.IGNORECASE)
"""An http or https address without a login in it."""

NO_ADDRESS = "this is no http or https address without a login in it. Give one such as https://example.org/mcp."
"""Without what was given: a login would be in it."""


def shown(address: str) -> str:
    """The address as errors name it: without what often is a key."""
    return shorten(re.split(r"[?#]", address, maxsplit=1)[0], 300)
