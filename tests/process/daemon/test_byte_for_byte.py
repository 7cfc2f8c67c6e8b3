"""What the Messages API sent, however its bytes were cut, is what caller, store and monitor have."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest
from claude_code_support import last_line

from claude_comms.testing import Answer

if TYPE_CHECKING:
    from node_support import InstalledBridge
    from survival_support import Lines

    from tests.process.daemon.conftest import House

TURNS = 20
ALPHABET = [
    *"abc XYZ 0189 .,;:!?'\"`*_#<>&|~^$%@/\\{}[]()",
    *("\n", "\n\n", "\t", "  ", "\r\n", "\u00a0", "\u2028", "\u2029", "\u0085", "\ufeff", "\u200b"),
    *("ä", "ß", "é", "e\u0301", "Ж", "א", "ع", "漢", "한", "क्षि", "\u202e", "𝔘", "🦜", "👩‍👩‍👧", "🇪🇺"),
    *("data: ", "event: message_stop\n\n", "\\ud83d", "\\u0000", "\x1b[2J", "\x07", "</arangodb>", "[DONE]"),
]


def answer_of(seed: int) -> Answer:
    """A text of up to 150 signs, in pieces that are cut anywhere, the empty one among them; its bytes cut again."""
    dice = random.Random(seed)
    text = "".join(dice.choice(ALPHABET) for _ in range(dice.randint(1, 150)))
    cuts = sorted(dice.randint(0, len(text)) for _ in range(dice.randint(0, 12)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    # An answer of nothing but white space is no answer.
    return Answer(pieces=("-", *pieces, "."), torn=seed)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("backend", "streams"), [("api", 200), ("claude-code", 100), ("bridge", 200)])
def test_torn_streams_reach_caller_store_and_monitor_byte_for_byte(
    house: House, installed: InstalledBridge, backend: str, streams: int
) -> None:
    house.api.script = lambda request: answer_of(number_of(last_line(request)))
    house.cli.home.mkdir(mode=0o700)
    (house.cli.home / "config.toml").write_text(f"bridge_command = {json.dumps(installed.command)}\n")
    house.cli.environment["CLAUDE_COMMS_BACKEND"] = backend
    pair = ("--from", "marker", "--to", "arangodb")
    instance_id = house.cli.json("start-instance", *pair, "--backend", backend)["instance_id"]
    monitor = house.follower("monitor-instance", "--id", instance_id)
    came = ask_all(house, streams)
    sent = {number: "".join(answer_of(number).pieces) for number in range(streams)}
    replies = [line["reply"] for line in came if "reply" in line]
    assert {reply["backend"] for reply in replies} == {backend}
    assert {reply["instance_id"] for reply in replies} == {instance_id}
    assert dict(enumerate(reply["response"] for reply in replies)) == sent
    assert pieces_of(came) == sent
    assert stored(house, {reply["thread_id"] for reply in replies}) == sent
    house.cli.run("stop-instance", "--id", instance_id)
    assert monitor.end() == 0
    turns = {event["data"]["turn_id"]: number_of(event["data"]["text"]) for event in spoken(monitor, "question")}
    assert {turns[event["data"]["turn_id"]]: event["data"]["text"] for event in spoken(monitor, "answer")} == sent
    deltas = dict.fromkeys(sent, "")
    for event in monitor.came:
        if event["type"] == "turn.delta":
            deltas[turns[event["data"]["turn_id"]]] += event["data"]["text"]
    assert deltas == sent


def number_of(question: str) -> int:
    return int(question.removeprefix("Question "))


def ask_all(house: House, streams: int) -> list[dict[str, Any]]:
    """What a program was told that asks them all, in conversations of twenty."""
    lines = "".join(("" if n % TURNS else "\n") + f"Question {n}\n" for n in range(streams))
    program = house.program()
    assert program.child.stdin is not None
    with program.child.stdin as stdin:
        stdin.write(lines.encode())
    assert program.end(within_s=240) == 0
    assert not [line for line in program.came if "error" in line]
    return program.came


def pieces_of(came: list[dict[str, Any]]) -> dict[int, str]:
    """The pieces before each reply, joined."""
    texts = {0: ""}
    for line in came:
        if "piece" in line:
            texts[len(texts) - 1] += line["piece"]
        else:
            texts[len(texts)] = ""
    del texts[len(texts) - 1]
    return texts


def stored(house: House, threads: set[str]) -> dict[int, str]:
    """The answers that the store holds, by their questions' numbers."""
    found: dict[int, str] = {}
    for thread_id in threads:
        messages = house.cli.json("export-conversation", "--id", thread_id, "--output", "-")["messages"]
        for question, answer in zip(messages[::2], messages[1::2], strict=True):
            found[number_of(question["text"])] = answer["text"]
    return dict(sorted(found.items()))


def spoken(monitor: Lines, role: str) -> list[dict[str, Any]]:
    return [event for event in monitor.came if event["type"] == "message.stored" and event["data"]["role"] == role]
