"""Parts for testing modules without a key: a loopback Messages API, a scripted backend, conformance suites.

The names of the loopback API are loaded when they are first used.
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

__all__ = ["FAULTS", "Answer", "Fault", "LoopbackAPI", "RecordedRequest", "Text", "Thinking", "ToolUse"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'claude_comms.testing' has no attribute {name!r}")
    return getattr(import_module("claude_comms.testing.loopback"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
