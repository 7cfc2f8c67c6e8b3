from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import psutil
import pytest

from claude_comms.errors import ConfigError
from claude_comms.jobs import Job, JobRequest, JobState
from claude_comms.jobs._callbacks import Callbacks
from claude_comms.jobs._url import find_place
from claude_comms.jobs.store import Ending, JobStore
from claude_comms.storage import OwnerLock
from claude_comms.testing.scripted import Stall
from claude_comms.types import Question

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    import respx

    from tests.unit.jobs.conftest import House

pytestmark = pytest.mark.anyio

HERE = "http://127.0.0.1:4321/told?of=it"


def job(callback: str | tuple[str, ...]) -> Job:
    now = datetime.now(UTC)
    return Job(
        "j_1", JobState.DONE, "marker", "arangodb", "How? \ud83d", 0, now, reply={"response": "So."}, callback=callback
    )


def python(code: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-c", code, *arguments)


def is_gone(pid: int) -> bool:
    """Whether it ends within 10 s; what nobody has waited for yet has ended, too."""
    try:
        process = psutil.Process(pid)
        gone, _ = psutil.wait_procs([process], timeout=0 if process.status() == psutil.STATUS_ZOMBIE else 10)
        return bool(gone) or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
async def callbacks() -> AsyncIterator[Callbacks]:
    callbacks = Callbacks(allow_remote=False, retry_wait_s=0.0)
    yield callbacks
    await callbacks.close()


# --- commands ----------------------------------------------------------------------------------


async def test_a_command_gets_the_job_on_its_stdin(callbacks: Callbacks, tmp_path: Path) -> None:
    place = tmp_path / "got"
    copy = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read()); print('thanks')"
    assert await callbacks.tell(job(python(copy, str(place)))) == "exit 0: thanks"
    got = json.loads(place.read_text())
    assert (got["job_id"], got["state"], got["reply"]) == ("j_1", "done", {"response": "So."})


async def test_a_command_is_run_without_a_shell(callbacks: Callbacks, tmp_path: Path) -> None:
    made = tmp_path / "made"
    assert await callbacks.tell(job(("echo", f"$HOME; touch {made}"))) == f"exit 0: $HOME; touch {made}"
    assert not made.exists()


async def test_a_command_sees_no_secrets(callbacks: Callbacks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary-1")
    monkeypatch.setenv("MY_PASSWORD", "canary-2")
    monkeypatch.setenv("CLAUDE_COMMS_HOME", "/a/home")
    result = await callbacks.tell(job(("env",)))
    assert "canary" not in result
    assert "CLAUDE_COMMS_HOME=/a/home" in result
    assert "PATH=" in result


async def test_a_command_that_fails_is_told_with_what_it_said(callbacks: Callbacks) -> None:
    result = await callbacks.tell(job(python("import sys; print('\\x1b[31mno\\nmore', file=sys.stderr); sys.exit(3)")))
    assert result == "exit 3: [31mno more"


async def test_a_command_that_reads_nothing_and_says_much_ends(callbacks: Callbacks) -> None:
    result = await callbacks.tell(job(python("print('x' * 10_000_000)")))
    assert result.startswith("exit 0: xxx")
    assert len(result) < 600


async def test_a_command_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    callbacks = Callbacks(allow_remote=False, timeout_s=3)
    place = tmp_path / "pids"
    hang = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen(['sleep', '1000'])\n"
        "open(sys.argv[1], 'w').write(f'{os.getpid()} {child.pid}')\n"
        "time.sleep(1000)"
    )
    assert await callbacks.tell(job(python(hang, str(place)))) == "failed: killed after 3 s"
    for pid in place.read_text().split():
        assert await anyio.to_thread.run_sync(is_gone, int(pid))


async def test_a_command_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import anyio, sys\n"
        "from claude_comms.jobs._command import run_command\n"
        "hang = ('sh', '-c', 'echo $$ > ' + sys.argv[1] + '; exec sleep 1000')\n"
        "anyio.run(lambda: run_command(hang, b'', timeout_s=99))"
    )
    place = tmp_path / "pid"
    os.mkfifo(place)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    async with await anyio.open_process([sys.executable, "-c", code, str(place)], env=environment) as parent:
        command = int(await anyio.to_thread.run_sync(place.read_text))
        parent.send_signal(signal.SIGKILL)
    assert await anyio.to_thread.run_sync(is_gone, command)


