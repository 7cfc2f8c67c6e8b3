"""``start-instance``: from the command line to an instance that is warm."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import typer

from claude_comms.cli import _console as console
from claude_comms.cli._access import managing, stays_here
from claude_comms.cli._pairing import pair_in_name
from claude_comms.cli._sources import asking_module, open_registry
from claude_comms.settings import Settings
from claude_comms.types import OFFLINE, InstanceLimits, Pair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from claude_comms.types import InstanceInfo

__all__ = ["Wanted", "read_environment", "start"]

_NO_GRANTS = "none"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An instance as the command line describes it."""

    pair: Pair
    name: str | None
    backend: str | None
    model: str | None
    grants: tuple[str, ...] | None
    limits: InstanceLimits | None
    environment: Mapping[str, str]

    @classmethod
    def of(
        cls,
        name: str | None,
        source: str | None,
        target: str | None,
        backend: str | None,
        model: str | None,
        grants: Sequence[str] | None,
        limits: InstanceLimits,
        environment: Sequence[str] | None,
    ) -> Self:
        """The same from a command line: the pair found, grants and variables read."""
        return cls(
            pair=_pair(name, source, target),
            name=name,
            backend=backend,
            model=model,
            grants=_grants(grants),
            limits=limits if limits != InstanceLimits() else None,
            environment=read_environment(environment),
        )


def start(wanted: Wanted, *, no_daemon: bool, as_json: bool) -> None:
    """Start it, and print its id and state."""
    with managing(no_daemon=no_daemon) as instances:
        info = instances.start(
            wanted.pair.source,
            wanted.pair.target,
            name=wanted.name,
            backend=wanted.backend,
            model=wanted.model,
            grants=wanted.grants,
            limits=wanted.limits,
            environment=wanted.environment or None,
        )
    stays = not stays_here(Settings.load(), no_daemon=no_daemon)
    if as_json:
        console.document(info.as_dict())
    else:
        _tell(info, stays=stays)
    if not stays:
        console.note(
            "It ends with this command, which keeps it in its own process. To keep it, let the daemon have it."
        )


def _tell(info: InstanceInfo, *, stays: bool) -> None:
    console.result(f"{info.instance_id} is {info.state}")
    model = "" if info.backend == OFFLINE or not info.model else f" · {info.model}"
    console.note(f"{info.source} → {info.target} · {info.backend}{model}")
    if stays:
        console.note(f'ask: claude-comms query-instance {shlex.quote(info.name or info.instance_id)} "..."')


def _pair(name: str | None, source: str | None, target: str | None) -> Pair:
    registry = open_registry(Settings.load())
    if target is not None:
        return Pair(asking_module(source, registry), target)
    if source is not None:
        raise typer.BadParameter(
            "it says who asks, and nothing says who is asked. Give --to, too.", param_hint="--from"
        )
    if name is None:
        raise typer.BadParameter(
            "no pair was given. Give --from SOURCE --to TARGET, or --name SOURCE_TARGET.", param_hint="--to"
        )
    return pair_in_name(name, [module.name for module in registry.list()])


def _grants(given: Sequence[str] | None) -> tuple[str, ...] | None:
    if not given:
        return None
    if _NO_GRANTS not in given:
        return tuple(dict.fromkeys(given))
    if len(given) > 1:
        raise typer.BadParameter(f"{_NO_GRANTS} and others cannot be granted together.", param_hint="--grant")
    return ()


def read_environment(given: Sequence[str] | None) -> dict[str, str]:
    """Variables for a process: ``NAME=VALUE``, or ``NAME`` for the value that it has here."""
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not _VARIABLE.fullmatch(name):
            raise typer.BadParameter(f"{text!r} is neither NAME=VALUE nor the name of a variable.", param_hint="--env")
        if name in found:
            raise typer.BadParameter(f"{name} is given twice.", param_hint="--env")
        if not equals and name not in os.environ:
            raise typer.BadParameter(f"{name} is not set here. Set it, or give {name}=VALUE.", param_hint="--env")
        found[name] = value if equals else os.environ[name]
    return found
