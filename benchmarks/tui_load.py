"""How the monitor bears a busy day: 100 instances, 1,000 events a second, and a reader who presses keys.

    python benchmarks/tui_load.py [--minutes 3] [--instances 100] [--events 1000] [--columns 200] [--lines 60]

All parts are the real ones, each in a process of its own: the loopback Messages API that streams a piece of text to
each instance some times a second, the daemon with its instances on `api`, and ``claude-comms monitor`` on a
pseudo-terminal. Measured from outside, as a reader would: the time from a key's byte written to the terminal until
what the key causes has been read from it, and the resident memory of the monitor's process.

Beside them, in the same moments, a bare Textual app of one line that counts a key: what the machine and Textual take.

- down, up: the next instance is chosen, until its row has the mark. screens: another screen. Target: 50 ms.
- memory: each minute. Target: flat, once histories are full (about five minutes: 64,000 characters of each instance).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import os
import pty
import random
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from _loopback import KEY, MODEL, machine
from throughput import describe_targets

from claude_comms import AsyncBackground
from claude_comms.daemon import find, start, stop
from claude_comms.events import Event
from claude_comms.settings import Settings
from claude_comms.testing.loopback import Answer, LoopbackAPI

if TYPE_CHECKING:
    from collections.abc import Generator

ANSWER_S = 60.0
PIECE = "Keep **one** document for each page. "
CHOSEN = re.compile("▸ .*?(i_[0-9a-z]{26})".encode(), re.DOTALL)
"""The id in the row with the mark: other rows are drawn again all the time."""
BARE = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    count = 0
    def compose(self):
        yield Static()
    def key_j(self):
        self.count += 1
        self.query_one(Static).update(f"counted {self.count:06}", layout=False)
Bare().run()
"""
COUNTED = re.compile(rb"counted \d{6}")
KEY_WITHIN_S = 5.0
LONGEST_RUN_S = 7_500
ROUNDS_AHEAD = 3
FULL_AFTER_MINUTES = 5
FLAT_MB = 10.0


@dataclass
class Screen:
    """The monitor on a pseudo-terminal: a thread reads what it shows, and when."""

    process: subprocess.Popen[bytes]
    controller: int
    shown: bytearray = field(default_factory=bytearray)
    news: threading.Condition = field(default_factory=threading.Condition)

    def read(self) -> None:
        """Until the monitor ends."""
        while True:
            try:
                data = os.read(self.controller, 65536)
            except OSError:
                return
            with self.news:
                self.shown += data
                self.news.notify_all()

    def press(self, key: bytes, seen: re.Pattern[bytes], unless: bytes = b"") -> float | None:
        """Seconds from the key until something other than `unless` that fits `seen` is shown; None if it is not."""
        with self.news:
            self.shown.clear()
            began = time.perf_counter()
            os.write(self.controller, key)
            while time.perf_counter() - began < KEY_WITHIN_S:
                if any(found != unless for found in seen.findall(self.shown)):
                    return time.perf_counter() - began
                self.news.wait(KEY_WITHIN_S)
        return None

    def last(self, seen: re.Pattern[bytes]) -> bytes:
        """What was shown last that fits `seen`."""
        with self.news:
            found = seen.findall(self.shown)
        return found[-1] if found else b""


@contextlib.contextmanager
def loopback(pieces: int, pause_s: float) -> Generator[str]:
    """The API's address; its answers come in so many pieces, with a pause before each."""
    command = [sys.executable, __file__, "--serve", str(pieces), str(pause_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def serve(pieces: int, pause_s: float) -> None:
    """Be the API."""
    with LoopbackAPI(Answer(pieces=(PIECE,) * pieces, pause_s=pause_s)) as api:
        print(api.base_url, flush=True)
        threading.Event().wait(LONGEST_RUN_S)


@contextlib.contextmanager
def shown(command: list[str], environment: dict[str, str], columns: int, lines: int) -> Generator[Screen]:
    """A command on a terminal of that size."""
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, *command],
        stdin=terminal, stdout=terminal, stderr=terminal, env=environment, cwd=environment["HOME"],
        start_new_session=True,
    )  # fmt: skip
    os.close(terminal)
    screen = Screen(process, controller)
    threading.Thread(target=screen.read, daemon=True).start()
    try:
        yield screen
    finally:
        process.terminate()
        process.wait(20)