async def test_a_program_that_is_gone_by_then_is_a_failure(callbacks: Callbacks) -> None:
    result = await callbacks.tell(job(("no-such-program-anywhere",)))
    assert result.startswith("exit 1: no-such-program-anywhere")


@pytest.mark.parametrize("command", [(), ("",), ("no-such-program-anywhere",), ("echo", "a\0b")])
async def test_what_is_no_command_is_refused_at_once(callbacks: Callbacks, command: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="callback"):
        await callbacks.check(command)


# --- URLs --------------------------------------------------------------------------------------


async def test_a_url_gets_the_job_as_json(callbacks: Callbacks, respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(HERE).respond(204)
    await callbacks.check(HERE)
    assert await callbacks.tell(job(HERE)) == "HTTP 204"
    sent = route.calls.last.request
    assert json.loads(sent.content)["reply"] == {"response": "So."}
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["host"] == "127.0.0.1:4321"


async def test_a_name_is_asked_at_the_address_that_was_looked_at(
    callbacks: Callbacks, respx_mock: respx.MockRouter
) -> None:
    respx_mock.post("http://[::1]:4321/").mock(side_effect=httpx.ConnectError("nobody"))
    route = respx_mock.post("http://127.0.0.1:4321/").respond(200)
    assert await callbacks.tell(job("http://localhost:4321/")) == "HTTP 200"
    assert route.calls.last.request.headers["host"] == "localhost:4321"


@pytest.mark.parametrize("first", [httpx.Response(503), httpx.Response(429), httpx.ReadTimeout("late")])
async def test_passing_trouble_is_tried_again(
    callbacks: Callbacks, respx_mock: respx.MockRouter, first: httpx.Response | Exception
) -> None:
    route = respx_mock.post(HERE).mock(side_effect=[first, httpx.Response(200)])
    assert await callbacks.tell(job(HERE)) == "HTTP 200"
    assert route.call_count == 2


async def test_lasting_trouble_is_tried_three_times(callbacks: Callbacks, respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(HERE).respond(500)
    assert await callbacks.tell(job(HERE)) == "failed: HTTP 500, after 3 tries"
    assert route.call_count == 3


async def test_a_refusal_is_not_tried_again(callbacks: Callbacks, respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(HERE).respond(404)
    assert await callbacks.tell(job(HERE)) == "failed: HTTP 404"
    assert route.call_count == 1


async def test_a_redirect_is_not_followed(callbacks: Callbacks, respx_mock: respx.MockRouter) -> None:
    respx_mock.post(HERE).respond(307, headers={"Location": "http://192.0.2.1/"})
    elsewhere = respx_mock.post("http://192.0.2.1/").respond(200)
    assert await callbacks.tell(job(HERE)) == "failed: HTTP 307, and redirects are not followed"
    assert not elsewhere.called


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1/",
        "http://[2001:db8::1]:80/x",
        "http://0.0.0.0/",
        "http://169.254.169.254/latest",
        "http://[::]/",
    ],
)
async def test_another_machine_is_refused_at_once_and_at_the_end(
    callbacks: Callbacks, respx_mock: respx.MockRouter, url: str
) -> None:
    with pytest.raises(ConfigError, match="not this machine"):
        await callbacks.check(url)
    assert (await callbacks.tell(job(url))).startswith("refused: callback:")
    assert respx_mock.calls.call_count == 0


async def test_another_machine_is_told_where_that_is_allowed(respx_mock: respx.MockRouter) -> None:
    respx_mock.post("http://192.0.2.1/").respond(200)
    callbacks = Callbacks(allow_remote=True)
    await callbacks.check("http://192.0.2.1/")
    assert await callbacks.tell(job("http://192.0.2.1/")) == "HTTP 200"
    await callbacks.close()


async def test_a_name_with_one_address_elsewhere_is_refused() -> None:
    async def two(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1", "192.0.2.1"]

    with pytest.raises(ConfigError, match=r"192\.0\.2\.1, not this machine"):
        await find_place("http://sly.test/", allow_remote=False, resolve=two)


async def test_a_name_that_is_not_found_is_refused() -> None:
    async def nowhere(_host: str, _port: int) -> Sequence[str]:
        raise OSError("unknown")

    with pytest.raises(ConfigError, match=r"nowhere\.test cannot be found"):
        await find_place("http://nowhere.test/", allow_remote=True, resolve=nowhere)


@pytest.mark.parametrize(
    "url",
    [
        *("", "notify", "ftp://127.0.0.1/", "file:///etc/passwd", "http://", "http://[::1", "http://127.0.0.1:99999/"),
        *("http://user:secret@127.0.0.1/", "http://127.0.0.1:4321\x00/"),
    ],
)
async def test_what_is_no_url_is_refused_and_not_repeated_with_its_secrets(callbacks: Callbacks, url: str) -> None:
    with pytest.raises(ConfigError, match="callback") as told:
        await callbacks.check(url)
    assert "secret" not in str(told.value)


async def test_a_proxy_of_the_environment_is_not_used(
    callbacks: Callbacks, respx_mock: respx.MockRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://192.0.2.1:8080")
    monkeypatch.setenv("NO_PROXY", "")
    respx_mock.post(HERE).respond(200)
    assert await callbacks.tell(job(HERE)) == "HTTP 200"


async def test_an_address_that_never_answers_is_given_up() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        callbacks = Callbacks(allow_remote=False, timeout_s=0.2)
        assert await callbacks.tell(job(f"http://127.0.0.1:{port}/")) == "failed: no answer within 0.2 s"
        await callbacks.close()


# --- a job's ------------------------------------------------------------------------------------


async def until_told(house: House, job_id: str) -> Any:
    return (await house.until("callback", job_id)).data["callback_result"]


async def test_the_end_of_a_job_is_told_and_kept(house: House, tmp_path: Path) -> None:
    copy = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_bytes(sys.stdin.buffer.read())"
    runner = await house.runner()
    asked = Question("marker", "arangodb", "Where?")
    started = await runner.start(JobRequest(asked, callback=python(copy, str(tmp_path / "got"))))
    assert await until_told(house, started.job_id) == "exit 0"
    told = await runner.get(started.job_id)
    assert (told.state, told.callback_result) == (JobState.DONE, "exit 0")
    assert json.loads((tmp_path / "got").read_text())["reply"]["response"] == "Where?"
    assert house.told(started.job_id) == ["queued", "started", "done", "callback"]


async def test_a_callback_that_fails_leaves_the_job_done(house: House, respx_mock: respx.MockRouter) -> None:
    respx_mock.post(HERE).respond(404)
    runner = await house.runner()
    started = await runner.start(JobRequest(Question("marker", "arangodb", "?"), callback=HERE))
    assert await until_told(house, started.job_id) == "failed: HTTP 404"
    assert (await runner.get(started.job_id)).state is JobState.DONE


async def test_a_cancelled_job_is_told_too(house: House, respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post(HERE).respond(200)
    runner = await house.runner(max_running=0)
    started = await runner.start(JobRequest(Question("marker", "arangodb", "?"), callback=HERE))
    await runner.cancel(started.job_id)
    assert await until_told(house, started.job_id) == "HTTP 200"
    assert json.loads(route.calls.last.request.content)["state"] == "cancelled"


async def test_callbacks_that_a_death_left_untold_are_told_after_it(house: House, respx_mock: respx.MockRouter) -> None:
    """Those of jobs that had ended, and those of jobs that were running then."""
    respx_mock.post(HERE).respond(200)
    dying = OwnerLock(house.engine.database.path)
    dying.acquire()
    theirs = JobStore(house.engine.database, dying)
    wanted = JobRequest(Question("marker", "arangodb", "?"), callback=HERE)
    over, running = await theirs.add(wanted), await theirs.add(wanted)
    await theirs.claim()
    await theirs.finish(over.job_id, Ending(JobState.DONE, reply={}))
    await theirs.claim()
    dying.release()
    runner = await house.runner()
    for left in (over, running):
        assert await until_told(house, left.job_id) == "HTTP 200"
    assert (await runner.get(running.job_id)).state is JobState.FAILED


async def test_a_callback_that_closing_left_untold_is_told_by_the_next(
    house: House, respx_mock: respx.MockRouter
) -> None:
    route = respx_mock.post(HERE).respond(200)
    house.backend.add(Stall(after="Half"))
    runner = await house.runner()
    started = await runner.start(JobRequest(Question("marker", "arangodb", "?"), callback=HERE))
    await house.until("progress", started.job_id)
    await runner.close()
    assert not route.called
    await house.runner()
    assert await until_told(house, started.job_id) == "HTTP 200"
    assert json.loads(route.calls.last.request.content)["error"]["type"] == "DaemonError"
