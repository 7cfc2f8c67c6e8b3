"""The daemon as a process: started once whoever races, found, stopped, killed, and started again."""

from __future__ import annotations

import os
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from claude_comms import AsyncCommunicator, Background, create_communicator
from claude_comms.communicator import InstanceManager
from claude_comms.daemon import Places, ensure, find, listen, start, status, stop
from claude_comms.errors import (
    BackendError,
    ConfigError,
    DaemonError,
    DaemonNotRunningError,
    DaemonVersionError,
)
from claude_comms.events import Event, EventFilter
from claude_comms.jobs import JobState
from claude_comms.settings import Settings
from claude_comms.testing import Answer, LoopbackAPI
from claude_comms.types import MessageState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_comms.daemon import DaemonInfo
    from claude_comms.testing import RecordedRequest

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")

WITHIN_S = 10.0


def processes_of(home: Path) -> set[int]:
    """All processes that have this home in their environment, save this one."""
    found: set[int] = set()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if f"CLAUDE_COMMS_HOME={home}\0".encode() in environment.read_bytes():
                found.add(int(environment.parent.name))
    return found - {os.getpid()}


def soon(condition: Any) -> bool:
    give_up = time.monotonic() + WITHIN_S
    while not (met := condition()) and time.monotonic() < give_up:
        select.select([], [], [], 0.02)
    return bool(met)


@dataclass
class House:
    """A home with a daemon or without. Other arguments are settings of its clients."""

    home: Path
    given: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def settings(self) -> Settings:
        return Settings.load({"home": self.home, "backend": "offline", "drain_s": 5, **self.given})

    def start(self, **options: Any) -> DaemonInfo:
        return start(self.settings, **options)

    def kill(self) -> None:
        info = find(self.settings)
        assert info is not None
        os.kill(info.pid, signal.SIGKILL)

    def is_empty(self) -> bool:
        """Whether nothing is left that was started for this home."""
        return soon(lambda: not processes_of(self.home))


@pytest.fixture
def house(claude_comms_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    # What is found by its home in the environment is not to be this process's child by chance.
    monkeypatch.delenv("CLAUDE_COMMS_HOME")
    house = House(claude_comms_home)
    yield house
    with suppress(DaemonError):
        stop(house.settings, drain_s=0)
    for pid in processes_of(house.home):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert house.is_empty()


def test_it_is_started_found_and_stopped_and_leaves_nothing(house: House) -> None:
    assert find(house.settings) is None
    assert status(house.settings)["running"] is False
    assert stop(house.settings) is False
    info = house.start()
    assert find(house.settings) == info == house.start() == ensure(house.settings)
    told = status(house.settings)
    assert (told["running"], told["responding"], told["pid"]) == (True, True, info.pid)
    assert Path(told["socket"]) == info.socket
    assert {path: stat.S_IMODE(path.stat().st_mode) for path in (info.socket, info.token_file, info.log_file)} == {
        info.socket: 0o600,
        info.token_file: 0o600,
        info.log_file: 0o600,
    }
    token = info.token_file.read_text()
    assert stop(house.settings) is True
    assert find(house.settings) is None
    assert not info.socket.exists()
    assert house.is_empty()
    assert house.start().token_file.read_text() == token


def test_nothing_of_a_key_stands_in_a_command_line(house: House) -> None:
    house.given = {"anthropic_api_key": "canary-key-0123456789"}
    house.start()
    pids = processes_of(house.home)
    assert len(pids) == 3
    for pid in pids:
        assert b"canary" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    assert "canary" not in Places(house.home).log.read_text()


def test_whoever_races_one_daemon_runs_and_all_find_it(house: House) -> None:
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(start, [house.settings] * 6))
    assert len({info.pid for info in found}) == 1
    assert soon(lambda: len(processes_of(house.home)) == 3)


