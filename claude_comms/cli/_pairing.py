"""Which pair a new instance is for: said with ``--from`` and ``--to``, or by its name alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from claude_comms.types import Pair

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["pair_in_name", "splits"]


def splits(name: str, known: Collection[str]) -> list[Pair]:
    """The pairs of known modules that `name` is made of, each with one ``_`` between source and target."""
    places = [place for place, character in enumerate(name) if character == "_"]
    pairs = [Pair(name[:place], name[place + 1 :]) for place in places]
    return [pair for pair in pairs if pair.source in known and pair.target in known]


def pair_in_name(name: str, known: Collection[str]) -> Pair:
    """The one pair in `name`; misuse, with the reason and the known modules, where it is none or several."""
    found = splits(name, known)
    if len(found) == 1:
        return found[0]
    if found:
        reason = f"{name!r} may mean {' or '.join(map(str, found))}."
    elif "_" in name:
        reason = f"{name!r} does not split at _ into two known modules."
    else:
        reason = f"{name!r} names no pair: it has no _ between a source and a target."
    modules = ", ".join(sorted(known)) or "none"
    raise typer.BadParameter(
        f"{reason} Say which: --from SOURCE --to TARGET. Known modules: {modules}.", param_hint="--name"
    )
