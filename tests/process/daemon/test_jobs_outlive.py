"""Background questions outlive the terminal that asked them, and the daemon that runs them."""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from survival_support import events_of, soon

from claude_comms.testing import Answer

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from claude_comms.testing import RecordedRequest
    from tests.process.daemon.conftest import House

LONG_JOB_S = float(os.environ.get("CLAUDE_COMMS_LONG_JOB_S", "3"))
"""600 makes it the real ten minutes."""
PIECES = tuple(f"piece {number} " for number in range(20))
STALL = "This one begins and never ends."
LONG = "This one takes its time."


def answers(request: RecordedRequest) -> Answer:
    if request.question == STALL:
        return Answer(pieces=("half of it", " and the rest"), pause_s=(0.0, 3600.0))
    if request.question == LONG:
        return Answer(pieces=PIECES, pause_s=LONG_JOB_S / len(PIECES))
    return Answer(f"Answer to: {request.question}")


@pytest.fixture(autouse=True)
def one_at_a_time(house: House) -> None:
    house.api.script = answers
    house.cli.environment["CLAUDE_COMMS_MAX_JOBS_RUNNING"] = "1"


def stalled(house: House, *options: str) -> str:
    """A job whose answer has begun."""
    job_id = house.job(STALL, *options)
    assert soon(lambda: events_of(house.settings, types="turn.delta"))
    return job_id


def shown(house: House, job_id: str) -> dict[str, Any]:
    return house.cli.json("show-job", job_id)


@pytest.mark.timeout(120 + 2 * LONG_JOB_S)
def test_a_long_job_is_asked_from_a_terminal_since_closed_and_waited_for_elsewhere(house: House) -> None:
    house.cli.json("daemon", "start")
    asking = ["query-module", "arangodb", LONG, "--from", "marker", "--background", "--json"]
    terminal = house.cli.terminal(*asking, "--deadline", f"{60 + LONG_JOB_S}", columns=200)
    assert terminal.end() == 0, terminal.text
    os.close(terminal.controller)
    [job_id] = [json.loads(line)["job_id"] for line in terminal.text.splitlines() if line.startswith("{")]
    waiting = house.follower("wait-job", job_id)
    house.api.wait_for_requests(1)
    assert shown(house, job_id)["state"] == "running"
    assert waiting.child.wait(60 + LONG_JOB_S) == 0
    done = waiting.until(lambda _: True)
    assert (done["state"], done["reply"]["response"]) == ("done", "".join(PIECES))
    assert house.times_asked(LONG) == 1


def test_with_the_daemon_killed_ten_queued_jobs_run_once_and_the_running_one_is_marked(house: House) -> None:
    running = stalled(house)
    questions = [f"Queued {number}?" for number in range(10)]
    queued = [house.job(question) for question in questions]
    waiting = house.follower("wait-job", queued[-1])
    os.kill(house.daemon.pid, signal.SIGKILL)
    for question, job_id in zip(questions, queued, strict=True):
        done = house.cli.json("wait-job", job_id)
        assert (done["state"], done["reply"]["response"]) == ("done", f"Answer to: {question}")
        assert house.times_asked(question) == 1
    assert waiting.child.wait(60) == 0
    marked = shown(house, running)
    assert marked["state"] == "failed"
    assert "the daemon died while it ran" in marked["error"]["message"]
    assert marked["error"]["thread_id"] == marked["thread_id"]
    assert house.times_asked(STALL) == 1
    told = [event["data"]["job_id"] for event in events_of(house.settings, types="job.failed")]
    assert told == [running]
    states = [message["state"] for message in house.cli.json("show-conversation", marked["thread_id"])["messages"]]
    assert states == ["failed"]


def test_a_running_and_a_queued_job_are_cancelled_and_one_expires(house: House) -> None:
    running = stalled(house)
    queued, expiring = house.job("Never asked?"), house.job("Too late?", "--expires", "0.5")
    house.cli.json("cancel-job", queued)
    assert shown(house, queued)["state"] == "cancelled"
    expired = house.cli.json("wait-job", expiring, code=1)
    assert (expired["state"], expired["error"]["type"]) == ("failed", "DeadlineExceededError")
    house.cli.json("cancel-job", running)
    cancelled = house.cli.json("wait-job", running, code=1)
    assert cancelled["state"] == "cancelled"
    messages = house.cli.json("show-conversation", cancelled["thread_id"])["messages"]
    assert [(message["state"], message["text"]) for message in messages] == [
        ("failed", STALL),
        ("partial", "half of it"),
    ]
    assert [request.question for request in house.api.requests.messages] == [STALL]


class Receiver(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted."""

    came: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None: ...  # noqa: A002 - the base class's name


@contextmanager
def receiver() -> Generator[tuple[str, list[dict[str, Any]]]]:
    came: list[dict[str, Any]] = []
    handler = type("Handler", (Receiver,), {"came": came})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/jobs", came
        finally:
            server.shutdown()
            thread.join()


def test_callbacks_of_jobs_that_a_killed_daemon_left_are_told_once_each(house: House, tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = tmp_path / "callback.py"
    script.write_text(f"import sys\nopen({str(told)!r}, 'a').write(sys.stdin.read() + '\\n')\n")
    command = f"{sys.executable} {script}"
    with receiver() as (url, came):
        running = stalled(house, "--callback", command)
        by_command, by_url = house.job("By command?", "--callback", command), house.job("By URL?", "--callback", url)
        os.kill(house.daemon.pid, signal.SIGKILL)
        for job_id in (by_command, by_url):
            assert house.cli.json("wait-job", job_id)["state"] == "done"
        assert soon(lambda: all(shown(house, job)["callback_result"] for job in (running, by_command, by_url)))
    documents = [json.loads(line) for line in told.read_text().splitlines()]
    assert {job["job_id"]: job["state"] for job in documents} == {running: "failed", by_command: "done"}
    assert len(documents) == 2
    assert [(job["job_id"], job["reply"]["response"]) for job in came] == [(by_url, "Answer to: By URL?")]
    assert shown(house, by_command)["callback_result"].startswith("exit 0")
