"""The pool's instances, as others see and steer them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_comms.types import InstanceInfo

if TYPE_CHECKING:
    from claude_comms.background.instance import Instance
    from claude_comms.background.pool import Pool
    from claude_comms.engine._route import Router
    from claude_comms.types import Pair

__all__ = ["LocalInstances"]


class LocalInstances:
    """Implements `protocols.Instances` over the pool of this process."""

    def __init__(self, pool: Pool, router: Router) -> None:
        self._pool = pool
        self._router = router

    async def start(
        self, pair: Pair, *, name: str | None = None, backend: str | None = None, model: str | None = None
    ) -> InstanceInfo:
        """A new instance of a pair of known modules, its session open. Raises what the backend's opening raises."""
        spec = self._router.spec(pair, backend=backend, model=model)
        return _info(await self._pool.start(spec, name))

    async def list(self) -> list[InstanceInfo]:
        """The living ones, oldest first."""
        return [_info(instance) for instance in self._pool.list()]

    async def get(self, wanted: str) -> InstanceInfo:
        """One of them, or of the last hundred that ended."""
        return _info(self._pool.get(wanted))

    async def pause(self, wanted: str) -> InstanceInfo:
        """Let the running turn finish; later questions wait until `resume` or their deadline."""
        return _info(self._pool.pause(wanted))

    async def resume(self, wanted: str) -> InstanceInfo:
        """Undo `pause`."""
        return _info(self._pool.resume(wanted))

    async def interrupt(self, wanted: str) -> InstanceInfo:
        """Stop the running turn; without one nothing happens."""
        await self._pool.interrupt(wanted)
        return _info(self._pool.get(wanted))

    async def stop(self, wanted: str) -> InstanceInfo:
        """End it, its running turn interrupted."""
        return _info(await self._pool.stop(wanted))


def _info(instance: Instance) -> InstanceInfo:
    return InstanceInfo(
        instance_id=instance.instance_id,
        name=instance.name,
        source=instance.spec.pair.source,
        target=instance.spec.pair.target,
        backend=instance.spec.backend,
        model=instance.spec.model,
        state=instance.state,
        thread_id=instance.thread_id,
        turns=instance.turns,
        created_at=instance.created_at,
        last_used_at=instance.last_used,
    )
