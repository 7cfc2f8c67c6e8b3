"""An instance as others see it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import anyio

from claude_comms.types import InstanceInfo

if TYPE_CHECKING:
    from claude_comms.background.instance import Instance

__all__ = ["describe"]


def describe(instance: Instance, *, waiting: int = 0) -> InstanceInfo:
    """What is known of it now. Only on its event loop."""
    return InstanceInfo(
        instance_id=instance.instance_id,
        name=instance.name,
        source=instance.spec.pair.source,
        target=instance.spec.pair.target,
        backend=instance.spec.backend,
        model=instance.spec.model,
        state=instance.state,
        thread_id=instance.own_thread_id or instance.thread_id,
        turns=instance.turns,
        created_at=instance.created_at,
        last_used_at=instance.last_used,
        pid=instance.pid,
        rss_bytes=instance.rss_bytes,
        waiting=waiting,
        restarts=instance.restarts,
        usage=instance.usage,
        last_alive_at=_as_date(instance.last_alive),
        grants=instance.spec.grants,
        limits=instance.limits,
        failure=str(instance.failure) if instance.failure is not None else None,
    )


def _as_date(moment: float | None) -> datetime | None:
    """A moment on `anyio.current_time()`'s clock as a date."""
    if moment is None:
        return None
    return datetime.now(UTC) - timedelta(seconds=anyio.current_time() - moment)
