"""A daemon's engine and server in the test's own loop, behind a road that can be cut, blocked, and taken away."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from claude_comms.daemon import DaemonInfo, Places, own_version
from claude_comms.daemon._places import write_info
from claude_comms.daemon.client import RemoteEngine
from claude_comms.daemon.server import Server
from claude_comms.engine import LocalEngine

if TYPE_CHECKING:
    from pathlib import Path

    from claude_comms.events import EventBus
    from claude_comms.settings import Settings
    from claude_comms.testing.scripted import ScriptedBackend

TOKEN = "a token for tests"


@dataclass
class Road:
    """What clients connect to instead of the daemon: it passes on what is said, as long as it is told to."""

    path: Path
    beyond: Path
    open: anyio.Event = field(default_factory=anyio.Event)
    _server: asyncio.Server | None = None
    _ways: set[asyncio.Task[None]] = field(default_factory=set["asyncio.Task[None]"])

    async def build(self) -> None:
        self.open.set()
        self._server = await asyncio.start_unix_server(self._travel, self.path)

    async def _travel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._ways.add(task)
        try:
            await self._both(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._ways.discard(task)
            writer.transport.abort()

    async def _both(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        other_reader, other_writer = await asyncio.open_unix_connection(self.beyond)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass(reader, other_writer))
                ways.create_task(self._pass(other_reader, writer))
        except* OSError:
            pass
        finally:
            other_writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self.open.wait()
            writer.write(data)
            await writer.drain()
        raise ConnectionResetError

    def block(self) -> None:
        """Nothing comes through, and nobody is told."""
        self.open = anyio.Event()

    async def cut(self) -> None:
        """Every connection breaks; new ones are let in."""
        for way in tuple(self._ways):
            way.cancel()
        if self._ways:
            await asyncio.wait(tuple(self._ways), timeout=5)

    async def close(self) -> None:
        """Nobody is there any more."""
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)
        await self.cut()


@dataclass
class Daemon:
    """The real engine and the real server, without the process."""

    settings: Settings
    scripted: ScriptedBackend
    bus: EventBus
    road: Road
    engine: LocalEngine | None = None
    server: Server | None = None
    _serving: asyncio.Task[None] | None = None

    async def rise(self) -> None:
        """Begin to serve, and be found."""
        places = Places(self.settings.home)
        self.engine = LocalEngine(self.settings, backends={"scripted": self.scripted}, bus=self.bus, hosting=True)
        await self.engine.open()
        self.server = Server(self.engine, self.settings, bus=self.bus, token=TOKEN, version=own_version())
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(self.road.beyond))
        sock.listen()
        self._serving = asyncio.create_task(self.server.serve(sock))
        await self.server.ready.wait()
        await self.road.build()
        places.token.write_text(TOKEN)
        write_info(places, self.info(places))

    def info(self, places: Places, **other: Any) -> DaemonInfo:
        told: dict[str, Any] = {
            "pid": os.getpid(),
            "version": own_version(),
            "socket": self.road.path,
            "listen": None,
            "token_file": places.token,
            "started_at": "2026-11-21T00:00:00+00:00",
            "log_file": places.log,
        }
        return DaemonInfo(**{**told, **other})

    async def fall(self) -> None:
        """Stop at once; running turns are interrupted."""
        await self.road.close()
        if self._serving is not None and self.server is not None:
            self.server.request_stop(0)
            await self._serving
            self._serving = None
        self.road.beyond.unlink(missing_ok=True)


Connect = Callable[..., AbstractAsyncContextManager[RemoteEngine]]
