"""What is reachable, how fast, what is wrong: the findings behind `diagnose()` and `doctor`."""

from __future__ import annotations

import os
import platform
import sqlite3
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from anyio import to_thread

from claude_comms.background.backends import backend_names, choose_backend
from claude_comms.engine._proof import prove_turn
from claude_comms.errors import ClaudeCommsError
from claude_comms.mcp_servers import changed_servers
from claude_comms.types import Check

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

    from claude_comms.engine._engine import LocalEngine

__all__ = ["diagnose"]

_OPEN_TO_OTHERS = 0o077
_ROOM_FOR_AN_ANSWER = 64 * 1024
"""Bytes that the disk must have left."""


async def diagnose(engine: LocalEngine, *, ask: bool = False) -> list[Check]:
    """Every finding, in the order in which a reader would look. Asks no model and sends nothing, unless told to
    `ask`: then one short turn is tried on the backend that a new conversation would use.
    """
    return [
        _versions(),
        _home(engine),
        await _store(engine),
        _prices(engine),
        *_modules(engine),
        *[await _backend(engine, name) for name in backend_names()],
        _choice(engine),
        *_not_ready(engine),
        *([await prove_turn(engine)] if ask else []),
    ]


def _versions() -> Check:
    found = [f"Python {platform.python_version()}", f"SQLite {sqlite3.sqlite_version}"]
    for name in ("claude-module-comms", "anthropic", "claude-agent-sdk"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return Check("versions", None, ", ".join(found))


def _home(engine: LocalEngine) -> Check:
    home = engine.settings.home
    mode = home.stat().st_mode
    if mode & _OPEN_TO_OTHERS:
        return Check("home", ok=False, detail=f"{home} is open to other users", hint=f"chmod 700 {home}")
    return Check("home", ok=True, detail=str(home))


async def _store(engine: LocalEngine) -> Check:
    started = time.perf_counter()
    try:
        newest = await engine.store.list(limit=1, state=None)
        await engine.database.write(_rewrite)
        await to_thread.run_sync(_make_and_drop_file, engine.settings.home)
    except ClaudeCommsError as error:
        return Check("store", ok=False, detail=str(error))
    except OSError as error:
        detail = f"{engine.settings.home} cannot be written: {error.strerror or error}"
        return Check("store", ok=False, detail=detail, hint="free some space there, or choose CLAUDE_COMMS_HOME")
    spent = round((time.perf_counter() - started) * 1000, 3)
    last = f"last written {newest[0].updated_at:%Y-%m-%d %H:%M} UTC" if newest else "empty"
    return Check("store", ok=True, detail=f"{engine.database.path}, {last}", duration_ms=spent)


def _rewrite(connection: Connection) -> None:
    """Write to the database without changing it: what it says of its version, said again."""
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    connection.exec_driver_sql(f"PRAGMA user_version = {int(version)}")


def _make_and_drop_file(home: Path) -> None:
    """Need room on the disk, which `_rewrite` may find within files that are there already."""
    with tempfile.TemporaryFile(dir=home) as file:
        file.write(bytes(_ROOM_FOR_AN_ANSWER))
        file.flush()
        os.fsync(file.fileno())


def _prices(engine: LocalEngine) -> Check:
    return Check("prices", None, f"table of {engine.prices.price_date}")


def _modules(engine: LocalEngine) -> list[Check]:
    modules = engine.registry.list()
    broken = [
        Check("descriptor", ok=False, detail=str(error), hint="correct the file, or move it away")
        for error in engine.registry.problems()
    ]
    names = ", ".join(module.name for module in modules) or "none"
    servers = engine.settings.mcp_servers
    changed = [
        Check(
            "grants",
            ok=False,
            detail=f"{module.name} was granted MCP servers that are not defined as then: {', '.join(found)}",
            hint=f"if they are meant to be so, grant them again: {module.register_again}",
        )
        for module in modules
        if (found := changed_servers(module.grants, module.agreed_servers, servers))
    ]
    return [Check("modules", ok=True, detail=names), *broken, *changed]


async def _backend(engine: LocalEngine, name: str) -> Check:
    try:
        health = await engine.backend(name).health()
    except ClaudeCommsError as error:
        return Check(f"backend {name}", None, str(error))
    untold = {key: _untold(str(value), health.reason) for key, value in health.facts.items()}
    facts = "".join(f", {key} {value}" for key, value in untold.items() if value)
    return Check(f"backend {name}", True if health.usable else None, f"{health.reason}{facts}", hint=health.hint)


def _not_ready(engine: LocalEngine) -> list[Check]:
    """What `[prewarm]` asks for and is not there."""
    hint = "correct [prewarm] in config.toml, or what is named here; then: claude-comms daemon restart"
    return [
        Check("prewarm", ok=False, detail=f"none is kept ready for {pair}: {why}", hint=hint)
        for pair, why in engine.not_ready.items()
    ]


def _untold(fact: str, reason: str) -> str:
    """What of `fact`, or of the remark in its parentheses, `reason` does not say already."""
    if fact in reason:
        return ""
    value, _, remark = fact.partition(" (")
    return value if remark and remark.removesuffix(")") in reason else fact


def _choice(engine: LocalEngine) -> Check:
    """What `auto` means for modules with a path and for the others: any directory stands for such a path."""
    try:
        there = choose_backend(engine.settings, target_path=engine.settings.home)
        nowhere = choose_backend(engine.settings, target_path=None)
    except ClaudeCommsError as error:
        return Check("new conversations", ok=False, detail=str(error))
    detail = f"use {nowhere.backend}: {nowhere.reason}"
    if there.backend != nowhere.backend:
        detail = (
            f"use {there.backend} with a module that has a path: {there.reason}; {nowhere.backend} with one that has"
            f" none: {nowhere.reason}"
        )
    return Check("new conversations", ok=True, detail=detail)
