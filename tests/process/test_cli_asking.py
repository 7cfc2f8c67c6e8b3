from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from claude_comms.testing.loopback import Fault, LoopbackAPI

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.conftest import Cli

QUESTION = "How should I store my page blocks?"
ANSWER = "Use a document collection for each kind of block."
REPLY_FIELDS = {
    "response", "data", "thread_id", "message_id", "source", "target", "instance_id", "backend", "model", "usage",
    "stop_reason", "duration_ms", "sources", "status",
}  # fmt: skip


def ask(cli: Cli, *options: str | Path, **more: Any) -> Any:
    return cli.json("query-module", "arangodb", QUESTION, "--from", "marker", *options, **more)


@pytest.fixture
def api(cli: Cli, loopback_api: LoopbackAPI) -> LoopbackAPI:
    """The loopback API, and the command line set to ask it."""
    cli.environment |= {**loopback_api.environment(), "CLAUDE_COMMS_BACKEND": "api"}
    return loopback_api


# --- offline ---------------------------------------------------------------------------------------


def test_the_answer_goes_to_stdout_and_everything_about_it_to_stderr(cli: Cli) -> None:
    done = cli.run("query-module", "arangodb", QUESTION, "--from", "marker")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert done.stdout.endswith("\n")
    assert "marker → arangodb · offline" in done.stderr
    assert "continue-conversation c_" in done.stderr
    assert "continue-conversation" not in done.stdout


def test_json_prints_one_reply_with_its_fields_at_top_level(cli: Cli) -> None:
    reply = ask(cli)
    assert set(reply) == REPLY_FIELDS
    assert (reply["source"], reply["target"], reply["backend"]) == ("marker", "arangodb", "offline")
    assert reply["status"] == "complete"


def test_json_in_a_pipe_leaves_stderr_empty(cli: Cli) -> None:
    assert cli.run("query-module", "arangodb", QUESTION, "--json").stderr == ""


def test_without_from_the_module_of_the_working_directory_asks(cli: Cli) -> None:
    inner = cli.directory / "src" / "deep"
    inner.mkdir(parents=True)
    cli.json("register-module", "marker", "--path", cli.directory / "src")
    done = cli.run("query-module", "arangodb", QUESTION, cwd=inner)
    assert "marker → arangodb" in done.stderr
    assert cli.json("query-module", "arangodb", QUESTION)["source"] == "anonymous"


def test_an_unknown_module_is_named_with_those_that_are_known(cli: Cli) -> None:
    error = cli.json("query-module", "arrangodb", QUESTION, code=1)["error"]
    assert error["type"] == "UnknownModuleError"
    assert "arangodb" in error["known"]
    done = cli.run("query-module", "arrangodb", QUESTION)
    assert done.stdout == ""
    assert "Did you mean 'arangodb'?" in done.stderr


def test_a_conversation_goes_on_by_id_by_prefix_by_option_and_by_last(cli: Cli) -> None:
    thread = ask(cli)["thread_id"]
    for arguments in (
        ["continue-conversation", thread, "And then?"],
        ["continue-conversation", thread[:16], "And then?"],
        ["continue-conversation", "--id", thread, "And then?"],
        ["query-module", "arangodb", "And then?", "--from", "marker", "--thread", thread],
        ["query-module", "arangodb", "And then?", "--from", "marker", "--thread", "last"],
    ):
        assert cli.json(*arguments)["thread_id"] == thread, arguments
    assert cli.json("show-conversation", thread)["message_count"] == 12


def test_last_without_a_conversation_says_so(cli: Cli) -> None:
    error = ask(cli, "--thread", "last", code=1)["error"]
    assert error["type"] == "ConversationNotFoundError"
    assert "marker → arangodb" in error["message"]


def test_a_dash_reads_the_question_from_stdin(cli: Cli) -> None:
    reply = cli.json("query-module", "arangodb", "-", input="Which index,\nand why?\n")
    messages = cli.json("show-conversation", reply["thread_id"])["messages"]
    assert messages[0]["text"] == "Which index,\nand why?"


def test_nobody_needs_a_daemon(cli: Cli) -> None:
    assert ask(cli, "--no-daemon")["status"] == "complete"


def test_a_deadline_too_near_is_a_failure(cli: Cli) -> None:
    assert ask(cli, "--deadline", "1e-9", code=1)["error"]["type"] == "DeadlineExceededError"


def test_an_unknown_backend_is_misuse(cli: Cli) -> None:
    assert ask(cli, "--backend", "no-such", code=2)["error"]["type"] == "ConfigError"


