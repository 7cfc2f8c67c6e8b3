"""What the soak's clients were told, and whether the store, the event log and the API say the same."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

__all__ = ["Findings", "Ledger"]

_ENDS = "('turn.completed', 'turn.failed', 'turn.interrupted')"


@dataclass
class Findings:
    """Counts that must all be 0, each with what it found."""

    found: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def add(self, what: str, cases: Iterable[object]) -> None:
        """Count the cases of what must not be."""
        self.found.setdefault(what, []).extend(str(case) for case in cases)

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not any(self.found.values())


@dataclass
class Ledger:
    """All that the clients printed, sorted."""

    asking: list[str] = field(default_factory=list[str])
    asked: dict[str, str] = field(default_factory=dict[str, str])
    """The thread that was acknowledged for each question."""
    answered: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    failed: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    retried: Counter[str] = field(default_factory=Counter[str])
    seqs: list[int] = field(default_factory=list[int])
    missed: list[object] = field(default_factory=list[object])
    broken: list[str] = field(default_factory=list[str])

    def add(self, line: dict[str, Any]) -> None:
        """Take in one line of a client."""
        match line:
            case {"asking": question}:
                self.asking.append(question)
            case {"asked": question, "thread_id": thread_id}:
                self.asked[question] = thread_id
            case {"retried": question}:
                self.retried[question] += 1
            case {"answered": question, **reply}:
                self.answered[question] = reply
            case {"failed": question, **error}:
                self.failed[question] = error
            case {"seq": seq}:
                self.seqs.append(seq)
            case {"missed": missed}:
                self.missed.append(missed)
            case {"broken": why}:
                self.broken.append(why)
            case _:
                raise ValueError(f"a client printed {line}")

    def compare(self, home: Path, sent: Counter[str], whole: Callable[[str], str]) -> Findings:
        """Against the files of a home whose daemon has been stopped. `sent`: how often the API got each question.

        `whole` is the answer that belongs to a question.
        """
        findings = Findings()
        with closing(sqlite3.connect(f"file:{home / 'claude-comms.db'}?mode=ro", uri=True)) as store:
            self._compare_store(store, findings, whole)
        with closing(sqlite3.connect(f"file:{home / 'events.db'}?mode=ro", uri=True)) as log:
            self._compare_log(log, findings)
        doubled = [
            f"{question} {count} times" for question, count in sent.items() if count > 1 + self.retried[question]
        ]
        findings.add("questions doubled: sent to the API again", doubled)
        findings.add("questions sent to the API that nobody asked", sent.keys() - set(self.asking))
        shown = [
            question
            for question, reply in self.answered.items()
            if reply["text"] != whole(question) or reply["streamed"] != reply["text"]
        ]
        findings.add("partial or wrong answers shown as complete", shown)
        told = self.answered.keys() | self.failed.keys()
        findings.add("questions whose client was never told an end", set(self.asking) - told)
        nameless = [q for q, error in self.failed.items() if q in self.asked and not error["thread_id"]]
        findings.add("errors that do not name the thread", nameless)
        return findings

    def _compare_store(self, store: sqlite3.Connection, findings: Findings, whole: Callable[[str], str]) -> None:
        rows = store.execute(
            "SELECT message_id, thread_id, position, role, state, text FROM messages ORDER BY thread_id, position"
        ).fetchall()
        questions = [(text, thread, state) for _, thread, _, role, state, text in rows if role == "question"]
        by_place = {(thread, position): text for _, thread, position, role, _, text in rows if role == "question"}
        stored = {(text, thread) for text, thread, _ in questions}
        complete = {
            message: text for message, _, _, role, state, text in rows if (role, state) == ("answer", "complete")
        }
        findings.add("acknowledged questions lost", [item for item in self.asked.items() if item not in stored])
        lost = [q for q, reply in self.answered.items() if complete.get(reply["message_id"]) != reply["text"]]
        findings.add("acknowledged answers lost", lost)
        times = Counter(text for text, _, _ in questions)
        findings.add("questions doubled: stored again", [text for text, count in times.items() if count > 1])
        partial = [
            by_place.get((thread, position - 1))
            for _, thread, position, role, state, text in rows
            if (role, state) == ("answer", "complete") and text != whole(str(by_place.get((thread, position - 1))))
        ]
        findings.add("partial or wrong answers stored as complete", partial)
        findings.add("questions left pending", [text for text, _, state in questions if state == "pending"])

    def _compare_log(self, log: sqlite3.Connection, findings: Findings) -> None:
        ends: dict[str, int] = dict(
            log.execute(f"SELECT turn_id, count(*) FROM events WHERE type IN {_ENDS} GROUP BY turn_id").fetchall()
        )
        begun = [turn for (turn,) in log.execute("SELECT turn_id FROM events WHERE type = 'turn.started'")]
        findings.add("turns begun without an end in the log", [turn for turn in begun if turn not in ends])
        findings.add("turns with two ends in the log", [turn for turn, count in ends.items() if count > 1])
        if not self.seqs:
            return
        kept = [seq for (seq,) in log.execute("SELECT seq FROM events WHERE seq <= ? ORDER BY seq", (self.seqs[-1],))]
        followed = Counter(self.seqs)
        findings.add("events that a follower missed", [*(set(kept) - followed.keys()), *self.missed])
        findings.add("events that a follower got twice", [seq for seq, count in followed.items() if count > 1])
        findings.add("events out of order", [] if self.seqs == sorted(self.seqs) else ["some"])
