"""Figures and times in the little room of a cell."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_comms.types import Usage

__all__ = ["age", "clock", "cost", "cost_and_tokens", "count", "day_and_time", "memory", "seconds", "sparkline"]

_BLOCKS = "▁▂▃▄▅▆▇█"


def cost(usd: float | None) -> str:
    """Dollars: cents from ten cents on, else as many places as it takes; ``?`` where no price is known."""
    if usd is None:
        return "?"
    if not usd:
        return "-"
    return f"${usd:,.2f}" if usd >= 0.1 else f"${usd:.4f}"


def count(number: float) -> str:
    """A count in at most five characters."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            scaled = number / (1e3 if letter == "k" else size)
            return f"{scaled:.1f}{letter}" if scaled < 100 else f"{scaled:.0f}{letter}"
    return f"{number:.0f}"


def cost_and_tokens(usage: Usage) -> str:
    """What a turn cost, and its tokens in and out."""
    read = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    price = "price unknown" if usage.cost_usd is None else cost(usage.cost_usd) if usage.cost_usd else "no cost"
    cached = f" ({count(usage.cache_read_tokens)} cached)" if usage.cache_read_tokens else ""
    return f"{price} · {count(read)}{cached} tokens in, {count(usage.output_tokens)} out"


def memory(size_bytes: int | None) -> str:
    """Bytes as MiB or GiB; ``-`` for none."""
    if size_bytes is None:
        return "-"
    mib = size_bytes / 1024 / 1024
    return f"{mib:.0f}M" if mib < 1000 else f"{mib / 1024:.1f}G"


def seconds(duration_ms: float) -> str:
    """A duration."""
    return f"{duration_ms / 1000:.1f} s"


def age(moment: datetime | None, now: datetime | None = None) -> str:
    """How long ago, roughly: ``12s``, ``3m``, ``2h``, ``5d``; ``-`` for never."""
    if moment is None:
        return "-"
    past_s = max(0.0, ((now or datetime.now(UTC)) - moment).total_seconds())
    for unit_s, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if past_s >= unit_s:
            return f"{past_s / unit_s:.0f}{unit}"
    return f"{past_s:.0f}s"


def clock(moment: datetime) -> str:
    """A moment on the reader's clock."""
    return f"{moment.astimezone():%H:%M:%S}"


def day_and_time(moment: datetime) -> str:
    """A moment on the reader's clock, with its day."""
    return f"{moment.astimezone():%m-%d %H:%M}"


def sparkline(values: Sequence[float]) -> str:
    """A character for each value, the tallest for the largest of them; blank where all are nothing."""
    most = max(values, default=0.0)
    if most <= 0:
        return " " * len(values)
    return "".join(" " if value <= 0 else _BLOCKS[min(7, int(value / most * 7.999))] for value in values)
