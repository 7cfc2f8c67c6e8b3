"""Routes about what runs in the background: instances and jobs."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from claude_comms.daemon.server._answers import Json
from claude_comms.daemon.server._queries import Limit, WantedId
from claude_comms.daemon.server._service import ServiceOf
from claude_comms.daemon.wire import InstanceInfoModel, InstanceModel, JobModel, JobRequestModel, TurnsModel
from claude_comms.jobs import JobState

__all__ = ["router"]

router = APIRouter(prefix="/v1")


@router.get("/instances", responses={200: {"model": list[InstanceInfoModel]}}, tags=["instances"])
async def instances(service: ServiceOf) -> Response:
    """The living ones, and those that failed and were not stopped since, oldest first."""
    return Json([info.as_dict() for info in await service.engine.instances.list()])


@router.post("/instances", responses={200: {"model": InstanceInfoModel}}, tags=["instances"])
async def start_instance(service: ServiceOf, wanted: InstanceModel) -> Response:
    """Start one; it is warm when this answers."""
    service.admit()
    return Json((await service.engine.instances.start(wanted.pair, **wanted.options())).as_dict())


@router.get("/instances/{wanted}", responses={200: {"model": InstanceInfoModel}}, tags=["instances"])
async def instance(service: ServiceOf, wanted: WantedId) -> Response:
    """One of them, or of the last that ended."""
    return Json((await service.engine.instances.get(wanted)).as_dict())


@router.post("/instances/{wanted}/pause", responses={200: {"model": InstanceInfoModel}}, tags=["instances"])
async def pause(service: ServiceOf, wanted: WantedId) -> Response:
    """Let its turn finish; later questions wait."""
    return Json((await service.engine.instances.pause(wanted)).as_dict())


@router.post("/instances/{wanted}/resume", responses={200: {"model": InstanceInfoModel}}, tags=["instances"])
async def resume(service: ServiceOf, wanted: WantedId) -> Response:
    """Undo a pause."""
    return Json((await service.engine.instances.resume(wanted)).as_dict())


@router.post("/instances/{wanted}/interrupt", responses={200: {"model": InstanceInfoModel}}, tags=["instances"])
async def interrupt(service: ServiceOf, wanted: WantedId) -> Response:
    """Stop its turn."""
    return Json((await service.engine.instances.interrupt(wanted)).as_dict())


@router.post("/instances/{wanted}/hibernate", responses={200: {"model": InstanceInfoModel}}, tags=["instances"])
async def hibernate(service: ServiceOf, wanted: WantedId) -> Response:
    """Have it give up its process and keep its session; 409 for one that is busy."""
    return Json((await service.engine.instances.hibernate(wanted)).as_dict())


@router.post("/instances/{wanted}/stop", responses={200: {"model": InstanceInfoModel}}, tags=["instances"])
async def stop(service: ServiceOf, wanted: WantedId) -> Response:
    """End it; its conversation stays."""
    return Json((await service.engine.instances.stop(wanted)).as_dict())


@router.post(
    "/instances/{wanted}/turns",
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
    tags=["instances"],
)
async def store_turns(service: ServiceOf, wanted: WantedId, had: TurnsModel) -> Response:
    """Store turns that it had in a terminal, as those of its conversation, or of a new one."""
    thread_id = await service.engine.store_turns(wanted, had.inner())
    return Json({"thread_id": thread_id, "stored": len(had.turns)})


@router.get("/jobs", responses={200: {"model": list[JobModel]}}, tags=["jobs"])
async def jobs(service: ServiceOf, state: JobState | None = None, limit: Limit = 50) -> Response:
    """Background questions, the newest first."""
    return Json([job.as_dict() for job in await service.engine.jobs.list(state=state, limit=limit)])


@router.post("/jobs", responses={200: {"model": JobModel}}, tags=["jobs"])
async def start_job(service: ServiceOf, wanted: JobRequestModel) -> Response:
    """Queue a question, durably."""
    service.admit()
    return Json((await service.engine.jobs.start(wanted.inner())).as_dict())


@router.get("/jobs/{wanted}", responses={200: {"model": JobModel}}, tags=["jobs"])
async def job(service: ServiceOf, wanted: WantedId) -> Response:
    """One as it stands."""
    return Json((await service.engine.jobs.get(wanted)).as_dict())


@router.get("/jobs/{wanted}/wait", responses={200: {"model": JobModel}}, tags=["jobs"])
async def wait(
    service: ServiceOf, wanted: WantedId, timeout_s: Annotated[float, Query(ge=0, le=600)] = 30.0
) -> Response:
    """One once it has ended; 504 where that takes longer than `timeout_s`: ask again then."""
    return Json((await service.engine.jobs.wait(wanted, timeout_s=timeout_s)).as_dict())


@router.post("/jobs/{wanted}/cancel", responses={200: {"model": JobModel}}, tags=["jobs"])
async def cancel(service: ServiceOf, wanted: WantedId) -> Response:
    """End it; a running one is interrupted."""
    return Json((await service.engine.jobs.cancel(wanted)).as_dict())
