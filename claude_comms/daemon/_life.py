"""Finding, starting and stopping the daemon of a home, from outside it. Everything here waits, in bounded time."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_comms.daemon._environment import daemon_environment
from claude_comms.daemon._places import Places, is_held_by, read_info, require_ours
from claude_comms.daemon._short_request import answers, short_request
from claude_comms.daemon._version import own_version
from claude_comms.errors import DaemonError, DaemonNotRunningError, DaemonVersionError, error_from_dict

if TYPE_CHECKING:
    from claude_comms.daemon._places import DaemonInfo
    from claude_comms.settings import Settings

__all__ = [
    "daemon_command",
    "ensure",
    "find",
    "guardian_command",
    "listen",
    "require_same_version",
    "start",
    "status",
    "stop",
]

_START_WITHIN_S = 30.0
BEYOND_DRAINING_S = 30.0
"""What the guardian allows for interrupting, storing and closing, after turns had their time to finish."""
_AFTER_TERM_S = 5.0
_AFTER_KILL_S = 10.0
_LOOK_AGAIN_S = 0.05
_LOST_RACE_S = 1.0
_MOST_DEATHS = 2
_REPAIRED_WITHIN_S = 5.0
"""A daemon that has lost its socket looks for it more often than that."""
_TAIL_BYTES = 2000
_MOST_OUTPUT_BYTES = 1024 * 1024


def find(settings: Settings, *, patient: bool = False) -> DaemonInfo | None:
    """The daemon that runs for this home, or None. Cheap: it reads one file and connects once.

    DaemonError where one runs and cannot be reached, its socket having been removed; one that is `patient` waits
    some seconds for the daemon to mend that. DaemonError where the socket is in a directory that others can change.
    """
    give_up = time.monotonic() + _REPAIRED_WITHIN_S
    while True:
        info, reached = _seen(settings)
        if info is None or reached:
            return info
        if not patient or time.monotonic() > give_up:
            raise DaemonError(_out_of_reach(info))
        time.sleep(_LOOK_AGAIN_S)


def _seen(settings: Settings) -> tuple[DaemonInfo | None, bool]:
    """The daemon that lives, and whether it can be reached."""
    places = Places(settings.home)
    info = read_info(places)
    if info is None:
        return None, False
    if info.socket.parent != settings.home and info.socket.parent.exists():
        require_ours(info.socket.parent)
    if info.socket.parent.exists() and answers(info.socket):
        return info, True
    return (info if is_held_by(places.lock, info.pid) else None), False


def _out_of_reach(info: DaemonInfo) -> str:
    return (
        f"the daemon runs (pid {info.pid}) and cannot be reached: nobody listens at {info.socket}."
        " End it: claude-comms daemon stop"
    )


def ensure(settings: Settings) -> DaemonInfo:
    """The daemon of this home, started if none runs. DaemonVersionError where it is of another version."""
    info = find(settings, patient=True)
    if info is None:
        info = start(settings)
    require_same_version(info)
    return info


def require_same_version(info: DaemonInfo) -> None:
    """DaemonVersionError where the daemon is of another version than this."""
    if info.version != own_version():
        raise DaemonVersionError(
            f"the daemon is of version {info.version}, this is {own_version()}."
            " Restart it: claude-comms daemon restart",
            daemon_version=info.version,
            client_version=own_version(),
        )


def start(settings: Settings, *, listen: str | None = None, within_s: float = _START_WITHIN_S) -> DaemonInfo:
    """Start the daemon of this home in the background, and wait until it serves; one that runs already is taken.

    Whoever races, one daemon runs, and all find it. `listen` is HOST:PORT on loopback to serve as well; a daemon
    that runs already is told to. One that dies without a word is started once more. DaemonError, or what the daemon
    says that it failed of, if it does not serve within `within_s` seconds.
    """
    give_up = time.monotonic() + within_s
    running = find(settings, patient=True)
    if running is not None:
        return _listening(settings, running, listen)
    places = Places(settings.home)
    places.prepare()
    died = 0
    while time.monotonic() < give_up:
        said = _spawn(settings, places, listen, give_up)
        if not said:
            died += 1
            if died == _MOST_DEATHS:
                raise DaemonError(f"the daemon ended before it could serve. {_see(places)}")
            continue
        if said.get("ready") and (found := find(settings)) is not None:
            return found
        if "error" in said:
            raise error_from_dict(said["error"])
        # Another one holds the lock: it is about to serve, or about to end.
        if (found := _look(settings, min(give_up, time.monotonic() + _LOST_RACE_S))) is not None:
            return _listening(settings, found, listen)
    raise DaemonError(f"the daemon does not serve within {within_s:g} s. {_see(places)}")


def stop(settings: Settings, *, drain_s: float | None = None) -> bool:
    """Stop the daemon of this home and wait for its end; False where none runs.

    Running turns may finish for `drain_s` seconds (by default the setting), then they are interrupted. One that cannot
    be reached is told so by SIGTERM. One that does not end a while after that gets SIGTERM, then SIGKILL.
    """
    info, reached = _seen(settings)
    if info is None:
        return False
    patience_s = (settings.drain_s if drain_s is None else drain_s) + BEYOND_DRAINING_S
    if not reached:  # it drains at the signal, too
        return _ended_by_signals(info.pid, patience_s)
    with suppress(DaemonError):  # it is stopped by signals where it does not listen to words
        body = {} if drain_s is None else {"drain_s": drain_s}
        short_request(info.socket, "POST", "/v1/daemon/stop", body)
        if _gone(info.pid, patience_s):
            return True
    return _ended_by_signals(info.pid)


def _ended_by_signals(pid: int, drains_s: float = 0.0) -> bool:
    for number, wait_s in ((signal.SIGTERM, max(drains_s, _AFTER_TERM_S)), (signal.SIGKILL, _AFTER_KILL_S)):
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if _gone(pid, wait_s):
            return True
    raise DaemonError(f"the daemon (pid {pid}) does not end, even when killed. End it by hand.")


def listen(settings: Settings, address: str) -> DaemonInfo:
    """Make a running daemon listen on HOST:PORT as well. DaemonNotRunningError without one."""
    info = find(settings)
    if info is None:
        raise DaemonNotRunningError("no daemon is running. Start it: claude-comms daemon start")
    return _listening(settings, info, address)


def status(settings: Settings) -> dict[str, Any]:
    """What there is to know of the daemon, as JSON values: `running` and, of a running one, what it tells of itself.

    A daemon that runs and does not answer has `responding` False and a `problem`.
    """
    nothing = dict.fromkeys(("pid", "version", "socket", "listen", "token_file", "log_file", "started_at"))
    info, reached = _seen(settings)
    if info is None:
        return {"running": False, **nothing}
    known = {"running": True, **info.as_dict()}
    if not reached:
        return {**known, "responding": False, "problem": _out_of_reach(info)}
    try:
        told: dict[str, Any] = short_request(info.socket, "GET", "/v1/daemon")
    except DaemonError as error:
        return {**known, "responding": False, "problem": str(error)}
    return {**known, **told, "responding": True}


def guardian_command(settings: Settings, program: list[str], *, detach: bool = False) -> list[str]:
    """The command line that runs `program` under a guardian."""
    guardian = str(Path(__file__).with_name("_guardian.py"))
    grace_s = f"{settings.drain_s + BEYOND_DRAINING_S:g}"
    return [sys.executable, "-I", "-S", guardian, *(["--detach"] if detach else []), grace_s, *program]


def daemon_command() -> list[str]:
    """How the daemon is started: as the command line does it, which hands over what else it serves."""
    return [sys.executable, "-m", "claude_comms", "daemon", "run"]


def _spawn(settings: Settings, places: Places, listen: str | None, give_up: float) -> dict[str, Any]:
    """Start one, and what it says once it serves or has failed; nothing where it died before."""
    program = [*daemon_command(), *(["--listen", listen] if listen else [])]
    told, tell = os.pipe()
    with os.fdopen(told, "rb") as answer:
        try:
            environment = {**daemon_environment(settings), "CLAUDE_COMMS_READY_FD": str(tell)}
            with _output(places) as output:
                subprocess.run(  # noqa: S603 - our own interpreter and modules
                    guardian_command(settings, program, detach=True),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env=environment,
                    cwd="/",
                    pass_fds=[tell],
                    start_new_session=True,
                    check=True,
                )
        except (OSError, subprocess.SubprocessError) as error:
            raise DaemonError(f"the daemon cannot be started: {error}. {_see(places)}") from error
        finally:
            os.close(tell)
        return _said(answer.fileno(), places, give_up)


def _said(pipe: int, places: Places, give_up: float) -> dict[str, Any]:
    said = b""
    while not said.endswith(b"\n"):
        if not select.select([pipe], [], [], max(0.0, give_up - time.monotonic()))[0]:
            raise DaemonError(f"the daemon was started and does not serve in time. {_see(places)}")
        more = os.read(pipe, 65536)
        if not more:
            return {}
        said += more
    return json.loads(said)


def _output(places: Places) -> Any:
    """Where a daemon prints what does not go to its log, emptied when it has grown."""
    with suppress(FileNotFoundError):
        if places.output.stat().st_size > _MOST_OUTPUT_BYTES:
            places.output.unlink()
    return os.fdopen(os.open(places.output, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600), "ab")


def _see(places: Places) -> str:
    """Where to read why, and the last of it."""
    try:
        tail = places.output.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace").strip()
    except OSError:
        tail = ""
    last = f" Its last words: {tail.splitlines()[-1]}" if tail else ""
    return f"See {places.output} and {places.log}.{last}"


def _look(settings: Settings, until: float) -> DaemonInfo | None:
    """The daemon, as soon as one answers."""
    while (found := find(settings, patient=True)) is None and time.monotonic() < until:
        time.sleep(_LOOK_AGAIN_S)
    return found


def _listening(settings: Settings, info: DaemonInfo, address: str | None) -> DaemonInfo:
    if address is None or info.listen == address:
        return info
    short_request(info.socket, "POST", "/v1/daemon/listen", {"listen": address})
    return find(settings) or info


def _gone(pid: int, within_s: float) -> bool:
    """Whether the process has ended by then."""
    give_up = time.monotonic() + within_s
    if hasattr(os, "pidfd_open"):
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            return bool(select.select([process], [], [], within_s)[0])
        finally:
            os.close(process)
    while time.monotonic() < give_up:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(_LOOK_AGAIN_S)
    return False
