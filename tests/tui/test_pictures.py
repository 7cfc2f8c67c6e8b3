"""The pictures in the docs are what the monitor draws. ``DRAW_PICTURES=1`` draws them anew."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from claude_comms.jobs import JobState
from claude_comms.types import InstanceState, Usage
from tui.support import ANSWER, LARGE, SMALL, BoardEngine, conversation, driven, info, job, screen, turn, until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from textual.pilot import Pilot

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
pytestmark = pytest.mark.anyio


class Clock:
    """Seconds that pass when the picture needs them to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def day() -> BoardEngine:
    states = {1: InstanceState.BUSY, 2: InstanceState.HIBERNATED, 4: InstanceState.PAUSED, 5: InstanceState.FAILED}
    engine = BoardEngine(*(info(number, states.get(number, InstanceState.IDLE)) for number in range(6)))
    known = engine.instances.known
    known["i_01"] = replace(known["i_01"], waiting=3, source="marker", target="arangodb", backend="claude-code")
    known["i_02"] = replace(known["i_02"], rss_bytes=None)
    known["i_05"] = replace(known["i_05"], failure="given up after 5 restarts in 3 minutes", rss_bytes=None)
    engine.threads = {f"c_{number:02}": conversation(number) for number in (0, 2, 3, 4, 5)}
    reply = {"response": ANSWER, "usage": {"output_tokens": 150}, "duration_ms": 2100.0}
    engine.jobs.known = {
        "j_01": job(1, JobState.RUNNING, progress={"characters": 120}),
        "j_02": job(2, JobState.DONE, reply=reply),
        "j_03": job(3, JobState.FAILED, error={"type": "TurnFailedError", "message": "it stalled"}),
    }
    return engine


async def tell(engine: BoardEngine, clock: Clock, pilot: Pilot[Any]) -> None:
    """A turn on its way: what its instance says, second by second."""
    app: Any = pilot.app
    engine.tell("message.stored", turn(1, role="question", speaker="marker", text="How?", state="pending"))
    engine.tell("turn.started", turn(1, backend="claude-code", model="claude-sonnet-5-5"))
    engine.tell("turn.tool_used", turn(1, tool="Read", arguments='{"file_path": "docs/blocks.md"}'))
    for piece in range(0, len(ANSWER), 40):
        engine.tell("turn.delta", turn(1, text=ANSWER[piece : piece + 40]))
        await until(pilot, lambda: app.world.events.seen == len(engine.bus.events))
        clock.now += 1 + piece % 3
    engine.tell("turn.tool_refused", turn(3, tool="Read", aimed_at="/etc/passwd", reason="outside the module's path"))
    usage = Usage(1200, 150, 0, 0, 0.0123).as_dict()
    engine.tell("turn.completed", turn(3, reply={"usage": usage, "duration_ms": 2100.0}), namespace="tables/marker")
    await until(pilot, lambda: app.world.events.seen == len(engine.bus.events))


async def the_busy_one(pilot: Pilot[Any]) -> None:
    await pilot.press("down")
    await until(pilot, lambda: "Keep the order" in screen(pilot))


async def on(pilot: Pilot[Any], key: str, shown: str) -> None:
    await pilot.press(key)
    await until(pilot, lambda: shown in screen(pilot))


SCENES: dict[str, tuple[tuple[int, int], Callable[[Pilot[Any]], Awaitable[None]]]] = {
    "instances-80x24": (SMALL, the_busy_one),
    "instances-200x60": (LARGE, the_busy_one),
    "conversations-80x24": (SMALL, lambda pilot: on(pilot, "2", "Σ")),
    "conversations-200x60": (LARGE, lambda pilot: on(pilot, "2", "Σ")),
    "events-80x24": (SMALL, lambda pilot: on(pilot, "3", "turn.completed")),
    "jobs-80x24": (SMALL, lambda pilot: on(pilot, "4", "120 chars")),
    "usage-80x24": (SMALL, lambda pilot: on(pilot, "5", "15 turns")),
    "light-80x24": (SMALL, the_busy_one),
}


@pytest.mark.parametrize("name", SCENES)
async def test_the_picture_is_what_is_drawn(name: str) -> None:
    size, scene = SCENES[name]
    clock, engine = Clock(), day()
    theme = "textual-light" if name.startswith("light") else "textual-dark"
    async with driven(engine, size, clock=clock, theme=theme) as pilot:
        await tell(engine, clock, pilot)
        await scene(pilot)
        pilot.app.clear_notifications()
        clock.now += 1
        await pilot.pause(1.2)
        drawn = pilot.app.export_screenshot(title="claude-comms monitor")
    file = PICTURES / f"monitor-{name}.svg"
    if os.environ.get("DRAW_PICTURES"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(drawn + "\n", encoding="utf-8")
    assert drawn + "\n" == file.read_text(encoding="utf-8")
