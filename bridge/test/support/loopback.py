"""The project's Messages API for tests in JavaScript: told what to answer, and asked what it got, in lines of JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import claude_agent_sdk

from claude_comms.background.backends.claude_runtime import process
from claude_comms.testing import Answer, Fault, LoopbackAPI, ToolUse
from claude_comms.testing.loopback import Text


def _answer(told: dict[str, Any]) -> Answer:
    blocks = [Text(block["text"]) if "text" in block else ToolUse(**block) for block in told.pop("blocks", [])]
    pieces = tuple(told.pop("pieces", ()))
    return Answer(**told, blocks=tuple(blocks), pieces=pieces)


def _last_line(request: Any) -> str:
    return request.question.splitlines()[-1] if request.question else ""


def _obey(api: LoopbackAPI, command: dict[str, Any]) -> object:
    match command:
        case {"answer": told}:
            api.answer(_answer(told))
        case {"fail": [kind, *arguments], "times": times}:
            api.fail(getattr(Fault, kind)(*arguments), times)
        case {"wait": count}:
            return len(api.wait_for_requests(count))
        case {"requests": True}:
            return [request.body for request in api.requests.messages]
        case _:
            api.reset()
    return None


def main() -> None:
    """Serve until stdin ends."""
    say = sys.stdout.write
    with LoopbackAPI(lambda request: f"Answer to {_last_line(request)}") as api:
        bundled = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
        launcher = [sys.executable, "-I", "-S", str(Path(process.__file__).with_name("_launcher.py"))]
        say(json.dumps({"variables": api.environment(), "binary": str(bundled), "launcher": launcher}) + "\n")
        sys.stdout.flush()
        for line in sys.stdin:
            say(json.dumps({"told": _obey(api, json.loads(line))}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
