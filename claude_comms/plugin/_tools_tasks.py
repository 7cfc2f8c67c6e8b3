"""Tools for questions in the background: begun now, fetched later."""

# No postponed annotations here: the SDK reads them.
from typing import TYPE_CHECKING, Annotated, Any

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import CallToolResult
from pydantic import Field

from claude_comms.errors import DeadlineExceededError, error_from_dict
from claude_comms.jobs import JobRequest, JobState
from claude_comms.plugin._asking import answer_shape, answer_text
from claude_comms.plugin._desk import Desk
from claude_comms.plugin._offering import answered, offer
from claude_comms.plugin._shapes import Task, TaskAnswer
from claude_comms.plugin._tools_asking import Prompt, Target, Thread

if TYPE_CHECKING:
    from claude_comms.jobs import Job
    from claude_comms.protocols import Jobs

__all__ = ["add_task_tools", "task_shape"]

_SIGN_OF_LIFE_S = 10.0
_TaskId = Annotated[str, Field(description="From start_task.", min_length=1)]


def add_task_tools(server: MCPServer[Any], desk: Desk) -> None:
    """Offer start_task, task_status, task_result and cancel_task."""

    async def start_task(
        target: Target, prompt: Prompt, context: Context[Any, Any], thread_id: Thread = None
    ) -> Annotated[CallToolResult, Task]:
        """Have a module asked in the background, and return at once with a task_id.

        Use it instead of query_module for work that takes long, or for several modules at once: start all, go on with
        something else, then fetch each with task_result. Tasks survive this session.
        """
        asker = await desk.asker(context)
        question = asker.question(target, prompt, thread_id, waits=False)
        job = await (await desk.engine()).jobs.start(JobRequest(question))
        task = task_shape(job).model_copy(update={"source_reason": asker.reason})
        told = f"task_id: {task.task_id}. {task.source} ({asker.reason}) asks {task.target}. Fetch it with task_result."
        return answered(told, task)

    async def task_status(task_id: _TaskId) -> Annotated[CallToolResult, Task]:
        """Tell whether a task is queued, running, done, failed or cancelled, without waiting for it."""
        task = task_shape(await (await desk.engine()).jobs.get(task_id))
        return answered(_state_line(task), task)

    async def task_result(
        task_id: _TaskId,
        context: Context[Any, Any],
        wait_s: Annotated[
            float, Field(ge=0, le=600, description="Seconds to wait for the end of one that is not done yet.")
        ] = 0,
    ) -> Annotated[CallToolResult, TaskAnswer]:
        """Fetch a task's answer. One that is not done yet says so and has no answer: call again later, or give wait_s.

        A failed task gives its error.
        """
        job = await _waited((await desk.engine()).jobs, task_id, wait_s, context)
        if job.state.ended and job.state is not JobState.DONE:
            raise error_from_dict(job.error or {"message": f"the task is {job.state}. Start it again."})
        answer = None if job.reply is None else answer_shape(job.reply, f"so it was when task {job.job_id} was started")
        result = TaskAnswer(**task_shape(job).model_dump(), answer=answer)
        if answer is None:
            return answered(f"{_state_line(result)} There is no answer yet. Call task_result again later.", result)
        return answered(answer_text(answer), result)

    async def cancel_task(task_id: _TaskId) -> Annotated[CallToolResult, Task]:
        """End a task that is queued or running; what it was answering is lost. An ended one stays as it is."""
        task = task_shape(await (await desk.engine()).jobs.cancel(task_id))
        return answered(_state_line(task), task)

    offer(server, start_task, title="Ask in the background", effect="asks")
    offer(server, task_status, title="Look at a task", effect="reads")
    offer(server, task_result, title="Fetch a task's answer", effect="reads")
    offer(server, cancel_task, title="Cancel a task", effect="ends")


async def _waited(jobs: "Jobs", task_id: str, wait_s: float, context: Context[Any, Any]) -> "Job":
    """The job once it has ended, or as it is after `wait_s`; meanwhile the client is told that it is waited for."""
    began = anyio.current_time()
    job = await jobs.get(task_id)
    while not job.state.ended and (left_s := began + wait_s - anyio.current_time()) > 0:
        waited_s = anyio.current_time() - began
        told = f"the task is {job.state}: {job.progress.get('characters', 0)} characters after {waited_s:.0f} s"
        await context.report_progress(waited_s, message=told)
        try:
            return await jobs.wait(job.job_id, timeout_s=min(left_s, _SIGN_OF_LIFE_S))
        except DeadlineExceededError:
            job = await jobs.get(job.job_id)
    return job


def task_shape(job: "Job") -> Task:
    """A job in the tools' shape."""
    return Task(
        task_id=job.job_id,
        state=str(job.state),
        source=job.source,
        target=job.target,
        thread_id=job.thread_id,
        progress=dict(job.progress),
        error=None if job.error is None else dict(job.error),
    )


def _state_line(task: Task) -> str:
    return f"The task {task.task_id} ({task.source} → {task.target}) is {task.state}."
