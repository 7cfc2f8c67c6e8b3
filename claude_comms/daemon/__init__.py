"""The process that hosts an engine for everybody on the machine, and how others reach it.

The names are loaded when they are first used: finding a daemon must not cost what being one does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_comms.daemon._life import ensure, find, listen, start, status, stop
    from claude_comms.daemon._places import DaemonInfo, Places
    from claude_comms.daemon._run import run
    from claude_comms.daemon._short_request import short_request
    from claude_comms.daemon._version import own_version

__all__ = [
    "DaemonInfo",
    "Places",
    "ensure",
    "find",
    "listen",
    "own_version",
    "run",
    "short_request",
    "start",
    "status",
    "stop",
]

_HOME_OF = {
    "_life": ("ensure", "find", "listen", "start", "status", "stop"),
    "_places": ("DaemonInfo", "Places"),
    "_run": ("run",),
    "_short_request": ("short_request",),
    "_version": ("own_version",),
}
_MODULE_OF = {name: module for module, names in _HOME_OF.items() for name in names}


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module 'claude_comms.daemon' has no attribute {name!r}")
    return getattr(import_module(f"claude_comms.daemon.{module}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
