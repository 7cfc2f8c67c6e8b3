"""Three processes on one daemon: what one asks, all see; and what becomes of them when the daemon is killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from survival_support import (
    answering,
    events_of,
    left_of,
    processes_of,
    soon,
    stored_conversations,
)

from claude_comms.testing import Answer

if TYPE_CHECKING:
    from survival_support import Lines

    from tests.process.daemon.conftest import House

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")

STORED = 10_000
READY_WITHIN_S = 15.0
"""Generous: the figure itself is printed, here and by ``benchmarks/soak.py``. The target is 2 s."""
PIECES = ("Blöcke ", "gehören ", "in\tein ", "Dokument:\r\n", "§ 1 — ", "日本 ", "🙂.\n\n")
ENDS = ("turn.completed", "turn.failed", "turn.interrupted")


def asks(program: Lines, question: str) -> None:
    assert program.child.stdin is not None
    program.child.stdin.write(f"{question}\n".encode())
    program.child.stdin.flush()


def of_turn(events: list[dict[str, Any]], turn_id: str) -> list[dict[str, Any]]:
    return [event for event in events if event["data"].get("turn_id") == turn_id]


def text_of(events: list[dict[str, Any]], turn_id: str) -> str:
    return "".join(event["data"]["text"] for event in of_turn(events, turn_id) if event["type"] == "turn.delta")


def whole_answers(events: list[dict[str, Any]], turn_id: str) -> list[str]:
    return [
        event["data"]["text"]
        for event in of_turn(events, turn_id)
        if event["type"] == "message.stored" and event["data"]["role"] == "answer"
    ]


def test_three_terminals_see_one_instance_and_each_turn_byte_for_byte(house: House) -> None:
    whole = "".join(PIECES)
    house.api.script = Answer(pieces=PIECES)
    started = house.cli.json("start-instance", "--name", "marker_arangodb")
    mine = started["instance_id"]
    monitor = house.follower("monitor-instance", "--id", mine)
    program = house.program()
    asks(program, "How do I store blocks?")
    replied = program.until(lambda line: "reply" in line)["reply"]
    pieces = "".join(line["piece"] for line in program.came if "piece" in line)
    asked = house.cli.json("query-instance", "--id", mine, "And pages?")
    for reply in (replied, asked):
        assert reply["instance_id"] == mine
        end = monitor.until(lambda event, reply=reply: event["data"].get("reply") == reply)
        turn_id = end["data"]["turn_id"]
        assert end["type"] == "turn.completed"
        assert text_of(monitor.came, turn_id) == whole == reply["response"]
        assert whole_answers(monitor.came, turn_id) == [whole]
    assert pieces == whole
    assert replied["thread_id"] == asked["thread_id"], "the instance is asked in the conversation that it holds"
    [listed] = house.cli.json("list-instances")
    assert (listed["instance_id"], listed["thread_id"]) == (mine, asked["thread_id"])
    shown = house.cli.json("show-conversation", asked["thread_id"])
    assert [message["text"] for message in shown["messages"]] == [
        "How do I store blocks?",
        whole,
        "And pages?",
        whole,
    ]
    assert program.child.stdin is not None
    program.child.stdin.close()
    assert program.end() == 0
    assert house.cli.json("stop-instance", "--id", mine)["state"] == "stopped"
    assert monitor.end() == 0
    kept = events_of(house.settings, instance_id=mine)
    assert monitor.came == kept[: len(monitor.came)]


@pytest.mark.timeout(240)
def test_a_daemon_killed_in_an_answer_loses_nothing_acknowledged_and_everybody_is_told(house: House) -> None:
    stored_conversations(house.cli.home, STORED)
    mine = house.cli.json("start-instance", "--from", "marker", "--to", "arangodb")["instance_id"]
    first = house.cli.json("query-instance", "--id", mine, "Which index?")
    monitor = house.follower("monitor-instance", "--id", mine)
    program = house.program()
    house.api.answer(Answer(pieces=PIECES, pause_s=(0.0, 0.0, 0.0, 3600.0)))
    asks(program, "How do I store blocks?")
    program.until(lambda line: line.get("piece") == PIECES[2])
    seen = monitor.until(lambda event: event["type"] == "turn.delta" and event["data"]["text"] == PIECES[2])
    lost, thread_id = seen["data"]["turn_id"], seen["data"]["thread_id"]
    info = answering(house.settings)
    assert info is not None
    clients = {monitor.child.pid, program.child.pid}
    before = {process for process in processes_of(house.cli.home) if process.pid not in clients}
    assert len(before) >= 3, "a daemon and its guardians"

    os.kill(info.pid, signal.SIGKILL)
    killed = time.monotonic()
    second = soon(lambda: answering(house.settings, but=info.pid), within_s=READY_WITHIN_S)
    assert second is not None
    print(f"ready {time.monotonic() - killed:.2f} s after the kill, with {STORED} stored conversations (target 2)")
    assert left_of(before) == []

    error = program.until(lambda line: "error" in line)["error"]
    assert error["thread_id"] == thread_id
    assert "reply" not in program.came[-1]
    failed = monitor.until(lambda event: event["type"] == "turn.failed")
    assert failed["data"]["turn_id"] == lost
    assert text_of(monitor.came, lost) == "".join(PIECES[:3])
    asks(program, "Once more?")
    assert program.until(lambda line: "reply" in line)["reply"]["status"] == "complete"

    kept_whole = house.cli.json("show-conversation", first["thread_id"])["messages"]
    assert [(message["text"], message["state"]) for message in kept_whole] == [
        ("Which index?", "complete"),
        (first["response"], "complete"),
    ]
    asked, *others = house.cli.json("show-conversation", thread_id)["messages"]
    assert (asked["text"], asked["state"], asked["turn_id"]) == ("How do I store blocks?", "failed", lost)
    assert "died before the answer came" in asked["error"]["message"]
    assert [message["state"] for message in others] == ["complete"] * 2, "the question that followed"
    assert len(house.cli.json("list-conversations", "--limit", "10000")) == STORED
    assert [request.question for request in house.api.requests.messages].count("How do I store blocks?") == 1

    assert program.child.stdin is not None
    program.child.stdin.close()
    assert program.end() == 0
    house.cli.json("stop-instance", "--id", mine)
    assert monitor.end() == 0, monitor.child.stderr and monitor.child.stderr.read()
    assert not [event for event in monitor.came if event["type"] == "events.missed"]
    kept = events_of(house.settings, instance_id=mine)
    assert [event["seq"] for event in monitor.came] == [event["seq"] for event in kept]
    assert json.dumps(monitor.came) == json.dumps(kept)
    [end] = [event for event in events_of(house.settings, turn_id=lost) if event["type"] in ENDS]
    assert (end["type"], end["data"]["thread_id"]) == ("turn.failed", thread_id)
