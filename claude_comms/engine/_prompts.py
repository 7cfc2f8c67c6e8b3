"""Prompts for questions: the generator's work, with the thread's history and the right token count."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import anyio

from claude_comms.context import estimate_tokens
from claude_comms.errors import BackendError, DeadlineExceededError
from claude_comms.types import TokenCount

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from claude_comms.background.backends.protocol import Backend
    from claude_comms.context import ContextGenerator
    from claude_comms.engine._route import Route
    from claude_comms.settings import Settings
    from claude_comms.types import HistoryMessage, Prompt, Question

__all__ = ["PromptBuilder"]

_NEAR_THE_BUDGET = 0.5
"""From this share of the budget on, an estimate is not good enough: it may be off by half."""


_COUNT_WAIT_S = 5.0
"""Longest wait for a count, and a quarter of what is left until the deadline: the answer matters more."""


@runtime_checkable
class _CountsTokens(Protocol):
    """A backend whose API counts tokens exactly."""

    async def count_tokens(self, prompt: Prompt, model: str, *, timeout_s: float) -> TokenCount: ...


class PromptBuilder:
    """Builds prompts. Estimates tokens, and asks the backend for a count where it matters."""

    def __init__(self, settings: Settings, generator: ContextGenerator, backend: Callable[[str], Backend]) -> None:
        self._settings = settings
        self._generator = generator
        self._backend = backend

    async def build(
        self, route: Route, question: Question, *, exact: bool = False, deadline: float = math.inf
    ) -> Prompt:
        """The prompt for `question` on the route's thread; `deadline` is on anyio's clock.

        With `exact`, and from half the budget on, tokens are counted by the backend where it can. ContextError and
        its kinds where the prompt cannot be built.
        """
        history = route.thread.history if route.thread else ()
        prompt = self._generate(route, question, history, 1.0)
        if not exact and prompt.tokens.tokens < _NEAR_THE_BUDGET * self._settings.context_budget_tokens:
            return prompt
        counted = await self._count(route, prompt, deadline)
        if counted is None:
            return prompt
        scale = counted.tokens / max(1, prompt.tokens.tokens)
        if counted.tokens > self._settings.context_budget_tokens or prompt.omitted:
            prompt = self._generate(route, question, history, scale)
            counted = await self._count(route, prompt, deadline) or prompt.tokens
        return replace(prompt, tokens=counted)

    def _generate(self, route: Route, question: Question, history: Sequence[HistoryMessage], scale: float) -> Prompt:
        """One run of the generator; `scale` corrects its estimates by what a count has shown."""

        def count(text: str) -> TokenCount:
            return TokenCount(round(estimate_tokens(text).tokens * scale))

        return self._generator.build(
            route.source,
            route.target,
            question.prompt,
            history=history,
            data=question.data,
            template=question.template,
            context=question.context,
            schema=question.schema,
            budget_tokens=self._settings.context_budget_tokens,
            count=estimate_tokens if scale == 1.0 else count,
        )

    async def _count(self, route: Route, prompt: Prompt, deadline: float) -> TokenCount | None:
        """The backend's own count; None where it has none to give, and the estimate stays what it says it is."""
        backend = self._backend(route.backend)
        if not isinstance(backend, _CountsTokens):
            return None
        left_s = deadline - anyio.current_time()
        try:
            return await backend.count_tokens(prompt, route.model, timeout_s=min(_COUNT_WAIT_S, left_s / 4))
        except (BackendError, DeadlineExceededError):
            return None
