"""The public face: one line to ask another module, synchronous or not, with the conversation kept.

The names are loaded when they are first used: a command needs only some of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_comms.communicator._async import AsyncCommunicator
    from claude_comms.communicator._background import AsyncBackground, AsyncEventStream, Background, EventStream
    from claude_comms.communicator._holder import EngineHolder
    from claude_comms.communicator._instances import AsyncInstanceManager, InstanceManager
    from claude_comms.communicator._streams import AsyncMessageStream, MessageStream
    from claude_comms.communicator._sync import ModuleCommunicator, create_communicator

__all__ = [
    "AsyncBackground",
    "AsyncCommunicator",
    "AsyncEventStream",
    "AsyncInstanceManager",
    "AsyncMessageStream",
    "Background",
    "EngineHolder",
    "EventStream",
    "InstanceManager",
    "MessageStream",
    "ModuleCommunicator",
    "create_communicator",
]

_HOME_OF = {
    "AsyncBackground": "_background",
    "AsyncCommunicator": "_async",
    "AsyncEventStream": "_background",
    "AsyncInstanceManager": "_instances",
    "AsyncMessageStream": "_streams",
    "Background": "_background",
    "EngineHolder": "_holder",
    "EventStream": "_background",
    "InstanceManager": "_instances",
    "MessageStream": "_streams",
    "ModuleCommunicator": "_sync",
    "create_communicator": "_sync",
}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'claude_comms.communicator' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