def test_a_conversation_that_keeps_its_backend_says_how_to_change_it(cli: Cli) -> None:
    thread = ask(cli)["thread_id"]
    now_api = {"CLAUDE_COMMS_BACKEND": "api"}
    kept = cli.run("continue-conversation", thread, "And then?", environment=now_api)
    assert kept.returncode == 0, kept.stderr
    assert "offline (it is the conversation's own)" in kept.stderr
    assert "a new conversation would use api; to change: --backend api" in kept.stderr
    last = ("query-module", "arangodb", "And then?", "--from", "marker", "--thread", "last")
    assert "--backend api" in cli.run(*last, environment=now_api).stderr
    assert "to change" not in cli.run(*last).stderr
    assert "to change" not in cli.run(*last, "--backend", "offline", environment=now_api).stderr


# --- what would be sent ------------------------------------------------------------------------


def test_show_prompt_prints_what_would_be_sent_and_stores_nothing(cli: Cli) -> None:
    data = cli.directory / "data.json"
    data.write_text('{"pages": 3}')
    arguments = ("query-module", "arangodb", QUESTION, "--from", "marker", "--data", data, "--show-prompt")
    preview = cli.json(*arguments)
    assert QUESTION in preview["message"]
    assert '"pages": 3' in preview["message"]
    assert len(preview["system"]) == 2
    assert preview["tokens"]["tokens"] > 0
    shown = cli.run(*arguments)
    assert QUESTION in shown.stdout
    assert "Nothing was asked." in shown.stderr
    assert cli.json("list-conversations") == []


def test_show_prompt_of_a_conversation_holds_its_history(cli: Cli) -> None:
    thread = ask(cli)["thread_id"]
    preview = cli.json("continue-conversation", thread, "And then?", "--show-prompt")
    assert [message["role"] for message in preview["history"]] == ["question", "answer"]
    assert preview["thread_id"] == thread


def test_a_surplus_template_parameter_is_told_before_anything_is_stored(cli: Cli) -> None:
    assert "no_such" in ask(cli, "--param", "no_such=1", code=1)["error"]["message"]
    assert cli.json("list-conversations") == []


# --- a model, on the loopback API --------------------------------------------------------------


def test_a_model_is_asked_and_its_tokens_and_cost_are_shown(cli: Cli, api: LoopbackAPI) -> None:
    api.answer(ANSWER)
    done = cli.run("query-module", "arangodb", QUESTION, "--from", "marker")
    assert done.stdout == ANSWER + "\n"
    assert "tokens in" in done.stderr
    assert "· $0." in done.stderr
    assert QUESTION in api.requests[0].question


def test_escape_codes_and_markup_of_an_answer_do_nothing(cli: Cli, api: LoopbackAPI) -> None:
    api.answer("[bold]\x1b[31mred\x1b]0;owned\x07[link=file:///etc/passwd]x[/link]\u202e")
    terminal = cli.terminal("query-module", "arangodb", QUESTION)
    assert terminal.end() == 0
    assert "[bold][31mred]0;owned[link=file:///etc/passwd]x[/link]" in terminal.text
    assert "\x1b]0;" not in terminal.text
    assert "\u202e" not in terminal.text


def test_a_schema_gives_the_value_alone_after_one_repair(cli: Cli, api: LoopbackAPI) -> None:
    schema = cli.directory / "schema.json"
    schema.write_text('{"type": "object", "required": ["kind"]}')
    api.answer("Let me think.")
    api.answer('{"kind": "document"}')
    done = cli.run("query-module", "arangodb", QUESTION, "--schema", schema)
    assert json.loads(done.stdout) == {"kind": "document"}
    assert "repair" in done.stderr

    api.answer('{"kind": 1}')
    assert ask(cli, "--schema", schema)["data"] == {"kind": 1}


def test_a_refused_key_is_told_as_an_api_key(cli: Cli, api: LoopbackAPI) -> None:
    api.fail(Fault.status(401))
    error = ask(cli, code=1)["error"]
    assert error["type"] == "BackendUnavailableError"
    assert "API key" in error["message"]
    assert error["thread_id"].startswith("c_")


def test_a_cut_answer_is_a_failure_with_the_text_that_had_come(cli: Cli, api: LoopbackAPI) -> None:
    api.answer(ANSWER)
    api.fail(Fault.cut(after=1))
    error = ask(cli, code=1)["error"]
    assert error["type"] == "TurnFailedError"
    assert error["partial"]
    states = [message["state"] for message in cli.json("show-conversation", error["thread_id"])["messages"]]
    assert states == ["failed", "partial"]


