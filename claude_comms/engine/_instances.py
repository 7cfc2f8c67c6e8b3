"""The pool's instances, as others see and steer them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import anyio

from claude_comms.errors import ConfigError, PermissionDeniedError
from claude_comms.text import shorten
from claude_comms.types import OFFLINE, Question, TurnRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from claude_comms.accounting import PriceTable
    from claude_comms.background.pool import Pool
    from claude_comms.engine._prompts import PromptBuilder
    from claude_comms.engine._route import Route, Router
    from claude_comms.settings import Settings
    from claude_comms.types import InstanceInfo, InstanceLimits, InstanceSpec, Pair

__all__ = ["LocalInstances"]


class LocalInstances:
    """Implements `protocols.Instances` over the pool of this process."""

    def __init__(
        self, pool: Pool, router: Router, prompts: PromptBuilder, settings: Settings, prices: PriceTable
    ) -> None:
        self._pool = pool
        self._router = router
        self._prompts = prompts
        self._settings = settings
        self._prices = prices
        self.settle: Callable[[], Awaitable[None]] = _nothing_to_settle
        """Makes durable what has changed of instances; awaited before a change is acknowledged."""

    async def start(
        self,
        pair: Pair,
        *,
        name: str | None = None,
        backend: str | None = None,
        model: str | None = None,
        grants: Sequence[str] | None = None,
        limits: InstanceLimits | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> InstanceInfo:
        """A new instance of a pair of known modules, its session open and warm.

        Raises what the backend's opening raises; PermissionDeniedError for a grant that the target does not have;
        ConfigError for a name that is none, for a cost limit where the model's price is not known, and for any of
        tokens or cost where the backend is not told them; StoreError where it cannot be kept.
        """
        _check_name(name)
        question = Question(pair.source, pair.target, _NOTHING, backend=backend, model=model)
        route = await self._router.route(question)
        spec = _narrowed(route.spec, grants, environment)
        self._check_limits(spec, limits)
        warm = await self._first_request(route, question)
        instance = await self._pool.start(spec, name, limits=limits, warm=warm)
        try:
            await self.settle()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await instance.stop()
            raise
        return self._pool.info(instance)

    async def keep_ready(self, pair: Pair, count: int) -> None:
        """From now on `count` instances of the pair wait for its next new conversations."""
        question = Question(pair.source, pair.target, _NOTHING)
        route = await self._router.route(question)

        async def request() -> TurnRequest:
            return await self._first_request(route, question)

        self._pool.keep_ready(route.spec, count, request)

    async def list(self, *, check: bool = False) -> list[InstanceInfo]:
        """The living ones and those that failed and were not stopped since, oldest first.

        With `check`, once each that is idle has shown that it answers; within 5 s or so.
        """
        if check:
            await self._pool.prove()
        known = sorted([*self._pool.list_failed(), *self._pool.list()], key=lambda instance: instance.created_at)
        return [self._pool.info(instance) for instance in known]

    async def get(self, wanted: str) -> InstanceInfo:
        """One of them, or of the last hundred that ended."""
        return self._pool.info(self._pool.get(wanted))

    async def pause(self, wanted: str) -> InstanceInfo:
        """Let the running turn finish; later questions wait until `resume` or their deadline."""
        instance = self._pool.pause(wanted)
        await self.settle()
        return self._pool.info(instance)

    async def resume(self, wanted: str) -> InstanceInfo:
        """Undo `pause`."""
        instance = self._pool.resume(wanted)
        await self.settle()
        return self._pool.info(instance)

    async def interrupt(self, wanted: str) -> InstanceInfo:
        """Stop the running turn; without one nothing happens."""
        await self._pool.interrupt(wanted)
        return self._pool.info(self._pool.get(wanted))

    async def hibernate(self, wanted: str) -> InstanceInfo:
        """Have it give up its process and keep its session; InstanceStateError for one that is busy."""
        return self._pool.info(self._pool.hibernate(wanted))

    async def stop(self, wanted: str) -> InstanceInfo:
        """End it, its running turn interrupted."""
        instance = await self._pool.stop(wanted)
        await self.settle()
        return self._pool.info(instance)

    def _check_limits(self, spec: InstanceSpec, limits: InstanceLimits | None) -> None:
        if limits is None or spec.backend == OFFLINE or (limits.max_cost_usd, limits.max_tokens) == (None, None):
            return
        if not self._router.features(spec.backend).metered:
            raise ConfigError(
                f"the backend {spec.backend} is not told what a turn uses, so neither tokens nor cost can be limited."
                " Choose another backend, or leave these limits out."
            )
        if limits.max_cost_usd is None or spec.model is None:
            return
        if self._prices.price(spec.model) is None:
            raise ConfigError(
                f"no price is known for {spec.model}, so the instance's cost cannot be limited."
                " Choose another model, or leave the cost limit out."
            )

    async def _first_request(self, route: Route, question: Question) -> TurnRequest:
        """What a session is warmed with: the system blocks of the pair, which no question changes."""
        prompt = await self._prompts.build(route, question)
        return TurnRequest(prompt, "", route.model, self._settings.max_output_tokens)


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_ID_BEGINS = "i_"


async def _nothing_to_settle() -> None:
    pass


_NOTHING = "(nothing has been asked yet)"


def _check_name(name: str | None) -> None:
    """Names stand in commands, paths of the API and lists: nothing in them may need quoting, or look like an id."""
    if name is not None and (not _NAME.fullmatch(name) or name.startswith(_ID_BEGINS)):
        raise ConfigError(
            f"name: {shorten(name, 70)!r} cannot name an instance. Use at most 64 letters, digits, '_', '.' and '-',"
            f" beginning with a letter or a digit, and not with {_ID_BEGINS!r}, as ids do."
        )


def _narrowed(spec: InstanceSpec, grants: Sequence[str] | None, environment: Mapping[str, str] | None) -> InstanceSpec:
    """`spec` with fewer grants and more variables."""
    if grants is not None:
        for grant in grants:
            if grant not in spec.grants:
                held = ", ".join(spec.grants) or "none"
                raise PermissionDeniedError(
                    f"{spec.pair.target} was not granted {grant!r} on {spec.backend}. It has: {held}."
                    " Ask for it in the descriptor's permissions, and register the module again.",
                    grant=grant,
                )
        spec = replace(spec, grants=tuple(grant for grant in spec.grants if grant in grants))
    for name in environment or {}:
        if not name.isidentifier():
            raise ConfigError(f"environment: {name!r} is no name of a variable. Use letters, digits and _.")
    return replace(spec, environment=tuple(sorted((environment or {}).items())))
