"""How instances think: one file for each backend, and their common protocol."""

from claude_comms.background.backends._registry import (
    Choice,
    backend_names,
    choose_backend,
    claude_code_health,
    make_backend,
)
from claude_comms.background.backends.protocol import Backend, BackendHealth, Session

__all__ = [
    "Backend",
    "BackendHealth",
    "Choice",
    "Session",
    "backend_names",
    "choose_backend",
    "claude_code_health",
    "make_backend",
]
