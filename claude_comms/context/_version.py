"""The context version: one hash over all that went into a prompt."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from claude_comms.errors import ContextError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["digest"]


def digest(parts: Iterable[str]) -> str:
    """32 hexadecimal digits that stand for `parts`, in that order: the same in every process.

    Each part goes in behind its length, so that moving a character from one part to the next shows.
    ContextError where a part is not valid Unicode: such a text could not be sent either.
    """
    whole = hashlib.blake2b(digest_size=16)
    for part in parts:
        try:
            content = part.encode()
        except UnicodeEncodeError as error:
            raise ContextError(
                f"not valid Unicode (lone surrogate) in {part[max(0, error.start - 20) : error.start]!r}…."
                " Correct the descriptor, component or history it comes from."
            ) from error
        whole.update(len(content).to_bytes(8))
        whole.update(content)
    return whole.hexdigest()
