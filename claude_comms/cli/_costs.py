"""What turns have cost, in groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from claude_comms.cli import _console as console
from claude_comms.cli._moments import read_moment
from claude_comms.cli._wording import cost
from claude_comms.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_comms.protocols import UsageBy
    from claude_comms.types import UsageRow

__all__ = ["show_usage"]


def show_usage(
    by: str, source: str | None, target: str | None, since: str | None, until: str | None, *, as_json: bool
) -> None:
    """The rows, the dearest first; days in their order. Reads the store where no daemon runs."""
    from claude_comms.communicator import Background

    with Background(Settings.load(), use_background=None) as engine:
        rows = engine.usage(
            cast("UsageBy", by),
            source=source,
            target=target,
            since=read_moment(since, "--since") if since is not None else None,
            until=read_moment(until, "--until") if until is not None else None,
        )
    if as_json:
        console.document([row.as_dict() for row in rows])
    elif any(row.turns for row in rows):
        _print(by, rows)
    else:
        console.note("No turns yet." if since is until is None else "No turns in that time.")


def _print(by: str, rows: Sequence[UsageRow]) -> None:
    console.table(
        [
            console.Column(by.upper(), flexible=True),
            console.Column("TURNS", right=True),
            console.Column("IN", right=True),
            console.Column("CACHED", right=True),
            console.Column("OUT", right=True),
            console.Column("COST", right=True),
        ],
        [
            [
                row.group,
                f"{row.turns:,}",
                f"{row.usage.input_tokens + row.usage.cache_read_tokens + row.usage.cache_write_tokens:,}",
                f"{row.usage.cache_read_tokens:,}",
                f"{row.usage.output_tokens:,}",
                cost(row.usage.cost_usd),
            ]
            for row in rows
        ],
    )
