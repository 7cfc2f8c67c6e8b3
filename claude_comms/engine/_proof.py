"""One short turn on a backend, to prove that it answers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from claude_comms.background.backends import choose_backend
from claude_comms.errors import ClaudeCommsError
from claude_comms.types import (
    ANONYMOUS,
    Check,
    InstanceSpec,
    Pair,
    Prompt,
    SystemBlock,
    TokenCount,
    TurnRequest,
    new_id,
)

if TYPE_CHECKING:
    from claude_comms.engine._engine import LocalEngine
    from claude_comms.types import TurnEvent, TurnResult

__all__ = ["prove_turn"]

_WITHIN_S = 60.0
_LONGEST_TOKENS = 256
_PAIR = Pair(ANONYMOUS, "doctor")
_PROMPT = Prompt(
    pair=_PAIR,
    system=(SystemBlock("target", "You answer a test of the connection, in one word."),),
    history=(),
    message="Are you there?",
    question="Are you there?",
    template="query",
    version="doctor",
    tokens=TokenCount(20),
)


async def prove_turn(engine: LocalEngine) -> Check:
    """Ask what a new conversation with a module that has a path would ask. Nothing is stored, no tool is granted."""
    started = time.perf_counter()
    try:
        choice = choose_backend(engine.settings, target_path=engine.settings.home)
        result = await _turn(engine, choice.backend)
    except ClaudeCommsError as error:
        return Check("one turn", ok=False, detail=str(error))
    spent = round((time.perf_counter() - started) * 1000, 3)
    usage = engine.prices.priced(result.usage, engine.settings.model)
    cost = "" if usage.cost_usd is None else f", {usage.cost_usd:.4f} USD"
    tokens = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    detail = (
        f"{choice.backend} answered, as it would for a module with a path:"
        f" {tokens} tokens in, {usage.output_tokens} out{cost}"
    )
    return Check("one turn", ok=True, detail=detail, duration_ms=spent)


async def _turn(engine: LocalEngine, backend: str) -> TurnResult:
    session = await engine.backend(backend).open(InstanceSpec(_PAIR, backend, engine.settings.model))
    request = TurnRequest(
        _PROMPT, new_id("c"), engine.settings.model, _LONGEST_TOKENS, deadline=anyio.current_time() + _WITHIN_S
    )
    try:
        return await session.ask(request, _ignore)
    finally:
        await session.close()


async def _ignore(_event: TurnEvent) -> None:
    pass
