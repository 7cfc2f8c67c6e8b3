"""The daemon's instances and jobs, as others see and steer them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import anyio
from pydantic import BaseModel, ValidationError

from claude_comms.daemon.wire import InstanceInfoModel, InstanceModel, JobModel, JobRequestModel
from claude_comms.errors import ConfigError, DaemonError, DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    from claude_comms.daemon.client._rest import Rest
    from claude_comms.jobs import Job, JobRequest, JobState
    from claude_comms.settings import Settings
    from claude_comms.types import InstanceInfo, InstanceLimits, Pair, Question

    Model = TypeVar("Model", bound=BaseModel)

__all__ = ["RemoteInstances", "RemoteJobs", "checked", "one", "read"]

_POLL_S = 25.0
"""One wait for a job; longer ones are made of several."""
_BEYOND_S = 5.0


def one(wanted: str) -> str:
    """`wanted` as a part of a path."""
    return quote(wanted, safe="") or "%20"


def read(model: type[Model], values: Any) -> Model:
    """What the daemon answered. DaemonError where it is nothing that this version can read."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise DaemonError(
            f"the daemon's answer is none that this version can read ({model.__name__})."
            " Restart it: claude-comms daemon restart"
        ) from error


def checked(make: Callable[[], Model]) -> Model:
    """What is to be sent. ConfigError where the wire does not allow it."""
    try:
        return make()
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in problem["loc"])
        raise ConfigError(f"{field}: {problem['msg']}. Correct it, and try again.") from error


class RemoteInstances:
    """Implements `protocols.Instances` over the daemon."""

    def __init__(self, rest: Rest, settings: Settings) -> None:
        self._rest = rest
        self._settings = settings

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
        """A new instance in the daemon, its session open and warm. It outlives this client."""
        if backend is None and self._settings.backend != "auto":
            backend = self._settings.backend
        if model is None and self._settings.origin("model") != "default":
            model = self._settings.model
        wish = checked(
            lambda: InstanceModel.of(
                pair,
                name=name,
                backend=backend,
                model=model,
                grants=None if grants is None else tuple(grants),
                limits=limits,
                environment=environment,
            )
        )
        told = await self._rest.post("/v1/instances", wish.as_json(), within_s=self._settings.deadline_s)
        return read(InstanceInfoModel, told).inner()

    async def list(self, *, check: bool = False) -> list[InstanceInfo]:
        """The living ones, and those that failed and were not stopped since, oldest first; see `Instances.list`."""
        if check:
            await self._rest.get("/health")
        return [read(InstanceInfoModel, told).inner() for told in await self._rest.get("/v1/instances")]

    async def get(self, wanted: str) -> InstanceInfo:
        """One of them, or of the last that ended."""
        return read(InstanceInfoModel, await self._rest.get(f"/v1/instances/{one(wanted)}")).inner()

    async def pause(self, wanted: str) -> InstanceInfo:
        """Let the running turn finish; later questions wait until `resume` or their deadline."""
        return await self._steer(wanted, "pause")

    async def resume(self, wanted: str) -> InstanceInfo:
        """Undo `pause`."""
        return await self._steer(wanted, "resume")

    async def interrupt(self, wanted: str) -> InstanceInfo:
        """Stop the running turn; without one nothing happens."""
        return await self._steer(wanted, "interrupt")

    async def hibernate(self, wanted: str) -> InstanceInfo:
        """Have it give up its process and keep its session; InstanceStateError for one that is busy."""
        return await self._steer(wanted, "hibernate")

    async def stop(self, wanted: str) -> InstanceInfo:
        """End it, its running turn interrupted."""
        return await self._steer(wanted, "stop")

    async def _steer(self, wanted: str, what: str) -> InstanceInfo:
        return read(InstanceInfoModel, await self._rest.post(f"/v1/instances/{one(wanted)}/{what}")).inner()


class RemoteJobs:
    """Implements `protocols.Jobs` over the daemon."""

    def __init__(self, rest: Rest, complete: Callable[[Question], Question]) -> None:
        self._rest = rest
        self._complete = complete

    async def start(self, request: JobRequest) -> Job:
        """Queue it, durably. What is wrong with the question is raised here."""
        from dataclasses import replace

        question = self._complete(replace(request.question, check=None))
        wish = checked(lambda: JobRequestModel.of(replace(request, question=question)))
        return read(JobModel, await self._rest.post("/v1/jobs", wish.as_json())).inner()

    async def list(self, *, state: JobState | None = None, limit: int = 50) -> list[Job]:
        """The newest first."""
        return [read(JobModel, told).inner() for told in await self._rest.get("/v1/jobs", state=state, limit=limit)]

    async def get(self, wanted: str) -> Job:
        """One as it stands."""
        return read(JobModel, await self._rest.get(f"/v1/jobs/{one(wanted)}")).inner()

    async def wait(self, wanted: str, *, timeout_s: float | None = None) -> Job:
        """One once it has ended, across restarts of the daemon; DeadlineExceededError after `timeout_s` seconds."""
        give_up = None if timeout_s is None else anyio.current_time() + timeout_s
        while True:
            left_s = _POLL_S if give_up is None else max(0.0, min(_POLL_S, give_up - anyio.current_time()))
            job = await self._wait_once(wanted, left_s)
            if job is not None and job.state.ended:
                return job
            if give_up is not None and anyio.current_time() >= give_up:
                raise DeadlineExceededError(
                    f"job {wanted} has not ended within {timeout_s:g} s. Wait again, or cancel it:"
                    f" claude-comms cancel-job {wanted}",
                    deadline_s=timeout_s,
                )

    async def _wait_once(self, wanted: str, wait_s: float) -> Job | None:
        route = f"/v1/jobs/{one(wanted)}/wait"
        try:
            told = await self._rest.get(route, timeout_s=round(wait_s, 3), within_s=wait_s + _BEYOND_S)
        except DeadlineExceededError:
            return None
        return read(JobModel, told).inner()

    async def cancel(self, wanted: str) -> Job:
        """End it. A running one is interrupted, and what had come of its answer is stored as partial."""
        return read(JobModel, await self._rest.post(f"/v1/jobs/{one(wanted)}/cancel")).inner()
