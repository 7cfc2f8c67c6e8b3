"""``daemon install`` and ``uninstall``: a unit file shown, agreed to, and written."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from claude_comms.cli import _console as console
from claude_comms.cli._agreement import agreed
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from claude_comms.daemon.units import Unit

__all__ = ["install", "uninstall"]

_SYSTEMD, _LAUNCHD = "systemd", "launchd"
_LOOK = ", or --print to look"


def install(*, systemd: bool, launchd: bool, only_print: bool, yes: bool, as_json: bool) -> None:
    """Show the unit and, once it is agreed to, write it and have the system start the daemon by it."""
    from claude_comms.daemon import units

    kind, unit = _unit(systemd=systemd, launchd=launchd)
    if only_print:
        _print(kind, unit, as_json=as_json)
        console.note(unit.key_advice)
        return
    console.note(f"This would be written to {unit.path}:\n\n{unit.text.rstrip()}\n")
    for command in unit.enable:
        console.note(f"and this would be run: {' '.join(command)}")
    console.note(unit.key_advice)
    agreed("Write it?", yes=yes, otherwise=_LOOK)
    units.install(unit)
    if as_json:
        console.document(_facts(kind, unit, installed=True))
    else:
        console.result(str(unit.path))


def uninstall(*, systemd: bool, launchd: bool, yes: bool, as_json: bool) -> None:
    """End what `install` began, and remove its file."""
    from claude_comms.daemon import units

    kind, unit = _unit(systemd=systemd, launchd=launchd)
    if unit.path.exists():
        console.note(f"{unit.path} would be removed, and the daemon that it started be stopped.")
        agreed("Remove it?", yes=yes, otherwise=_LOOK)
    removed = units.uninstall(unit)
    if as_json:
        console.document({"kind": kind, "path": str(unit.path), "removed": removed})
    else:
        console.result(f"{unit.path} is removed" if removed else f"There is no {unit.path}")


def _unit(*, systemd: bool, launchd: bool) -> tuple[str, Unit]:
    from claude_comms.daemon import units

    if systemd and launchd:
        raise typer.BadParameter("one of them is enough.", param_hint="--systemd, --launchd")
    settings = Settings.load()
    kind = _LAUNCHD if launchd or (sys.platform == "darwin" and not systemd) else _SYSTEMD
    return kind, units.launchd_unit(settings) if kind == _LAUNCHD else units.systemd_unit(settings)


def _print(kind: str, unit: Unit, *, as_json: bool) -> None:
    if as_json:
        console.document(_facts(kind, unit, installed=False))
        return
    console.note(str(unit.path))
    console.result(unit.text.rstrip("\n"))


def _facts(kind: str, unit: Unit, *, installed: bool) -> dict[str, Any]:
    return {"kind": kind, "path": str(unit.path), "text": unit.text, "installed": installed}
