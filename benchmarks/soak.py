"""Kills the daemon, its guardians and its Claude Code processes at random, and counts what that costs.

    python benchmarks/soak.py [--rounds 200] [--seed N] [--asking api=3,claude-code=2] [--stored 10000]

The daemon is the real one, Claude Code is the real one, the server is the loopback Messages API. Clients are processes
of their own that ask without a pause and note what they are told; none of them is killed, and whichever asks next
starts the daemon again. At the end everything that was acknowledged is looked for in the store, the event log and the
API's log. Exit 1 if any count that must be 0 is not. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import psutil
from _loopback import MODEL, machine
from _soak_ledger import Findings, Ledger
from _soak_processes import ORPHANS_WITHIN_S, Household, household, kill, left_of, lives

import claude_comms
from claude_comms.conversations import ConversationStore
from claude_comms.daemon import find, short_request, stop
from claude_comms.errors import DaemonError
from claude_comms.settings import Settings
from claude_comms.storage import Database, OwnerLock
from claude_comms.testing.loopback import Answer, LoopbackAPI
from claude_comms.types import Pair, Usage

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from claude_comms.testing import RecordedRequest

CLIENT = Path(__file__).with_name("_soak_client.py")
WORDS = tuple(f"word{number} " for number in range(20))
PAUSES_S = (0.001, 0.005, 0.03)
MOST_SIGNS, LONGEST_WAIT_S = 25, 0.4
READY_WITHIN_S, SIGN_WITHIN_S, LAST_ANSWER_WITHIN_S = 60.0, 60.0, 90.0
DRAIN_S = 2
AGAIN_WITHIN_S = 1.2
"""For a daemon that is killed while it starts: about how long that takes."""
TARGET_READY_S = 2.0
STACK_WITHIN_S = 2.0
AT_ONCE = 64
KINDS = {
    "daemon": 5,
    "guardian": 2,
    "claude": 3,
    "launcher": 2,
    "daemon and guardian": 2,
    "daemon and claude": 2,
    "daemon and all guardians": 2,
    "daemon, and the next one while it starts": 2,
}
"""What is killed, and how often in proportion."""
OF_DAEMON = {kind for kind in KINDS if "daemon" in kind}
_QUESTION = re.compile(r"q-[a-z-]+\d+-\d+")


def question_of(request: RecordedRequest) -> str:
    """Which of the clients' questions this is."""
    found = _QUESTION.findall(request.question)
    return found[-1] if found else request.question


def whole(question: str) -> str:
    """The answer to a question."""
    return f"To {question}: " + "".join(WORDS)


def answered(request: RecordedRequest) -> Answer:
    """In pieces, now slower, now faster."""
    question = question_of(request)
    pause_s = PAUSES_S[hash(question) % len(PAUSES_S)]
    return Answer(pieces=(f"To {question}: ", *WORDS), pause_s=pause_s)


async def fill(path: Path, conversations: int) -> None:
    """Put so many conversations into a new store."""
    async with Database(path) as database:
        owner = OwnerLock(path)
        owner.acquire()
        store = ConversationStore(database, owner)

        async def converse(numbers: range) -> None:
            for number in numbers:
                text = f"q-kept0-{number}"
                asked = await store.begin_turn(
                    thread_id=None,
                    pair=Pair("marker", "arangodb"),
                    text=text,
                    sent_text=text,
                    backend="api",
                    model=MODEL,
                )
                await store.complete_turn(
                    asked.message_id,
                    text=whole(text),
                    model=MODEL,
                    backend="api",
                    instance_id="i_kept",
                    usage=Usage(),
                    price_date=None,
                    stop_reason="end_turn",
                    duration_ms=1.0,
                )

        async with anyio.create_task_group() as filling:
            for first in range(AT_ONCE):
                filling.start_soon(converse, range(first, conversations, AT_ONCE))
        owner.release()


@dataclass
class Client:
    """One of those who ask, or the one that follows the events."""

    process: subprocess.Popen[str]
    ledger: Ledger
    changed: threading.Condition
    signs: int = 0
    heard_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.changed:
                document: dict[str, Any] = json.loads(line)
                self.ledger.add(document)
                self.heard_at = time.monotonic()
                self.signs += "asked" in document or "answered" in document
                self.changed.notify_all()


