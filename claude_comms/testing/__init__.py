"""Parts for testing modules without a key: a loopback Messages API, a scripted backend, conformance suites.

The names are loaded when they are first used. The answers of `ScriptedBackend` stand in
`claude_comms.testing.scripted`, the conformance suites in `claude_comms.testing.conformance`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_comms.testing.loopback import (
        FAULTS,
        Answer,
        Fault,
        LoopbackAPI,
        RecordedRequest,
        Text,
        Thinking,
        ToolUse,
    )
    from claude_comms.testing.scripted import ScriptedBackend

__all__ = [
    "FAULTS",
    "Answer",
    "Fault",
    "LoopbackAPI",
    "RecordedRequest",
    "ScriptedBackend",
    "Text",
    "Thinking",
    "ToolUse",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'claude_comms.testing' has no attribute {name!r}")
    module = "scripted" if name == "ScriptedBackend" else "loopback"
    return getattr(import_module(f"claude_comms.testing.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