def environment(home: Path, address: str) -> dict[str, str]:
    """The whole environment of the monitor."""
    return {
        "PATH": os.environ["PATH"], "HOME": str(home.parent), "CLAUDE_COMMS_HOME": str(home),
        "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": address, "TERM": "xterm-256color", "COLORTERM": "truecolor",
        "LC_ALL": "C.UTF-8", "PYTHONPATH": str(Path(__file__).parents[1]),
    }  # fmt: skip


async def ask(settings: Settings, targets: list[str], rounds: int) -> None:
    """Queue questions that keep all instances busy for so many minutes."""
    async with AsyncBackground(settings) as background:
        for _ in range(rounds):
            for target in targets:
                await background.start_job(target, "How?", source="marker", backend="api", deadline_s=20 * ANSWER_S)


async def events_a_second(settings: Settings, over_s: float = 5.0) -> float:
    """By the numbers that the daemon gives them."""
    async with AsyncBackground(settings) as background:
        firsts: list[tuple[float, int]] = []
        for wait_s in (0.0, over_s):
            await asyncio.sleep(wait_s)
            async with background.follow() as events:
                event = await anext(events)
                assert isinstance(event, Event)
                firsts.append((time.perf_counter(), event.seq))
    (began, first), (ended, last) = firsts
    return (last - first) / (ended - began)


def told(name: str, waits_s: list[float]) -> str:
    """Median, p99 and the longest, in milliseconds."""
    ordered = sorted(waits_s)
    p99 = ordered[min(len(ordered) - 1, round(len(ordered) * 0.99))]
    return (
        f"{name:<8} {len(ordered):>5} keys   median {statistics.median(ordered) * 1e3:6.1f} ms"
        f"   p99 {p99 * 1e3:6.1f} ms   longest {ordered[-1] * 1e3:6.1f} ms"
    )


def verdict(memory: list[tuple[float, float]]) -> str:
    """By how much the memory grew once histories were full. `memory`: minutes and MB."""
    full = [(minute, size_mb) for minute, size_mb in memory if minute >= FULL_AFTER_MINUTES]
    if len(full) < 2:
        return f"memory: too short a run to tell whether it is flat ({FULL_AFTER_MINUTES} minutes fill the histories)"
    (first, before_mb), (last, after_mb) = full[0], full[-1]
    grown_mb = after_mb - before_mb
    return (
        f"memory: {grown_mb:+.1f} MB from minute {first:.0f} to minute {last:.0f}"
        f" ({grown_mb / (last - first):+.2f} MB a minute): {'flat' if grown_mb < FLAT_MB else 'NOT FLAT'}"
    )


@dataclass
class Reader:
    """Who presses keys: down and up through the list, now and then another screen. Beside them, the bare app."""

    screen: Screen
    bare: Screen
    rows: int
    waits: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    lost: int = 0
    """Keys that had no effect in time."""
    row: int = 0
    down: bool = True
    chosen: bytes = b""

    def press_keys(self, until: float) -> None:
        """Press keys at odd moments."""
        while time.perf_counter() < until:
            time.sleep(random.uniform(0.05, 0.3))
            self.note("bare", self.bare.press(b"j", COUNTED))
            if random.random() < 0.05:
                self.down = not self.down
            self.down = self.row == 0 or (self.down and self.row < self.rows - 1)
            name = "down" if self.down else "up"
            self.note(name, self.screen.press(b"j" if self.down else b"k", CHOSEN, self.chosen))
            self.row += 1 if self.down else -1
            self.chosen = self.screen.last(CHOSEN) or self.chosen
            if random.random() < 0.05:
                for key, words in ((b"3", rb"following"), (b"1", rb"RSS")):
                    time.sleep(0.3)
                    self.note("screens", self.screen.press(key, re.compile(words)))

    def note(self, name: str, wait_s: float | None) -> None:
        """How long a key took."""
        if wait_s is None:
            self.lost += 1
        else:
            self.waits.setdefault(name, []).append(wait_s)