@dataclass
class Soak:
    """One run over one home."""

    home: Path
    api: LoopbackAPI
    chance: random.Random
    ledger: Ledger = field(default_factory=Ledger)
    findings: Findings = field(default_factory=Findings)
    kinds: Counter[str] = field(default_factory=Counter[str])
    ready_s: list[float] = field(default_factory=list[float])
    clients: list[Client] = field(default_factory=list[Client])
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def settings(self) -> Settings:
        """Enough of them to find the daemon."""
        return Settings.load({"home": self.home})

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of clients, and through them of the daemon."""
        return {
            **self.api.environment(),
            "PATH": os.environ["PATH"],
            "HOME": str(self.home.parent),
            "CLAUDE_CONFIG_DIR": str(self.home.parent / "claude"),
            "CLAUDE_COMMS_HOME": str(self.home),
            "CLAUDE_COMMS_DRAIN_S": str(DRAIN_S),
            "CLAUDE_COMMS_CLAUDE_CODE_WARM": "3",
            "PYTHONPATH": str(Path(claude_comms.__file__).parents[1]),
        }

    # --- clients -------------------------------------------------------------------------------

    def begin(self, asking: dict[str, int]) -> None:
        """Start everybody, and wait until each asker has been answered."""
        for backend, count in asking.items():
            for number in range(count):
                target = f"{backend}-{number}"
                self._register(target)
                self._client("ask", f"{backend}{number}", backend, target)
        self._client("follow")
        for client in self.clients[:-1]:
            self._signs(2, client)

    def _register(self, name: str) -> None:
        path = self.home.parent / name
        path.mkdir()
        (path / "pages.py").write_text("def blocks(): ...\n", encoding="utf-8")
        command = [sys.executable, "-m", "claude_comms", "register-module", name, "--path", str(path), "--yes"]
        subprocess.run(command, env=self.environment, check=True, capture_output=True)

    def _client(self, *arguments: str) -> None:
        process = subprocess.Popen(
            [sys.executable, str(CLIENT), *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.clients.append(Client(process, self.ledger, self.changed))

    def _signs(self, count: int, client: Client | None = None) -> None:
        """Wait until so many more questions or answers were acknowledged."""

        def signs() -> int:
            return client.signs if client else sum(each.signs for each in self.clients)

        with self.changed:
            wanted = signs() + count
            if not self.changed.wait_for(lambda: signs() >= wanted, SIGN_WITHIN_S):
                last = [f"{question}: {error}" for question, error in self.ledger.failed.items()][-5:]
                raise TimeoutError(f"nothing was acknowledged for {SIGN_WITHIN_S:g} s; the last errors: {last}")

    def end(self) -> None:
        """Let every asker finish its question, then stop everything."""
        for client in self.clients[:-1]:
            client.process.terminate()
        give_up = time.monotonic() + LAST_ANSWER_WITHIN_S
        for client in self.clients[:-1]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                client.process.wait(max(0.0, give_up - time.monotonic()))
        self._look_for_hanging([client for client in self.clients[:-1] if client.process.poll() is None])
        self.clients[-1].process.terminate()
        self.clients[-1].process.wait(LAST_ANSWER_WITHIN_S)
        for client in self.clients:
            client.reader.join(LAST_ANSWER_WITHIN_S)
        stop(self.settings)
        self.findings.add("orphans after the end", map(told, left_of(self._household().everybody)))

    def _look_for_hanging(self, clients: Iterable[Client]) -> None:
        """Those who were told nothing for longer than any deadline allows; their stacks go to stderr."""
        hang = [each for each in clients if time.monotonic() - each.heard_at > LAST_ANSWER_WITHIN_S]
        for client in hang:
            client.process.send_signal(signal.SIGUSR1)
            time.sleep(STACK_WITHIN_S)
            client.process.kill()
        self.findings.add("clients told nothing until their deadline", [each.process.args for each in hang])
        if hang:
            log = self.home / "logs" / "daemon.jsonl"
            print("".join(log.read_text(encoding="utf-8").splitlines(keepends=True)[-20:]), file=sys.stderr)
            raise TimeoutError(f"{len(hang)} clients hang")

    def clear(self) -> None:
        """Leave nothing running, whatever happened."""
        for client in self.clients:
            client.process.kill()
            client.process.wait()
        for _ in range(3):
            kill(self._household().everybody)

    # --- rounds --------------------------------------------------------------------------------

    def round(self) -> None:
        """Kill at a random moment, and wait until the daemon serves and nothing is left of what was."""
        self._signs(self.chance.randint(1, MOST_SIGNS))
        time.sleep(self.chance.uniform(0.0, LONGEST_WAIT_S))
        before = self._settled()
        kind = self._kind(before)
        self.kinds[kind] += 1
        daemon = before.daemons[-1]
        victims = self._victims(kind, before)
        below = [child for victim in victims for child in _children(victim)] if kind not in OF_DAEMON else []
        kill(victims)
        if kind == "guardian":
            self.findings.add("daemons that outlive their guardian", map(told, left_of([daemon], READY_WITHIN_S)))
        if kind in OF_DAEMON or kind == "guardian":
            self._next_daemon(daemon, kind, time.monotonic())
            below = list(before.everybody)
        self.findings.add(f"orphans alive after {ORPHANS_WITHIN_S:g} s", map(told, left_of(below)))
        self.findings.add("processes that belong to no daemon", map(told, self._strangers()))
        self._look_for_hanging(self.clients[:-1])

    def _settled(self) -> Household:
        """Everybody, once there is one daemon and it serves: those who lost the race to be it are gone."""
        give_up = time.monotonic() + READY_WITHIN_S
        while len((found := self._household()).daemons) != 1 or not self._serves(but=0):
            if time.monotonic() > give_up:
                raise TimeoutError(f"there are {len(found.daemons)} daemons, and not one that serves")
            time.sleep(0.01)
        return found

    def _kind(self, before: Household) -> str:
        possible = {
            kind: share
            for kind, share in KINDS.items()
            if (before.claudes or "claude" not in kind) and (before.launchers or "launcher" not in kind)
        }
        return self.chance.choices(list(possible), list(possible.values()))[0]

    def _victims(self, kind: str, before: Household) -> list[psutil.Process]:
        victims: list[psutil.Process] = []
        if kind in OF_DAEMON:
            victims.append(before.daemons[-1])
        if "all guardians" in kind:
            victims += before.guardians
        elif "guardian" in kind:
            victims.append(self.chance.choice(before.guardians))
        if "claude" in kind:
            victims.append(self.chance.choice(before.claudes))
        if "launcher" in kind:
            victims.append(self.chance.choice(before.launchers))
        self.chance.shuffle(victims)
        return victims

    def _next_daemon(self, daemon: psutil.Process, kind: str, killed: float) -> None:
        if "while it starts" in kind:
            time.sleep(self.chance.uniform(0.0, AGAIN_WITHIN_S))
            again = [process for process in self._household().daemons if process != daemon]
            kill(again)
            killed = time.monotonic() if again else killed
            daemon = again[-1] if again else daemon
        while not self._serves(but=daemon.pid):
            if time.monotonic() - killed > READY_WITHIN_S:
                raise TimeoutError(f"no daemon serves {READY_WITHIN_S:g} s after the kill")
            time.sleep(0.01)
        self.ready_s.append(time.monotonic() - killed)

    def _serves(self, *, but: int) -> bool:
        with contextlib.suppress(DaemonError):
            info = find(self.settings)
            return info is not None and info.pid != but and bool(short_request(info.socket, "GET", "/v1/daemon"))
        return False

    def _strangers(self) -> list[psutil.Process]:
        """Processes of the home that do not descend from the guardian of the daemon that serves."""
        give_up = time.monotonic() + ORPHANS_WITHIN_S
        while strangers := self._outside(self._household()):
            if time.monotonic() > give_up:
                return [process for process in strangers if lives(process)]
            time.sleep(0.1)
        return []

    def _outside(self, all_: Household) -> set[psutil.Process]:
        if not all_.daemons:
            return set()
        inside: set[psutil.Process] = set()
        for process in all_.everybody:
            with contextlib.suppress(psutil.Error):
                line = {process, *process.parents()}
                if line & {*all_.guardians} and line & {all_.daemons[-1], *_parents(all_.daemons[-1])}:
                    inside.add(process)
        return set(all_.everybody) - inside

    def _household(self) -> Household:
        return household(self.home, [client.process.pid for client in self.clients])

    # --- what came of it -----------------------------------------------------------------------

    def judge(self) -> bool:
        """Print all counts; whether those that must be 0 are."""
        sent = Counter(question_of(request) for request in self.api.requests.messages)
        found = self.ledger.compare(self.home, sent, whole)
        self.findings.found |= found.found
        print(f"rounds: {self.kinds.total()}, of which a daemon was killed in {len(self.ready_s)}")
        for kind, count in self.kinds.most_common():
            print(f"  {count:5}  {kind}")
        errors = Counter(error["type"] for error in self.ledger.failed.values())
        print(f"questions: {len(self.ledger.asking)}, acknowledged as stored: {len(self.ledger.asked)}")
        print(f"answers: {len(self.ledger.answered)} {_by_client(self.ledger.answered)}")
        print(f"errors told: {errors.total()} {dict(errors)} {_by_client(self.ledger.failed)}")
        for message, count in Counter(error["message"][:100] for error in self.ledger.failed.values()).most_common(8):
            print(f"  {count:5}  {message}")
        print(f"requests to the API: {sent.total()}, retries told: {self.ledger.retried.total()}")
        followed, broken = len(self.ledger.seqs), len(self.ledger.broken)
        print(f"events followed across all restarts: {followed}; the follower had to begin anew {broken} times")
        for what, cases in self.findings.found.items():
            print(f"{what}: {len(cases)}")
            for case in cases[:5]:
                print(f"    {case}")
        if self.ready_s:
            median, worst = statistics.median(self.ready_s), max(self.ready_s)
            late = sum(ready > TARGET_READY_S for ready in self.ready_s)
            print(f"ready after a daemon's end: median {median:.2f} s, max {worst:.2f} s", end="")
            print(f" (target {TARGET_READY_S:g}; {late} of {len(self.ready_s)} later)")
        return self.findings.ok


def _by_client(questions: Iterable[str]) -> dict[str, int]:
    """How many are whose."""
    return dict(sorted(Counter(question.rpartition("-")[0].removeprefix("q-") for question in questions).items()))


def told(process: psutil.Process) -> str:
    """A process, for people."""
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:150]}"
    except psutil.Error:
        return str(process.pid)


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _parents(process: psutil.Process) -> Sequence[psutil.Process]:
    try:
        return process.parents()
    except psutil.Error:
        return ()


@contextlib.contextmanager
def soaking(folder: Path, seed: int) -> Generator[Soak]:
    """A soak whose processes are gone with the block."""
    with LoopbackAPI(answered) as api:
        soak = Soak(folder / "home", api, random.Random(seed))
        try:
            yield soak
        finally:
            soak.clear()


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--asking", default="api=3,claude-code=2", help="how many clients ask over which backend")
    parser.add_argument("--stored", type=int, default=10_000, help="conversations in the store from the beginning")
    options = parser.parse_args()
    asking = {backend: int(count) for backend, count in (part.split("=") for part in options.asking.split(","))}
    print(machine())
    print(
        f"seed {options.seed}, {options.rounds} rounds, asking: {options.asking}, stored: {options.stored}", flush=True
    )
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder, soaking(Path(folder), options.seed) as soak:
        anyio.run(fill, soak.settings.database_path, options.stored)
        soak.begin(asking)
        for number in range(options.rounds):
            soak.round()
            if number % 10 == 9:
                print(f"  {number + 1} rounds, {len(soak.ledger.answered)} answers", file=sys.stderr, flush=True)
            if soak.findings.found and not soak.findings.ok:
                print(f"  round {number + 1} found {soak.findings.found}", file=sys.stderr, flush=True)
        soak.end()
        ok = soak.judge()
    print(f"{'all is well' if ok else 'NOT WELL'}, in {time.monotonic() - began:.0f} s")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
