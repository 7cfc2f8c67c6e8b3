"""The screen of what turns have cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType

from claude_comms.errors import ClaudeCommsError
from claude_comms.text import one_line
from claude_comms.tui._figures import cost, count
from claude_comms.tui._table import Column, ListTable
from claude_comms.tui._view import AboutLine, FilterLine, View
from claude_comms.tui.model import contains_all
from claude_comms.types import Usage, UsageRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from claude_comms.protocols import UsageBy
    from claude_comms.tui._table import Cell

__all__ = ["UsageView"]

_BY: tuple[tuple[UsageBy, str], ...] = (
    ("pair", "pair"),
    ("target", "module that answers"),
    ("source", "module that asks"),
    ("day", "day"),
    ("backend", "backend"),
    ("model", "model"),
)
_WITHIN: tuple[tuple[str, timedelta | None], ...] = (
    ("all time", None),
    ("the last 7 days", timedelta(days=7)),
    ("the last 24 hours", timedelta(hours=24)),
)
_COLUMNS = (
    Column("GROUP", 16, flexible=1),
    Column("TURNS", 6, right=True),
    Column("IN", 7, right=True),
    Column("CACHED", 7, right=True),
    Column("OUT", 7, right=True),
    Column("COST", 9, right=True),
    Column("SHARE", 15),
)
_LOADS_EVERY_S = 3.0
_BAR = 10
_EMPTY = "No turns in that time."


class UsageView(View[UsageRow]):
    """What turns have cost: by pair, module and day."""

    TITLE = "Usage"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b", "by(1)", "Group by …"),
        Binding("B", "by(-1)", "Group by … (back)", show=False),
        Binding("w", "within", "Time"),
    ]
    _by = 0
    _within = 0
    _rows: Sequence[UsageRow] = ()
    _total = 0.0
    _heard = -1
    _loaded_at = float("-inf")

    def compose(self) -> ComposeResult:
        """The filter, what is shown, the rows."""
        yield FilterLine("/ filter: names …")
        yield AboutLine()
        yield ListTable(_COLUMNS, lambda row: row.group, self._cells, empty="Loading …")

    def bring_up_to_date(self, *, changed: bool) -> None:
        """Load again once turns have ended."""
        heard, now_s = self.desk.world.changes["turn"], self.desk.world.clock()
        if heard != self._heard and now_s - self._loaded_at >= _LOADS_EVERY_S:
            self._heard, self._loaded_at = heard, now_s
            self.worked("load", self._load)

    async def _load(self) -> None:
        span = _WITHIN[self._within][1]
        since = None if span is None else datetime.now(UTC) - span
        try:
            rows = await self.desk.engine.usage(_BY[self._by][0], since=since)
        except ClaudeCommsError as error:
            self.not_loaded(error)
            self._heard = -1
            return
        newest_first = _BY[self._by][0] == "day"
        self._rows = list(reversed(rows)) if newest_first else rows
        self._show()

    def _show(self) -> None:
        words = tuple(self.filter_text.lower().split())
        shown = [row for row in self._rows if contains_all(words, f"{row.group} {_shown(row.group)}")]
        self._total = sum(row.usage.cost_usd or 0.0 for row in self._rows)
        total = sum((row.usage for row in shown if row.usage.cost_usd is not None), Usage(cost_usd=0.0))
        turns = sum(row.turns for row in shown)
        text = f"by {_BY[self._by][1]} · {_WITHIN[self._within][0]} · {turns:,} turns · {_sum(total)}"
        self.tell_about(one_line(text))
        self.table.empty = self.none_of(_EMPTY)
        self.table.show(shown)

    def _cells(self, row: UsageRow) -> list[Cell]:
        usage = row.usage
        read = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        part = (usage.cost_usd or 0.0) / self._total if self._total else 0.0
        group = _shown(row.group) if _BY[self._by][0] == "pair" else row.group
        return [
            group,
            f"{row.turns:,}",
            count(read),
            count(usage.cache_read_tokens),
            count(usage.output_tokens),
            cost(usage.cost_usd),
            (f"{part:>4.0%} {'█' * round(part * _BAR)}" if part else "", "good"),
        ]

    def on_input_changed(self) -> None:
        """Filter as it is typed."""
        self._show()

    def action_by(self, step: int) -> None:
        """The next grouping."""
        self._by = (self._by + step) % len(_BY)
        self.worked("load", self._load)

    def action_within(self) -> None:
        """The next span of time."""
        self._within = (self._within + 1) % len(_WITHIN)
        self.worked("load", self._load)


def _shown(group: str) -> str:
    return group.replace("/", " → ")


def _sum(usage: Usage) -> str:
    read = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    return (
        f"{cost(usage.cost_usd) if usage.cost_usd else 'no cost'} · {count(read)} in, {count(usage.output_tokens)} out"
    )
