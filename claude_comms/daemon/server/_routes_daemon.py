"""Routes about the daemon itself: status, health, metrics, stopping, listening."""

import os

import anyio
from fastapi import APIRouter
from starlette.responses import Response

from claude_comms.daemon.server._answers import Json
from claude_comms.daemon.server._service import ServiceOf
from claude_comms.daemon.wire import CheckModel, HealthModel, ListenModel, StatusModel, StopModel
from claude_comms.errors import DaemonError

__all__ = ["router"]

_HEALTH_WAIT_S = 5.0

router = APIRouter(tags=["daemon"])


@router.get("/health", responses={200: {"model": HealthModel}})
async def health(service: ServiceOf) -> Response:
    """How it is: asked of the pool, which has idle ones prove that they are alive, and tells when each last was."""
    instances = None
    with anyio.move_on_after(_HEALTH_WAIT_S):
        instances = await service.engine.instances.list(check=True)
    if instances is None:
        raise DaemonError(f"the pool did not answer within {_HEALTH_WAIT_S:g} s. Restart: claude-comms daemon restart")
    told = [{key: info.as_dict()[key] for key in ("instance_id", "state", "last_alive_at")} for info in instances]
    status = "draining" if service.draining else "ok"
    return Json(
        {
            "status": status,
            "version": service.version,
            "pid": os.getpid(),
            "uptime_s": service.uptime_s,
            "instances": told,
        }
    )


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(service: ServiceOf) -> Response:
    """Turns, queue, latency, tokens and cost, restarts, memory and events, in Prometheus's text format."""
    return Response(await service.metrics.text(service.engine), media_type=service.metrics.media_type)


@router.get("/v1/daemon", responses={200: {"model": StatusModel}})
async def status(service: ServiceOf) -> Response:
    """Which daemon this is, and where it is reached. Also told to clients of other versions."""
    return Json(service.status())


@router.post("/v1/daemon/stop", responses={200: {"model": StatusModel}})
async def stop(service: ServiceOf, wanted: StopModel | None = None) -> Response:
    """Take no more questions, let those that run finish, and end. Also for clients of other versions."""
    service.request_stop(None if wanted is None else wanted.drain_s)
    return Json({**service.status(), "draining": True})


@router.post("/v1/daemon/listen", responses={200: {"model": StatusModel}})
async def listen(service: ServiceOf, wanted: ListenModel) -> Response:
    """Listen on a loopback address, too."""
    service.admit()
    await service.listen(wanted.listen)
    return Json(service.status())


@router.get("/v1/diagnose", responses={200: {"model": list[CheckModel]}})
async def diagnose(service: ServiceOf, ask: bool = False) -> Response:
    """What is reachable, how fast, what is wrong; with `ask`, one turn proves the backend."""
    return Json([check.as_dict() for check in await service.engine.diagnose(ask=ask)])
