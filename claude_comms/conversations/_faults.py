"""Faults of the store that the engine mends itself, so that callers do not meet them."""

from __future__ import annotations

from claude_comms.errors import StoreError

__all__ = ["ConversationChangedError", "IdempotencyKeyTakenError", "PendingQuestionError"]


class ConversationChangedError(StoreError):
    """Someone else has added to the conversation: it has `found` messages, not `expected` ones."""

    def __init__(self, thread_id: str, *, expected: int, found: int) -> None:
        self.expected = expected
        self.found = found
        super().__init__(
            f"the conversation {thread_id} has {found} messages, not {expected}: another process goes on with it."
            " Build the prompt again."
        )
        self.thread_id = thread_id


class IdempotencyKeyTakenError(StoreError):
    """Another question has this `key` already. Its turn is found with `by_key`."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"a question with the idempotency key {key!r} is stored already. Look it up by its key.")


class PendingQuestionError(StoreError):
    """A question of the thread waits for its answer; `owner` asked it."""

    def __init__(self, thread_id: str, owner: str) -> None:
        self.owner = owner
        super().__init__(f"the conversation {thread_id} waits for an answer. Ask again when it has come.")
        self.thread_id = thread_id
