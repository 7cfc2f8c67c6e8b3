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
    from claude_comms.communicator import (
        AsyncBackground,
        AsyncCommunicator,
        Background,
        InstanceManager,
        ModuleCommunicator,
        create_communicator,
    )
    from claude_comms.context import ContextGenerator
    from claude_comms.descriptors import BaseDescriptor, ModuleDescriptor
    from claude_comms.types import Conversation, Reply, RetryPolicy

__all__ = [
    "AsyncBackground",
    "AsyncCommunicator",
    "Background",
    "BaseDescriptor",
    "ContextGenerator",
    "Conversation",
    "InstanceManager",
    "ModuleCommunicator",
    "ModuleDescriptor",
    "Reply",
    "RetryPolicy",
    "create_communicator",
]

_ROOM_OF = {
    "AsyncBackground": "communicator",
    "AsyncCommunicator": "communicator",
    "Background": "communicator",
    "BaseDescriptor": "descriptors",
    "ContextGenerator": "context",
    "Conversation": "types",
    "InstanceManager": "communicator",
    "ModuleCommunicator": "communicator",
    "ModuleDescriptor": "descriptors",
    "Reply": "types",
    "RetryPolicy": "types",
    "create_communicator": "communicator",
}


def __getattr__(name: str) -> object:
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module 'claude_comms' has no attribute {name!r}")
    return getattr(import_module(f"claude_comms.{room}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
