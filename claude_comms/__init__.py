"""Software modules ask each other questions, and a background Claude that knows the module answers.

    from claude_comms import create_communicator

    with create_communicator("marker") as comm:
        print(comm.send_message(target="arangodb", prompt="How should I store my page blocks?").response)

The public names are loaded when they are first used, so that importing the package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_comms.types import Conversation, Reply, RetryPolicy

__all__ = [
    "Conversation",
    "Reply",
    "RetryPolicy",
]

_HOME_OF = {
    "Conversation": "claude_comms.types",
    "Reply": "claude_comms.types",
    "RetryPolicy": "claude_comms.types",
}


def __getattr__(name: str) -> object:
    module = _HOME_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'claude_comms' has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