def test_a_second_one_in_the_foreground_is_refused(house: House) -> None:
    info = house.start()
    environment = {
        "PATH": os.environ["PATH"],
        "CLAUDE_COMMS_HOME": str(house.home),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    command = [sys.executable, "-m", "claude_comms.daemon", "run"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert f"runs already (pid {info.pid})" in done.stderr
    assert find(house.settings) == info


def test_a_home_with_a_long_path_has_its_socket_elsewhere(house: House) -> None:
    house.home = house.home / ("long" * 30)
    info = house.start()
    assert len(os.fsencode(info.socket)) <= 100
    assert stat.S_IMODE(info.socket.parent.stat().st_mode) == 0o700
    with create_communicator("marker", settings=house.settings, use_background=True) as comm:
        assert comm.send_message("arangodb", "page blocks").response
    info.socket.parent.chmod(0o755)
    with pytest.raises(DaemonError, match="not a directory of your own"):
        find(house.settings)
    info.socket.parent.chmod(0o700)
    stop(house.settings)
    info.socket.parent.rmdir()
    assert find(house.settings) is None


def test_what_it_cannot_start_with_is_told_as_what_it_is(house: House) -> None:
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:PORT"):
        house.start(listen="192.0.2.1:80")
    assert house.is_empty()
    (house.home / "config.toml").write_text("nonsense = 1\n")
    settings = Settings(home=house.home)
    with pytest.raises(DaemonError, match="nonsense"):
        start(settings)
    (house.home / "config.toml").unlink()


def test_it_listens_where_it_is_told_also_while_it_runs(house: House) -> None:
    with pytest.raises(DaemonNotRunningError):
        listen(house.settings, "127.0.0.1:0")
    assert house.start().listen is None
    told = house.start(listen="127.0.0.1:0")
    assert told.listen is not None
    assert told.listen.startswith("127.0.0.1:")
    assert find(house.settings) == told


def test_a_killed_one_is_not_found_and_the_next_one_cleans_up(house: House) -> None:
    first = house.start()
    house.kill()
    assert soon(lambda: find(house.settings) is None)
    assert house.is_empty()
    assert first.socket.exists()
    second = house.start()
    assert second.pid != first.pid
    assert find(house.settings) == second


def starting(home: Path) -> set[int]:
    """Daemons, without their guardians."""
    lines = {pid: Path(f"/proc/{pid}/cmdline") for pid in processes_of(home)}
    with suppress(OSError):
        return {
            pid
            for pid, line in lines.items()
            if b"claude_comms\0daemon\0run" in (text := line.read_bytes()) and b"_guardian.py" not in text
        }
    return set()


def test_one_that_is_killed_while_it_starts_is_started_once_more(house: House) -> None:
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(house.start)
        assert soon(lambda: starting(house.home))
        (first,) = starting(house.home)
        os.kill(first, signal.SIGKILL)
        assert second.result(60).pid != first


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it(house: House, number: int) -> None:
    info = house.start()
    os.kill(info.pid, number)
    assert house.is_empty()
    assert not Places(house.home).info.exists()


def test_when_a_guardian_is_killed_it_stops(house: House) -> None:
    info = house.start()
    guardian = int(Path(f"/proc/{info.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(guardian, signal.SIGKILL)
    assert house.is_empty()
    assert not Places(house.home).info.exists()


def test_one_that_hangs_is_stopped_all_the_same(house: House) -> None:
    info = house.start()
    os.kill(info.pid, signal.SIGSTOP)
    assert status(house.settings)["responding"] is False
    assert stop(house.settings, drain_s=0) is True
    assert house.is_empty()


def test_one_whose_socket_was_removed_puts_it_back(house: House) -> None:
    info = house.start()
    told = Places(house.home).info
    for path in (info.socket, told):
        path.unlink()
    assert soon(lambda: told.exists() and info.socket.exists())
    assert house.start() == info
    assert stat.S_IMODE(info.socket.stat().st_mode) == 0o600
    with create_communicator("marker", settings=house.settings, use_background=True) as comm:
        assert comm.send_message("arangodb", "page blocks").response
    assert stop(house.settings) is True
    assert house.is_empty()


def test_one_that_cannot_be_reached_is_told_of_at_once_and_ended_by_signals(house: House) -> None:
    info = house.start()
    os.kill(info.pid, signal.SIGSTOP)
    info.socket.unlink()
    told = status(house.settings)
    assert (told["running"], told["responding"], told["pid"]) == (True, False, info.pid)
    with pytest.raises(DaemonError, match=rf"pid {info.pid}\) and cannot be reached.* daemon stop"):
        find(house.settings)
    with pytest.raises(DaemonError, match="cannot be reached"):
        house.start()
    os.kill(info.pid, signal.SIGCONT)
    assert stop(house.settings) is True
    assert house.is_empty()


def test_one_whose_lock_is_another_file_leaves_the_home_to_others(house: House) -> None:
    house.start()
    Places(house.home).lock.unlink()
    assert house.is_empty()


def test_one_of_another_version_is_named_with_what_to_do(house: House) -> None:
    info = house.start()
    places = Places(house.home)
    places.info.write_text(places.info.read_text().replace(f'"{info.version}"', '"9.9.9"'))
    with pytest.raises(DaemonVersionError, match=r"9\.9\.9.*daemon restart") as caught:
        ensure(house.settings)
    assert (caught.value.daemon_version, caught.value.client_version) == ("9.9.9", info.version)


def test_one_with_other_settings_is_named_with_what_to_do(house: House) -> None:
    house.start()
    other = {"home": house.home, "drain_s": 5, "max_output_tokens": 99}
    with (
        create_communicator("marker", settings=other, use_background=True) as comm,
        pytest.raises(DaemonError, match=r"max_output_tokens.*daemon restart"),
    ):
        comm.send_message("arangodb", "?")


# --- through the communicator ------------------------------------------------------------------


def test_use_background_starts_it_and_leaving_it_out_finds_it(house: House) -> None:
    with create_communicator("marker", settings=house.settings) as alone:
        alone.send_message("arangodb", "page blocks")
        assert find(house.settings) is None
    with create_communicator("marker", settings=house.settings, use_background=True) as comm:
        first = comm.send_message("arangodb", "page blocks")
    assert find(house.settings) is not None
    with create_communicator("marker", settings=house.settings) as comm, InstanceManager(house.settings) as instances:
        comm.send_message("arangodb", "and more", thread_id=first.thread_id)
        assert first.instance_id in {info.instance_id for info in instances.list()}
        assert comm.diagnose()[0].name == "daemon"
        assert comm.diagnose()[0].ok
    for daemon, wanted in (("off", None), ("auto", False)):
        settings = house.settings.with_overrides(daemon=daemon)
        with create_communicator("marker", settings=settings, use_background=wanted) as comm:
            assert comm.diagnose()[0].name != "daemon"


def test_a_communicator_outlives_its_daemons(house: House) -> None:
    with create_communicator("marker", settings=house.settings, use_background=True) as comm:
        first = comm.send_message("arangodb", "page blocks")
        house.kill()
        second = comm.send_message("arangodb", "and more")
        stop(house.settings)
        third = comm.send_message("arangodb", "and more")
        assert first.thread_id == second.thread_id == third.thread_id
        assert len(comm.get_conversation(first.thread_id).messages) == 6


def never(request: RecordedRequest) -> Answer:
    """An answer that begins and does not end."""
    return Answer("the beginning of an answer that never ends", pause_s=(0, 3600))


def test_a_daemon_killed_in_an_answer_leaves_an_error_that_names_the_thread(house: House) -> None:
    with LoopbackAPI(never) as api:
        house.given = {"backend": "api", "anthropic_api_key": api.key, "anthropic_base_url": api.base_url}
        with create_communicator("marker", settings=house.settings, use_background=True) as comm:
            stream = comm.stream_message("arangodb", "page blocks")
            assert next(iter(stream))
            house.kill()
            with pytest.raises((BackendError, DaemonError)) as caught:
                _ = stream.reply
            thread_id = caught.value.thread_id
            assert thread_id
            messages = comm.get_conversation(thread_id).messages
            assert messages[0].state is MessageState.FAILED
            assert all(message.state is not MessageState.COMPLETE for message in messages)
            assert len(api.requests) == 1


class Slow:
    """A model that stops in the middle of an answer until it is let go on."""

    def __init__(self) -> None:
        self.asked, self.go_on = threading.Event(), threading.Event()

    def __call__(self, request: RecordedRequest) -> Answer:
        if "slow" not in request.question:
            return Answer("an answer")
        self.asked.set()
        assert self.go_on.wait(WITHIN_S)
        return Answer("an answer that took its time")


@pytest.fixture
def slow(house: House) -> Iterator[Slow]:
    slow = Slow()
    with LoopbackAPI(slow) as api:
        house.given = {"backend": "api", "anthropic_api_key": api.key, "anthropic_base_url": api.base_url}
        yield slow
        slow.go_on.set()


def test_stopping_lets_a_running_turn_finish(house: House, slow: Slow) -> None:
    with (
        create_communicator("marker", settings=house.settings, use_background=True) as comm,
        ThreadPoolExecutor(2) as pool,
    ):
        asking = pool.submit(comm.send_message, "arangodb", "a slow one")
        assert slow.asked.wait(WITHIN_S)
        stopping = pool.submit(stop, house.settings, drain_s=WITHIN_S)
        assert soon(lambda: status(house.settings).get("draining"))
        assert not stopping.done()
        slow.go_on.set()
        assert asking.result(WITHIN_S).response == "an answer that took its time"
        assert stopping.result(WITHIN_S) is True
    assert house.is_empty()


def test_what_runs_beyond_the_drain_limit_is_interrupted_and_told(house: House, slow: Slow) -> None:
    with create_communicator("marker", settings=house.settings, use_background=True) as comm:
        stream = comm.stream_message("arangodb", "a slow one")
        assert slow.asked.wait(WITHIN_S)
        assert stop(house.settings, drain_s=0) is True
        with pytest.raises((BackendError, DaemonError)) as caught:
            _ = stream.reply
    assert caught.value.thread_id


def test_a_second_signal_ends_it_at_once(house: House, slow: Slow) -> None:
    with create_communicator("marker", settings=house.settings, use_background=True) as comm:
        stream = comm.stream_message("arangodb", "a slow one")
        assert slow.asked.wait(WITHIN_S)
        info = find(house.settings)
        assert info is not None
        os.kill(info.pid, signal.SIGTERM)
        assert soon(lambda: status(house.settings).get("draining"))
        select.select([], [], [], 0.4)  # signals closer together are taken as one
        os.kill(info.pid, signal.SIGTERM)
        assert soon(lambda: find(house.settings) is None or find(house.settings) != info)
        with pytest.raises((BackendError, DaemonError)):
            _ = stream.reply


def test_jobs_are_asked_waited_for_and_followed(house: House) -> None:
    with Background(house.settings) as background, Background(house.settings) as elsewhere:
        with elsewhere.follow(EventFilter(types=("job.*",)), after=0) as events:
            job = background.start_job("arangodb", "page blocks", source="marker")
            assert job.state is JobState.QUEUED
            done = elsewhere.wait_job(job.job_id, timeout_s=30)
            seen: list[str] = []
            for event in events:
                seen.append(getattr(event, "type", "missed"))
                if seen[-1] == "job.done":
                    break
        assert done.state is JobState.DONE
        assert done.reply is not None
        assert seen[0] == "job.queued"
        assert [found.job_id for found in elsewhere.list_jobs(state="done")] == [job.job_id]
        assert [row.group for row in background.usage()] == ["marker/arangodb"]
        with pytest.raises(ConfigError, match="no job is"):
            background.list_jobs(state="lost")


def test_events_are_followed_across_a_restart_each_once(house: House) -> None:
    seen: list[int] = []
    with (
        create_communicator("marker", settings=house.settings, use_background=True) as comm,
        Background(house.settings) as background,
        background.follow(EventFilter(types=("turn.completed",)), after=0) as events,
    ):
        reader = threading.Thread(
            target=lambda: seen.extend(event["seq"] for event in events if isinstance(event, Event))
        )
        comm.send_message("arangodb", "one")
        reader.start()
        assert soon(lambda: len(seen) == 1)
        house.kill()
        comm.send_message("arangodb", "two")
        comm.send_message("arangodb", "three")
        assert soon(lambda: len(seen) == 3)
        events.close()
        reader.join(WITHIN_S)
    assert seen == sorted(set(seen))


@pytest.mark.anyio
async def test_a_closed_communicator_leaves_the_daemon_its_instance(house: House) -> None:
    async with AsyncCommunicator("marker", settings=house.settings, use_background=True) as comm:
        first = await comm.send_message("arangodb", "page blocks")
    async with AsyncCommunicator("marker", settings=house.settings) as comm:
        second = await comm.send_message("arangodb", "more", thread_id=first.thread_id)
    assert first.instance_id == second.instance_id