def run(options: argparse.Namespace) -> None:
    """Everything, once."""
    print(f"{machine()}; {options.instances} instances, {options.columns}x{options.lines}")
    pause_s = options.instances / options.events
    with (
        tempfile.TemporaryDirectory(prefix="cc-load-") as folder,
        loopback(int(ANSWER_S / pause_s), pause_s) as address,
    ):
        home = Path(folder) / "home"
        home.mkdir()
        targets = describe_targets(home, options.instances)
        limits = {"max_instances": options.instances + 10, "max_jobs_running": options.instances}
        (home / "config.toml").write_text("".join(f"{name} = {value}\n" for name, value in limits.items()))
        given = {"home": home, "model": MODEL, "anthropic_api_key": KEY, "anthropic_base_url": address}
        settings = Settings.load({**given, **limits})
        start(settings)
        try:
            asyncio.run(ask(settings, targets, ROUNDS_AHEAD))
            place = (environment(home, address), options.columns, options.lines)
            with shown(["-m", "claude_comms", "monitor"], *place) as screen, shown(["-c", BARE], *place) as bare:
                measure(settings, targets, screen, bare, options.minutes)
        finally:
            stop(settings, drain_s=0)


def measure(settings: Settings, targets: list[str], screen: Screen, bare: Screen, minutes: float) -> None:
    """Press keys for so long, and look at the memory."""
    process, daemon = psutil.Process(screen.process.pid), find(settings)
    assert daemon is not None
    time.sleep(10)
    print(f"{'minute':>7} {'events/s':>9} {'monitor':>9} {'its CPU':>8}   daemon's CPU")
    reader = Reader(screen, bare, len(targets))
    asked = ROUNDS_AHEAD
    memory: list[tuple[float, float]] = []
    began = time.perf_counter()
    daemon_process = psutil.Process(daemon.pid)
    while (past_s := time.perf_counter() - began) < minutes * 60:
        process.cpu_percent()
        daemon_process.cpu_percent()
        reader.press_keys(time.perf_counter() + min(55, minutes * 60 - past_s))
        cpu, daemon_cpu = process.cpu_percent(), daemon_process.cpu_percent()
        rate = asyncio.run(events_a_second(settings))
        needed = ROUNDS_AHEAD + int((time.perf_counter() - began) / ANSWER_S)
        asyncio.run(ask(settings, targets, needed - asked))
        asked = needed
        memory.append(((time.perf_counter() - began) / 60, process.memory_info().rss / 2**20))
        minute, size_mb = memory[-1]
        print(f"{minute:7.1f} {rate:9,.0f} {size_mb:7.1f}MB {cpu:7.0f}% {daemon_cpu:7.0f}%", flush=True)
    print(verdict(memory))
    for name, found in sorted(reader.waits.items()):
        print(told(name, found))
    print(told("all", [wait for name, found in reader.waits.items() if name != "bare" for wait in found]))
    print(f"keys without effect within {KEY_WITHIN_S:g} s: {reader.lost}")


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--instances", type=int, default=100)
    parser.add_argument("--events", type=int, default=1000)
    parser.add_argument("--columns", type=int, default=200)
    parser.add_argument("--lines", type=int, default=60)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(int(options.serve[0]), float(options.serve[1]))
    else:
        run(options)


if __name__ == "__main__":
    main()
