"""An instance as a row, and the order of the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_comms.tui._figures import age, cost, count, memory, sparkline
from claude_comms.tui._table import Cell, Column
from claude_comms.types import InstanceState

if TYPE_CHECKING:
    from collections.abc import Callable

    from claude_comms.tui.model import Watched

__all__ = ["COLUMNS", "SORTED_BY", "cells_of", "key_of", "ordered", "searched"]

_SPARK, _LONG_SPARK, _SPARK_EACH_S = 8, 24, 2
_WIDE = 150
COLUMNS = (
    Column("STATE", 10),
    Column("PAIR", 16, flexible=2),
    Column("NAME", 8, flexible=1, from_width=120),
    Column("BACKEND", 11),
    Column("MODEL", 12, flexible=1, from_width=100),
    Column("Q", 2, right=True),
    Column("TURNS", 5, right=True),
    Column("≈TOKENS/S", _SPARK + 5, right=True, below_width=_WIDE),
    Column("≈TOKENS/S", _LONG_SPARK + 5, right=True, from_width=_WIDE),
    Column("COST", 7, right=True),
    Column("RSS", 5, right=True),
    Column("USED", 5, right=True, from_width=_WIDE),
    Column("ID", 28, from_width=_WIDE),
)
_TONES = {
    InstanceState.BUSY: "good",
    InstanceState.STARTING: "good",
    InstanceState.FAILED: "bad",
    InstanceState.PAUSED: "warn",
    InstanceState.HIBERNATED: "dim",
    InstanceState.STOPPED: "dim",
}
_URGENCY = {
    state: rank
    for rank, state in enumerate(
        (
            InstanceState.FAILED,
            InstanceState.BUSY,
            InstanceState.STARTING,
            InstanceState.PAUSED,
            InstanceState.IDLE,
            InstanceState.HIBERNATED,
            InstanceState.STOPPED,
        )
    )
}


def key_of(watched: Watched) -> str:
    """Its id."""
    return watched.info.instance_id


def cells_of(watched: Watched, now_s: float) -> list[Cell]:
    """What its row says, a cell for each of `COLUMNS`."""
    info, tone = watched.info, _TONES.get(watched.info.state, "")
    rate = watched.rate.current(now_s)
    spark = sparkline(watched.rate.rates(_LONG_SPARK, now_s, each_s=_SPARK_EACH_S))
    speed = f"{count(rate) if rate else '':>4}"
    return [
        (str(info.state), tone),
        f"{info.source} → {info.target}",
        info.name or "",
        info.backend,
        info.model or "",
        (str(info.waiting), "warn") if info.waiting else "",
        count(info.turns),
        f"{spark[-_SPARK:]} {speed}",
        f"{spark} {speed}",
        cost(info.usage.cost_usd),
        (memory(info.rss_bytes), "" if info.rss_bytes else "dim"),
        (age(info.last_used_at), "dim"),
        (info.instance_id, "dim"),
    ]


SORTED_BY: dict[str, Callable[[Watched, float], Any]] = {
    "STATE": lambda w, _: _URGENCY[w.info.state],
    "PAIR": lambda w, _: (w.info.source, w.info.target),
    "NAME": lambda w, _: w.info.name or "~",
    "BACKEND": lambda w, _: w.info.backend,
    "MODEL": lambda w, _: w.info.model or "",
    "Q": lambda w, _: -w.info.waiting,
    "TURNS": lambda w, _: -w.info.turns,
    "≈TOKENS/S": lambda w, now_s: -w.rate.current(now_s),
    "COST": lambda w, _: -(w.info.usage.cost_usd or 0.0),
    "RSS": lambda w, _: -(w.info.rss_bytes or 0),
    "USED": lambda w, _: -w.info.last_used_at.timestamp(),
    "ID": lambda w, _: w.info.instance_id,
}
"""By what heading rows are sorted how: figures with the largest first."""


def ordered(found: list[Watched], title: str, now_s: float, *, backwards: bool) -> list[Watched]:
    """Sorted by a column; equals stand as old as they are."""
    by = SORTED_BY[title]
    found = sorted(found, key=lambda w: (w.info.created_at, w.info.instance_id))
    return sorted(found, key=lambda w: by(w, now_s), reverse=backwards)


def searched(watched: Watched) -> str:
    """What a filter looks at."""
    info = watched.info
    pair = f"{info.source} → {info.target}"
    return f"{info.state} {pair} {info.name or ''} {info.backend} {info.model or ''} {info.instance_id}"
