"""``usage``: what turns have cost."""

# No postponed annotations here: Typer reads them.
from enum import StrEnum
from typing import Annotated

import typer

from claude_comms.cli import _options as options

__all__ = ["usage"]


class _By(StrEnum):
    PAIR = "pair"
    SOURCE = "source"
    TARGET = "target"
    BACKEND = "backend"
    MODEL = "model"
    DAY = "day"
    ALL = "all"


def usage(
    by: Annotated[_By, typer.Option("--by", help="What to group by.")] = _By.PAIR,
    source: options.FromFilter = None,
    target: options.ToFilter = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="From there on: 2h, 7d, a date or a time.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="WHEN", help="Up to there: 2h, 7d, a date or a time.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what turns have cost."""
    from claude_comms.cli._costs import show_usage

    show_usage(by.value, source, target, since, until, as_json=as_json)
