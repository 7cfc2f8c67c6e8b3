"""Background questions where there is nobody to answer them in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from claude_comms.errors import DaemonError

if TYPE_CHECKING:
    from claude_comms.jobs import Job, JobRequest, JobState

__all__ = ["NoJobs"]


def _refused() -> NoReturn:
    raise DaemonError(
        "background questions need the daemon, and this engine lives in your own process."
        " Start it: claude-comms daemon start"
    )


class NoJobs:
    """Implements `protocols.Jobs` for an engine that ends with its caller: refuses everything, saying why."""

    async def start(self, request: JobRequest) -> Job:
        """DaemonError."""
        _refused()

    async def list(self, *, state: JobState | None = None, limit: int = 50) -> list[Job]:
        """DaemonError."""
        _refused()

    async def get(self, wanted: str) -> Job:
        """DaemonError."""
        _refused()

    async def wait(self, wanted: str, *, timeout_s: float | None = None) -> Job:
        """DaemonError."""
        _refused()

    async def cancel(self, wanted: str) -> Job:
        """DaemonError."""
        _refused()
