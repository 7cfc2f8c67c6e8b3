"""Tools that look at what goes on and what it costs."""

# No postponed annotations here: the SDK reads them.
from typing import Annotated, Any

from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult
from pydantic import Field

from claude_comms.errors import DaemonError
from claude_comms.plugin._desk import Desk
from claude_comms.plugin._offering import answered, offer
from claude_comms.plugin._shapes import Activity, Instances, Task, UsageTable
from claude_comms.plugin._tools_tasks import task_shape
from claude_comms.protocols import Engine, UsageBy
from claude_comms.types import Conversation, InstanceInfo, InstanceState

__all__ = ["add_looking_tools"]

_AT_WORK = (InstanceState.STARTING, InstanceState.BUSY, InstanceState.PAUSED)
_INSTANCE = (
    "instance_id", "name", "source", "target", "backend", "model", "state", "thread_id", "turns", "waiting",
    "last_used_at", "usage", "failure",
)  # fmt: skip
_CONVERSATION = ("thread_id", "source", "target", "title", "updated_at", "message_count")


def add_looking_tools(server: MCPServer[Any], desk: Desk) -> None:
    """Offer activity, list_instances and usage."""

    async def activity(
        limit: Annotated[int, Field(ge=1, le=50, description="At most so many tasks, and conversations.")] = 10,
    ) -> Annotated[CallToolResult, Activity]:
        """Show what goes on between modules now: working instances, tasks, and the latest conversations."""
        engine = await desk.engine()
        instances = [info for info in await engine.instances.list() if info.state in _AT_WORK or info.waiting]
        result = Activity(
            instances=[_instance(info) for info in instances],
            tasks=await _tasks(engine, limit),
            conversations=[_conversation(item) for item in await engine.list_conversations(limit=limit)],
        )
        lines = [f"{item['source']} → {item['target']} is {item['state']}" for item in result.instances]
        lines += [f"task {task.task_id} ({task.source} → {task.target}) is {task.state}" for task in result.tasks]
        lines += [f"{item['thread_id']} {item['source']} → {item['target']}" for item in result.conversations]
        return answered("\n".join(lines) or "Nothing goes on, and nothing has been asked yet.", result)

    async def list_instances() -> Annotated[CallToolResult, Instances]:
        """List the living background instances: for which pair of modules, in which state, what each has used."""
        infos = await (await desk.engine()).instances.list()
        lines = [f"{info.instance_id} {info.source} → {info.target}, {info.backend}: {info.state}" for info in infos]
        return answered("\n".join(lines) or "There are none.", Instances(instances=[_instance(info) for info in infos]))

    async def usage(
        by: Annotated[UsageBy, Field(description="What the costs are grouped by.")] = "pair",
    ) -> Annotated[CallToolResult, UsageTable]:
        """Tell what questions have cost: turns, tokens and USD, in groups, the dearest first."""
        rows = [row.as_dict() for row in await (await desk.engine()).usage(by)]
        lines = [f"{row['group']}: {row['turns']} turns, {_dollars(row['usage']['cost_usd'])}" for row in rows]
        return answered("\n".join(lines) or "Nothing has been asked yet.", UsageTable(by=by, rows=rows))

    offer(server, activity, title="What goes on", effect="reads")
    offer(server, list_instances, title="List instances", effect="reads")
    offer(server, usage, title="What it cost", effect="reads")


async def _tasks(engine: Engine, limit: int) -> list[Task]:
    try:
        return [task_shape(job) for job in await engine.jobs.list(limit=limit)]
    except DaemonError:  # an engine of this process keeps none
        return []


def _instance(info: InstanceInfo) -> dict[str, Any]:
    values = info.as_dict()
    return {name: values[name] for name in _INSTANCE}


def _conversation(conversation: Conversation) -> dict[str, Any]:
    values = conversation.as_dict()
    return {name: values[name] for name in _CONVERSATION}


def _dollars(cost_usd: float | None) -> str:
    return "price unknown" if cost_usd is None else f"${cost_usd:.4f}"
