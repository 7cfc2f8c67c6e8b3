"""What was said: store, search, export.

The names are loaded when they are first used: whoever speaks to a daemon needs no SQL.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_comms.conversations._faults import ConversationChangedError, IdempotencyKeyTakenError
    from claude_comms.conversations.export import EXPORT_FORMATS, export_conversation, extension
    from claude_comms.conversations.store import ConversationStore, KeyedTurn, Thread
    from claude_comms.types import SearchHit

__all__ = [
    "EXPORT_FORMATS",
    "ConversationChangedError",
    "ConversationStore",
    "IdempotencyKeyTakenError",
    "KeyedTurn",
    "SearchHit",
    "Thread",
    "export_conversation",
    "extension",
]

_HOME_OF = {
    "claude_comms.conversations._faults": ("ConversationChangedError", "IdempotencyKeyTakenError"),
    "claude_comms.conversations.export": ("EXPORT_FORMATS", "export_conversation", "extension"),
    "claude_comms.conversations.store": ("ConversationStore", "KeyedTurn", "Thread"),
    "claude_comms.types": ("SearchHit",),
}
_MODULE_OF = {name: module for module, names in _HOME_OF.items() for name in names}


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'claude_comms.conversations' has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