def test_a_spinner_shows_on_a_terminal_and_leaves_nothing_behind(cli: Cli, api: LoopbackAPI) -> None:
    api.answer(ANSWER, pause_s=0.3)
    terminal = cli.terminal("query-module", "arangodb", QUESTION)
    terminal.wait_for("asking arangodb")
    assert terminal.end() == 0
    assert ANSWER in terminal.text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_other_signals_to_end_store_what_had_come_too(
    cli: Cli, api: LoopbackAPI, number: signal.Signals, code: int
) -> None:
    api.answer(ANSWER)
    api.fail(Fault.stall(after=1, seconds=60))
    child = cli.start("query-module", "arangodb", QUESTION, "--from", "marker")
    assert child.stdout is not None
    begun = os.read(child.stdout.fileno(), 1000)
    child.send_signal(number)
    rest, told = child.communicate(timeout=30)
    assert child.returncode == code, told
    thread = cli.json("list-conversations")[0]["thread_id"]
    question, answer = cli.json("show-conversation", thread)["messages"]
    assert (question["state"], answer["state"]) == ("failed", "partial")
    assert answer["text"] == (begun + rest).decode().rstrip("\n")
    assert f"stored as partial in {thread}" in told.decode()


def test_a_terminal_that_goes_away_leaves_what_had_come_as_partial(cli: Cli, api: LoopbackAPI) -> None:
    api.answer(ANSWER)
    api.fail(Fault.stall(after=1, seconds=60))
    terminal = cli.terminal("query-module", "arangodb", QUESTION)
    terminal.wait_for("Use")
    os.close(terminal.controller)
    terminal.process.send_signal(signal.SIGHUP)
    assert terminal.process.wait(30) == 129
    states = [message["state"] for message in cli.json("show-conversation", _only_thread(cli))["messages"]]
    assert states == ["failed", "partial"]


def _only_thread(cli: Cli) -> str:
    return cli.json("list-conversations")[0]["thread_id"]


@pytest.mark.parametrize("as_json", [False, True])
def test_ctrl_c_interrupts_the_turn_and_stores_what_is_true(cli: Cli, api: LoopbackAPI, *, as_json: bool) -> None:
    api.answer(ANSWER)
    api.fail(Fault.stall(after=1, seconds=60))
    child = cli.start("query-module", "arangodb", QUESTION, "--from", "marker", *(["--json"] if as_json else []))
    assert child.stdout is not None
    api.wait_for_requests(1)
    begun = b"" if as_json else os.read(child.stdout.fileno(), 1000)
    if as_json:
        _wait_for_question(cli)
    child.send_signal(signal.SIGINT)
    rest, told = child.communicate(timeout=30)
    assert child.returncode == 130, told
    conversation = cli.json("list-conversations")[0]
    messages = cli.json("show-conversation", conversation["thread_id"])["messages"]
    assert messages[0]["state"] == "failed"
    assert all(message["state"] == "partial" for message in messages[1:])
    if as_json:
        error = json.loads(rest)["error"]
        assert (error["type"], error["reason"]) == ("TurnFailedError", "interrupted")
        assert error["thread_id"] == conversation["thread_id"]
    else:
        assert ANSWER.startswith((begun + rest).decode().rstrip("\n"))
        assert messages[1]["text"] == (begun + rest).decode().rstrip("\n")
        assert f"stored as partial in {conversation['thread_id']}" in told.decode()


def _wait_for_question(cli: Cli) -> None:
    for _ in range(100):
        if cli.json("list-conversations"):
            return
    raise TimeoutError("the question was not stored")


def test_a_reader_who_goes_away_ends_the_command_quietly(cli: Cli, api: LoopbackAPI) -> None:
    api.answer("word " * 200_000)
    child = cli.start("query-module", "arangodb", QUESTION)
    assert child.stdout is not None
    assert child.stderr is not None
    os.read(child.stdout.fileno(), 10)
    child.stdout.close()
    told = child.stderr.read().decode()
    assert child.wait(30) == 1
    assert "Traceback" not in told
    assert "BrokenPipe" not in told


def test_a_narrow_locale_loses_no_answer(cli: Cli, api: LoopbackAPI) -> None:
    api.answer("Größe → 漢")
    done = cli.run("query-module", "arangodb", QUESTION, environment={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Gr\\xf6\\xdfe -> \\u6f22\n"
    assert "anonymous -> arangodb" in done.stderr
