"""Being the daemon: one process for each home, from taking the lock to letting it go."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import secrets
import signal
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from filelock import FileLock, Timeout

from claude_comms.daemon._handover import Guardian, Starter
from claude_comms.daemon._life import guardian_command
from claude_comms.daemon._places import DaemonInfo, Places, forget, read_info, write_info
from claude_comms.daemon._reach import Reach, bound
from claude_comms.daemon._version import own_version
from claude_comms.errors import ClaudeCommsError, DaemonError
from claude_comms.files import write_private

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from claude_comms.daemon.server import Server
    from claude_comms.events import EventBus
    from claude_comms.settings import Settings

__all__ = ["run"]

_LOG = logging.getLogger(__name__)
_LOCK_WITHIN_S = 0.5
_MOST_DESCRIPTORS = 8192
_SAME_SIGNAL_S = 0.3
"""Signals that come closer together than this were meant as one: a group's and its guardian's."""
_DAY_S = 86_400.0


def run(settings: Settings, *, listen: str | None = None, extra_apps: Mapping[str, Any] | None = None) -> int:
    """Be the daemon of this home until it is stopped; its exit code. Call it in the main thread of a process.

    Without a guardian above it this process becomes one, which runs the same command line again below it: whatever
    the caller has done by then is lost. SIGTERM, SIGINT, SIGHUP and the guardian's death let running turns finish; a
    second signal ends at once. DaemonError where another daemon of this home runs. `listen` is HOST:PORT to serve as
    well; `extra_apps` are ASGI applications by path.
    """
    guardian = Guardian.taken()
    if guardian is None:
        _become_guardian(settings)
    starter = Starter.taken()
    places = Places(settings.home)
    _allow_more_descriptors()
    try:
        places.prepare()
        with _only_one(places, starter):
            if guardian.lives:
                asyncio.run(_Daemon(settings, places, guardian, starter).serve(listen, extra_apps or {}))
    except ClaudeCommsError as error:
        starter.failed(error)
        raise
    except OSError as error:
        # Where the disk is full there is no other place to say it than to whoever waits.
        refusal = _refusal(error, places)
        starter.failed(refusal)
        raise refusal from error
    return 0


def _refusal(error: OSError, places: Places) -> ClaudeCommsError:
    from claude_comms.storage import translated

    told = translated(error, places.home)
    return told if isinstance(told, ClaudeCommsError) else DaemonError(f"the daemon cannot run: {error}.")


def _allow_more_descriptors() -> None:
    """As many as the system lets us have, within reason: each connection and each process of Claude Code takes some."""
    try:
        import resource
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # then it is as many as before
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _become_guardian(settings: Settings) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    command = guardian_command(settings, [sys.executable, *sys.orig_argv[1:]])
    os.execv(command[0], command)  # noqa: S606 - our own interpreter and arguments


@contextlib.contextmanager
def _only_one(places: Places, starter: Starter) -> Generator[None]:
    """Hold the home's lock, and clean up what a daemon that was killed has left."""
    lock = FileLock(places.lock, timeout=_LOCK_WITHIN_S, mode=0o600, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        starter.beaten()
        other = read_info(places)
        raise DaemonError(
            f"a daemon of {places.home} runs already{f' (pid {other.pid})' if other else ''}."
            " Stop it first: claude-comms daemon stop"
        ) from error
    try:
        forget(places)
        yield
    finally:
        forget(places)
        lock.release()


class _Daemon:
    """What a daemon consists of: an event log, an engine over it, and a server over both."""

    def __init__(self, settings: Settings, places: Places, guardian: Guardian, starter: Starter) -> None:
        self._settings = settings
        self._places = places
        self._reach = Reach(places)
        self._guardian = guardian
        self._starter = starter
        self._server: Server | None = None
        self._stopping_since: float | None = None

    async def serve(self, listen: str | None, extra_apps: Mapping[str, Any]) -> None:
        """Serve until stopped."""
        from claude_comms.daemon.server import configure_logging, secrets_of

        self._heed_signals()
        settings, token = self._settings, _token(self._places)
        handler = configure_logging(
            self._places.log, settings.log_level, secrets=secrets_of(settings, token), texts=settings.log_texts
        )
        bus = await self._opened_bus()
        try:
            await self._serve_over(bus, token, listen, extra_apps)
        except ClaudeCommsError:
            _LOG.exception("the daemon ends with an error")
            raise
        finally:
            await bus.close()
            logging.getLogger().removeHandler(handler)
            handler.close()

    async def _opened_bus(self) -> EventBus:
        from claude_comms.events.log import EventLog

        settings = self._settings
        bus = EventLog(
            settings.home / "events.db",
            retention_s=settings.event_retention_days * _DAY_S,
            retention_bytes=settings.event_retention_mb << 20,
        )
        await bus.open()
        return bus

    async def _serve_over(self, bus: EventBus, token: str, listen: str | None, extra_apps: Mapping[str, Any]) -> None:
        from claude_comms.daemon.server import Server
        from claude_comms.engine import LocalEngine

        engine = LocalEngine(self._settings, bus=bus, hosting=True)
        await engine.open()
        try:
            server = self._server = Server(
                engine,
                self._settings,
                bus=bus,
                token=token,
                version=own_version(),
                on_listen=self._on_listen,
                extra_apps=extra_apps,
            )
            serving = asyncio.create_task(server.serve(bound(self._places), listen=listen), name="daemon")
            ready = asyncio.create_task(server.ready.wait())
            await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if not serving.done():
                info = self._announce(server)
                keeping = asyncio.create_task(self._reach.keep(info, server, self._stop), name="reach")
                serving.add_done_callback(lambda _: keeping.cancel())
            await serving
        finally:
            await engine.close()  # again, where the server has done so

    def _announce(self, server: Server) -> DaemonInfo:
        """Let the daemon be found."""
        info = DaemonInfo(
            pid=os.getpid(),
            version=own_version(),
            socket=self._places.socket,
            listen=server.address,
            token_file=self._places.token,
            started_at=datetime.now(UTC).isoformat(),
            log_file=self._places.log,
        )
        write_info(self._places, info)
        self._starter.ready()
        # What is there by now stays: every full collection would look through all of it again, and stop all turns.
        gc.collect()
        gc.freeze()
        _LOG.info("the daemon serves", extra={"facts": {"pid": os.getpid(), "version": own_version()}})
        if self._stopping_since is not None:
            server.request_stop()
        return info

    def _on_listen(self, address: str) -> None:
        info = read_info(self._places)
        if info is not None:
            write_info(self._places, replace(info, listen=address))

    # --- being told to end ---------------------------------------------------------------------

    def _heed_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_reader(self._guardian.lifeline, self._unguarded)

    def _signalled(self, number: int) -> None:
        now = time.monotonic()
        if not self._guardian.lives:
            self._stop()  # it is the kernel that tells so
            return
        if self._stopping_since is not None and now - self._stopping_since > _SAME_SIGNAL_S:
            # The store and the event log are whole at any moment, and the guardian ends what was started.
            os._exit(128 + number)
        self._stop()

    def _unguarded(self) -> None:
        asyncio.get_running_loop().remove_reader(self._guardian.lifeline)
        _LOG.warning("the guardian is gone: the daemon stops")
        self._stop()

    def _stop(self) -> None:
        self._stopping_since = self._stopping_since or time.monotonic()
        if self._server is not None:
            self._server.request_stop()


def _token(places: Places) -> str:
    """What lets clients in that do not come by the socket; made once for a home."""
    with contextlib.suppress(FileNotFoundError):
        token = places.token.read_text(encoding="utf-8")
        if token.strip():
            places.token.chmod(0o600)
            return token
    token = secrets.token_urlsafe(32)
    write_private(places.token, token)
    return token
