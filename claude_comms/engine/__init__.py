"""Where descriptors, store, context and pool meet: takes a question its whole way."""

from __future__ import annotations

from claude_comms.engine._engine import LocalEngine

__all__ = ["LocalEngine"]
