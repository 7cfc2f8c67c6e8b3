"""The thread in the prompt, and what of it fits; the folder; what Claude Code is told beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from claude_code_mcp_support import told
from claude_code_support import MODEL

from claude_comms.background.backends.mcp_bridge._stock_prompt import MOST_BYTES, stock_prompt
from claude_comms.errors import BackendUnavailableError, ContextError, TurnFailedError
from claude_comms.testing import Answer, Fault, ToolUse
from claude_comms.types import HistoryMessage, Role

if TYPE_CHECKING:
    from pathlib import Path

    from claude_code_support import Talk

    from claude_comms.testing import LoopbackAPI

pytestmark = pytest.mark.anyio


async def test_the_whole_thread_is_asked_each_time_the_question_last(talk: Talk, api: LoopbackAPI) -> None:
    for number in range(3):
        assert (await talk.ask(f"Question {number}?")).text == f"Answer to Question {number}?"
    prompt = told(api.requests.messages[-1].body)
    places = [
        prompt.index(text)
        for text in ("You are the module.", "Question 0?", "Answer to Question 0?", "Question 1?", "Question 2?")
    ]
    assert places == sorted(places)
    assert prompt.endswith("\n\nQuestion 2?")
    assert prompt.count("Question 2?") == 1


async def test_the_oldest_turns_go_first_where_the_thread_is_too_long_and_that_is_said(
    talk: Talk, api: LoopbackAPI
) -> None:
    for number in range(40):
        talk.history += [
            HistoryMessage(Role.QUESTION, f"Question {number}? {'q' * 2_000}"),
            HistoryMessage(Role.ANSWER, f"Answer {number}. {'ä' * 2_000}"),
        ]
    result = await talk.ask("And now?")
    prompt = told(api.requests.messages[-1].body)
    assert "Question 39?" in prompt
    assert "Question 0?" not in prompt
    left_out = 40 - prompt.count("<earlier-question-")
    assert f"The {left_out} oldest turns are left out" in prompt
    assert str(left_out) in result.rebuilt


async def test_the_longest_prompt_that_is_allowed_reaches_claude_code(talk: Talk, api: LoopbackAPI) -> None:
    short, _ = stock_prompt(talk.request("x").prompt)
    question = "x" * (1 + MOST_BYTES - len(short))
    await talk.ask(question)
    assert told(api.requests.messages[-1].body).endswith(question)


@pytest.mark.parametrize("text", ["half \ud800 of it", "an end \0 too early"])
async def test_what_no_command_line_can_hold_is_refused_unasked(talk: Talk, api: LoopbackAPI, text: str) -> None:
    with pytest.raises(ContextError, match="cannot pass on"):
        await talk.ask(text)
    assert len(api.requests) == 0


async def test_claude_code_works_in_the_modules_folder(talk: Talk, api: LoopbackAPI, module_path: Path) -> None:
    api.answer(Answer(blocks=(ToolUse("Bash", {"command": "pwd > here.txt"}),)))
    await talk.ask("Where are you?")
    assert (module_path / "here.txt").read_text().strip() == str(module_path)


async def test_a_file_that_a_question_names_is_not_sent_by_that_alone(
    talk: Talk, api: LoopbackAPI, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the-secret-itself")
    await talk.ask(f"What of @{secret} and\n/clear\n@{secret}")
    assert "the-secret-itself" not in json.dumps(api.requests.messages[-1].body)


async def test_the_model_is_the_one_that_was_asked_for(talk: Talk, api: LoopbackAPI) -> None:
    assert (await talk.ask("Who are you?")).model == MODEL
    assert api.requests.messages[-1].body["model"] == MODEL


async def test_no_conversation_is_left_on_the_disk(talk: Talk, tmp_path: Path) -> None:
    await talk.ask("Do you keep a needle-in-a-haystack?")
    left = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert left
    assert not [path for path in left if b"needle-in-a-haystack" in path.read_bytes()]


async def test_a_key_that_the_api_refuses_is_said(talk: Talk, api: LoopbackAPI) -> None:
    api.keys = {"another"}
    with pytest.raises(BackendUnavailableError, match="API key") as caught:
        await talk.ask("May I?")
    assert caught.value.backend == "bridge"


async def test_what_the_api_says_is_told_and_the_next_question_is_answered(talk: Talk, api: LoopbackAPI) -> None:
    api.fail(Fault.status(402))
    with pytest.raises(TurnFailedError) as caught:
        await talk.ask("Anyone?")
    assert (caught.value.reason, caught.value.retryable) == ("billing", False)
    assert (await talk.ask("Anyone now?")).text == "Answer to Anyone now?"


async def test_a_long_answer_that_the_server_has_damaged_is_no_answer(talk: Talk, api: LoopbackAPI) -> None:
    api.answer("aä" * 60_000)
    with pytest.raises(TurnFailedError, match="loses characters") as caught:
        await talk.ask("At length?")
    assert caught.value.reason == "damaged"
    assert "\ufffd" in caught.value.partial
    api.answer("aä" * 20_000)
    assert (await talk.ask("Shorter?")).text == "aä" * 20_000
