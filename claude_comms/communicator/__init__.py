"""The public face: one line to ask another module, synchronous or not, with the conversation kept."""

from __future__ import annotations

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
