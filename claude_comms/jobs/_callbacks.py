"""Whoever wants to know that a job has ended: told once it has, by a command or a URL."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio

from claude_comms.errors import ConfigError
from claude_comms.jobs import _url
from claude_comms.jobs._command import check_command, run_command

if TYPE_CHECKING:
    import httpx

    from claude_comms.jobs._job import Job

__all__ = ["Callbacks"]

_TELL_WITHIN_S = 30.0
_ONE_TRY_WITHIN_S = 10.0
_RETRY_WAIT_S = 0.3


class Callbacks:
    """Tells callbacks that jobs have ended. `allow_remote` lets URLs name other machines."""

    def __init__(
        self, *, allow_remote: bool, timeout_s: float = _TELL_WITHIN_S, retry_wait_s: float = _RETRY_WAIT_S
    ) -> None:
        self._allow_remote = allow_remote
        self._timeout_s = timeout_s
        self._retry_wait_s = retry_wait_s
        self._client: httpx.AsyncClient | None = None

    async def check(self, callback: str | tuple[str, ...] | None) -> None:
        """ConfigError for a callback that would not be told: better now than at the job's end."""
        if callback is None:
            return
        if isinstance(callback, str):
            await _url.find_place(callback, allow_remote=self._allow_remote)
        else:
            check_command(callback)

    async def tell(self, job: Job) -> str:
        """Tell the job's callback, in bounded time, and say in one line what came of it. Never raises."""
        assert job.callback is not None  # noqa: S101 - only those with one are told
        body = json.dumps(job.as_dict()).encode()
        if not isinstance(job.callback, str):
            return await run_command(job.callback, body, timeout_s=self._timeout_s)
        with anyio.move_on_after(self._timeout_s):
            return await self._post(job.callback, body)
        return f"failed: no answer within {self._timeout_s:g} s"

    async def close(self) -> None:
        """Let go of connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def _post(self, url: str, body: bytes) -> str:
        try:
            place = await _url.find_place(url, allow_remote=self._allow_remote)
        except ConfigError as error:
            return f"refused: {error}"
        return await _url.post_to(place, body, self._open_client(), wait_s=self._retry_wait_s)

    def _open_client(self) -> httpx.AsyncClient:
        if self._client is None:
            import httpx

            # The environment may name a proxy, which would be another machine.
            self._client = httpx.AsyncClient(timeout=_ONE_TRY_WITHIN_S, trust_env=False, follow_redirects=False)
        return self._client
