"""What was said: store, search, export."""

from __future__ import annotations

from claude_comms.conversations._faults import ConversationChangedError, IdempotencyKeyTakenError
from claude_comms.conversations._search import SearchHit
from claude_comms.conversations.export import EXPORT_FORMATS, export_conversation, extension
from claude_comms.conversations.store import ConversationStore, KeyedTurn, Thread

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
