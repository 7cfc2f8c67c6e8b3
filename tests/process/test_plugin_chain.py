"""Modules whose instances ask other modules in turn, each over the MCP server that it was granted."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from claude_comms.testing import Answer, LoopbackAPI, ToolUse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from node_support import InstalledBridge

    from claude_comms.testing import RecordedRequest
    from tests.process.conftest import Cli

ASK = "mcp__claude-comms__query_module"
NEXT = {"alpha": "beta", "beta": "gamma"}


class Models:
    """Every module's model: it asks the next module, and passes on what it gets."""

    def __init__(self) -> None:
        self.next = dict(NEXT)
        self.results: dict[str, str] = {}
        """What the tool gave the instance of each module."""

    def answer(self, request: RecordedRequest) -> Answer | str:
        me = next(name for name in ("alpha", "beta", "gamma") if f"WHO={name}" in text_of(request.body["messages"]))
        result = last_result(request.body["messages"])
        if result is not None:
            self.results[me] = result
            return f"{me} heard: {result}"
        wanted = self.next.get(me)
        if wanted is None:
            return f"{me} knows: 42"
        return Answer(blocks=(ToolUse(ASK, {"target": wanted, "prompt": f"What is it? WHO={wanted}"}),))


def text_of(messages: list[dict[str, Any]]) -> str:
    return json.dumps(messages[0]["content"])


def last_result(messages: list[dict[str, Any]]) -> str | None:
    content: list[dict[str, Any]] | str = messages[-1]["content"]
    blocks = [] if isinstance(content, str) else [block for block in content if block["type"] == "tool_result"]
    return json.dumps(blocks[-1]["content"]) if blocks else None


@pytest.fixture
def models() -> Models:
    return Models()


@pytest.fixture(params=["claude-code", "bridge"])
def house(background: Cli, models: Models, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cli]:
    cli = background
    if request.param == "bridge":
        installed: InstalledBridge = request.getfixturevalue("installed")
        cli.environment["CLAUDE_COMMS_BRIDGE_COMMAND"] = json.dumps(installed.command)
    with LoopbackAPI(models.answer) as api:
        cli.environment |= {**api.environment(), "CLAUDE_COMMS_BACKEND": request.param}
        cli.home.mkdir(mode=0o700)
        (cli.home / "config.toml").write_text(
            f"[mcp_servers.claude-comms]\ncommand = {json.dumps(sys.executable)}\n"
            'args = ["-P", "-m", "claude_comms", "mcp"]\n'
            f"env = {{ PYTHONPATH = {json.dumps(cli.environment['PYTHONPATH'])} }}\n"
        )
        for name in ("alpha", "beta", "gamma"):
            (tmp_path / name).mkdir()
            card = tmp_path / f"{name}.yaml"
            card.write_text(
                f"name: {name}\nsummary: Knows things.\npermissions:\n  tools: ['mcp:claude-comms/query_module']\n"
            )
            done = cli.run("register-module", name, "--path", tmp_path / name, "--desc", card, "--yes")
            assert done.returncode == 0, done.stderr
        yield cli


def pairs(cli: Cli) -> set[tuple[str, str]]:
    return {(item["source"], item["target"]) for item in cli.json("list-conversations")}


def test_a_module_asks_a_module_that_asks_a_module(house: Cli, models: Models) -> None:
    reply = house.json("query-module", "alpha", "What is it? WHO=alpha")
    assert "gamma knows: 42" in reply["response"]
    assert reply["source"] == "anonymous"
    assert "its own instance asks" in models.results["alpha"]
    assert pairs(house) == {("anonymous", "alpha"), ("alpha", "beta"), ("beta", "gamma")}


def test_a_cycle_is_refused_with_the_chain_and_the_others_answer_all_the_same(house: Cli, models: Models) -> None:
    models.next["gamma"] = "alpha"
    reply = house.json("query-module", "alpha", "What is it? WHO=alpha")
    assert "gamma heard" in reply["response"]
    assert "LoopError" in models.results["gamma"]
    assert "anonymous → alpha → beta → gamma → alpha" in json.loads(f"[{models.results['gamma']}]")[0]
    assert pairs(house) == {("anonymous", "alpha"), ("alpha", "beta"), ("beta", "gamma")}


def test_the_number_of_hops_is_limited_by_the_setting(house: Cli, models: Models) -> None:
    house.environment["CLAUDE_COMMS_MAX_HOPS"] = "2"
    reply = house.json("query-module", "alpha", "What is it? WHO=alpha")
    assert "beta heard" in reply["response"]
    assert "max_hops" in models.results["beta"]
    assert pairs(house) == {("anonymous", "alpha"), ("alpha", "beta")}


def test_a_spending_limit_holds_for_all_that_a_question_leads_to(house: Cli, models: Models) -> None:
    """Each of the three would cost less; what the first leaves is too little for the second to ask on."""
    told = house.json("query-module", "alpha", "What is it? WHO=alpha", "--max-cost", "0.0125", code=1)
    assert told["error"]["type"] == "BudgetExceededError"
    assert "beta" not in models.results
    assert pairs(house) == {("anonymous", "alpha"), ("alpha", "beta")}
