"""The server around an engine: its doors, its beginning and its end."""

from __future__ import annotations

import asyncio
import socket as sockets
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING

import anyio

from claude_comms.daemon.server._answers import Refusal
from claude_comms.daemon.server._app import application
from claude_comms.daemon.server._connections import Listener
from claude_comms.daemon.server._doors import Door, authorities
from claude_comms.daemon.server._limits import Limits
from claude_comms.daemon.server._metrics import Metrics
from claude_comms.daemon.server._observing import Observer
from claude_comms.daemon.server._service import Service
from claude_comms.daemon.server._turns import Turns
from claude_comms.daemon.wire import settings_digest
from claude_comms.errors import ClaudeCommsError, ConfigError, DaemonError
from claude_comms.events import NewEvent, Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.types import ASGIApp

    from claude_comms.events import EventBus
    from claude_comms.protocols import HostedEngine
    from claude_comms.settings import Settings

__all__ = ["Server"]

_CLOSE_WAIT_S = 10.0
_LAST_WORDS_S = 1.0


class Server:
    """Serves an engine that is open, on a Unix socket and, when asked to, on a loopback address.

    `bus` is the engine's, open, and stays open until `serve` has returned: the last event is told after the engine is
    closed. `token` is what the token's file holds. `on_listen` is told the address once there is one. `extra_apps`
    are ASGI applications by path, behind the same doors; whoever gives them runs their lifespan.
    """

    def __init__(
        self,
        engine: HostedEngine,
        settings: Settings,
        *,
        bus: EventBus,
        token: str,
        version: str,
        on_listen: Callable[[str], None] | None = None,
        extra_apps: Mapping[str, ASGIApp] | None = None,
        limits: Limits | None = None,
    ) -> None:
        if not token.strip():
            raise ConfigError("the daemon's token is empty. Remove its file; the next start makes a new one.")
        self._engine = engine
        self._settings = settings
        self._bus = bus
        self._token = token
        self._on_listen = on_listen
        self._limits = limits or Limits.fitting()
        self._turns = Turns(engine, bus)
        self.service = Service(
            engine=engine,
            bus=bus,
            settings=settings,
            turns=self._turns,
            metrics=Metrics(),
            limits=self._limits,
            version=version,
            digest=settings_digest(settings, token),
            listen=self.listen,
            request_stop=self.request_stop,
        )
        self.app = application(self.service, extra_apps or {})
        self._observer = Observer(engine, self.service.metrics, texts=settings.log_texts)
        self._listeners: list[Listener] = []
        self.service.connections = self._connections
        self._at_socket = 0
        """Which of them serves the Unix socket."""
        self._tasks: list[asyncio.Task[None]] = []
        self._listening = anyio.Lock()
        self._stop_wanted = anyio.Event()
        self._drain_s = settings.drain_s
        self._patience: anyio.CancelScope | None = None
        self._ready = anyio.Event()

    @property
    def address(self) -> str | None:
        """``HOST:PORT`` where it listens besides the socket."""
        return self.service.listens_on

    @property
    def ready(self) -> anyio.Event:
        """Set once the socket is served."""
        return self._ready

    async def serve(self, sock: sockets.socket, *, listen: str | None = None) -> None:
        """Serve `sock`, a bound Unix socket of mode 0600, until `request_stop`; then drain, and close the engine.

        With `listen` on a loopback address, too. Cancelling it leaves out the draining. Closes `sock`; its file is
        the caller's. ConfigError where `listen` is wrong or taken: nothing is served then, and the engine is open.
        """
        self.service.socket = str(sock.getsockname())
        if listen is not None:
            await self.listen(listen)
        self._at_socket = len(self._listeners)
        await self._open_door(sock, Door(self.app, self._limits))
        self._observer.start(self._bus.last_seq)
        await self._tell("daemon.started", {"socket": self.service.socket, "listen": self.address})
        self._ready.set()
        try:
            await self._stop_wanted.wait()
            await self._drain()
        finally:
            with anyio.CancelScope(shield=True):
                await self._close()

    async def move_to(self, sock: sockets.socket) -> None:
        """Serve `sock`, another bound Unix socket, instead of the one before; its connections stay."""
        before = self._listeners[self._at_socket]
        self._at_socket = len(self._listeners)
        await self._open_door(sock, Door(self.app, self._limits))
        for server in before.servers:
            server.close()

    async def listen(self, address: str) -> str:
        """Also listen on ``HOST:PORT`` of this machine, and return it with the port that it got.

        ConfigError for another machine's or a taken address; DaemonError (409) where it listens elsewhere already.
        """
        host, port = _parsed(address)
        async with self._listening:
            if self.address is not None:
                if port in (0, int(self.address.rpartition(":")[2])):
                    return self.address
                raise Refusal(
                    DaemonError(f"the daemon listens on {self.address} already. Stop it to change that."), 409
                )
            sock = _bound(host, port, address)
            port = int(sock.getsockname()[1])
            await self._open_door(sock, Door(self.app, self._limits, token=self._token, hosts=authorities(port)))
            self.service.listens_on = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if self._on_listen is not None:
            self._on_listen(self.service.listens_on)
        return self.service.listens_on

    def request_stop(self, drain_s: float | None = None) -> None:
        """Begin to stop and return at once; `serve` returns when it is done. In the server's event loop only.

        Called again with a `drain_s`, it makes what is left of the time shorter, never longer.
        """
        if not self._stop_wanted.is_set():
            self._drain_s = self._settings.drain_s if drain_s is None else drain_s
            self.service.draining = True
            self._stop_wanted.set()
        elif drain_s is not None:
            self._drain_s = min(self._drain_s, drain_s)
            if self._patience is not None:
                # Not anyio's name for the same clock: a signal's handler is no task.
                now = asyncio.get_running_loop().time()
                self._patience.deadline = min(self._patience.deadline, now + drain_s)

    def _connections(self) -> int:
        return self._listeners[0].connections if self._listeners else 0

    async def _open_door(self, sock: sockets.socket, door: Door) -> None:
        sock.setblocking(False)  # noqa: FBT003 - its name says it
        listener = Listener(door, self._limits, self._listeners)
        self._listeners.append(listener)
        serving = asyncio.create_task(listener.serve(sockets=[sock]), name="door")
        self._tasks.append(serving)
        opened = asyncio.create_task(listener.opened.wait())
        await asyncio.wait({serving, opened}, return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        if serving.done():
            await serving  # it says why it could not

    # --- the end -------------------------------------------------------------------------------

    async def _drain(self) -> None:
        self._turns.refuse()
        await self._tell("daemon.draining", {"drain_s": self._drain_s, "turns": self._turns.running})
        with anyio.CancelScope(deadline=anyio.current_time() + self._drain_s) as self._patience:
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(self._turns.finished)
                waiting.start_soon(self._engine.drain, self._drain_s)
        await self._turns.interrupt()

    async def _close(self) -> None:
        try:
            await self._engine.close()
        finally:
            await self._turns.close()
            # Those who wait for the end of a turn are told it before the doors close.
            await self._turns.quiet(_LAST_WORDS_S)
            await self._observer.stop()
            await self._tell("daemon.stopped", {})
            self.service.closing.set()
            for listener in self._listeners:
                listener.should_exit = True
            if self._tasks:
                _, late = await asyncio.wait(self._tasks, timeout=_CLOSE_WAIT_S)
                for task in late:
                    task.cancel()

    async def _tell(self, kind: str, facts: Mapping[str, object]) -> None:
        data = {"version": self.service.version, "pid": self.service.status()["pid"], **facts}
        with suppress(ClaudeCommsError), anyio.move_on_after(_LAST_WORDS_S):
            await self._bus.publish(NewEvent(kind, "daemon", "daemon", data, Priority.HIGH))


def _parsed(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    host = "127.0.0.1" if host.lower() == "localhost" else host
    try:
        if port.isascii() and port.isdigit() and int(port) < 65_536 and ip_address(host).is_loopback:
            return host, int(port)
    except ValueError:
        pass
    raise ConfigError(f"listen: {address!r} is not HOST:PORT of this machine. Give 127.0.0.1:PORT or [::1]:PORT.")


def _bound(host: str, port: int, address: str) -> sockets.socket:
    family = sockets.AF_INET6 if ":" in host else sockets.AF_INET
    try:
        return sockets.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigError(f"cannot listen on {address}: {error.strerror or error}. Choose another port.") from error
