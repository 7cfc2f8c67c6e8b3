"""Instances from the command line: several terminals on one daemon."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

from claude_comms.cli.schemas import ERROR, schema_of
from claude_comms.daemon import short_request
from claude_comms.testing.loopback import Fault, LoopbackAPI

if TYPE_CHECKING:
    import subprocess

    from tests.process.conftest import Cli

QUESTION = "How should I store my page blocks?"


def fits(command: str, document: Any) -> Any:
    """`document`, once it has been found to be what `command` says that it prints."""
    jsonschema_rs.validate(schema_of(command), document)
    return document


def started(cli: Cli, *options: str) -> Any:
    return fits("start-instance", cli.json("start-instance", "--name", "marker_arangodb", *options))


def lines(child: subprocess.Popen[bytes]) -> list[Any]:
    """The documents that a child prints until it ends."""
    out, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    return [fits("monitor-instance", json.loads(line)) for line in out.splitlines()]


@pytest.fixture
def api(background: Cli, loopback_api: LoopbackAPI) -> LoopbackAPI:
    """The loopback API, and the command line set to ask it."""
    background.environment |= {**loopback_api.environment(), "CLAUDE_COMMS_BACKEND": "api"}
    return loopback_api


# --- without a daemon --------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["option", "setting"])
def test_without_a_daemon_an_instance_lives_as_long_as_its_command(background: Cli, kept: str) -> None:
    cli, option = background, ["--no-daemon"] if kept == "option" else []
    cli.environment |= {} if option else {"CLAUDE_COMMS_DAEMON": "off"}
    done = cli.run("start-instance", "--name", "marker_arangodb", *option)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1:] == ["is", "idle"]
    assert "ends with this command" in done.stderr
    assert started(cli, *option)["state"] == "idle"
    assert fits("list-instances", cli.json("list-instances", *option)) == []
    assert cli.json("list-instances", "--check", *option) == []
    assert cli.run("daemon", "status").returncode == 1


@pytest.mark.parametrize("command", ["query", "monitor", "pause", "resume", "interrupt", "stop"])
def test_without_a_daemon_there_is_no_instance_of_another_command(cli: Cli, command: str) -> None:
    prompt = ["why?"] if command == "query" else []
    error = fits(ERROR, cli.json(f"{command}-instance", "marker_arangodb", *prompt, code=1))["error"]
    assert error["type"] == "InstanceNotFoundError"


def test_the_command_that_asks_an_instance_is_told_and_where_its_backend_comes_from(background: Cli) -> None:
    done = background.run("start-instance", "--from", "marker", "--to", "arangodb", "--name", "helper")
    assert 'query-instance helper "..."' in done.stderr
    done = background.run("query-instance", "helper", "Which index?")
    assert "(it is the instance's own)" in done.stderr
    assert 'query-instance helper "..."' in done.stderr


# --- start -------------------------------------------------------------------------------------


def test_a_name_names_the_pair_and_start_prints_id_and_state(background: Cli) -> None:
    done = background.run("start-instance", "--name", "marker_arangodb")
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[0].startswith("i_")
    assert words[1:] == ["is", "idle"]
    assert "marker → arangodb" in done.stderr
    [info] = fits("list-instances", background.json("list-instances"))
    assert (info["instance_id"], info["name"], info["state"]) == (words[0], "marker_arangodb", "idle")
    assert (info["source"], info["target"]) == ("marker", "arangodb")


@pytest.mark.parametrize("name", ["mine", "marker_nobody"])
def test_a_name_that_names_no_pair_is_misuse_and_tells_the_modules(background: Cli, name: str) -> None:
    error = fits(ERROR, background.json("start-instance", "--name", name, code=2))["error"]
    assert "arangodb, claude_mcp, marker" in error["message"]
    assert background.json("start-instance", "--name", name, "--from", "marker", "--to", "arangodb")["name"] == name


def test_without_a_pair_or_with_half_of_one_it_is_misuse(background: Cli) -> None:
    background.json("start-instance", code=2)
    background.json("start-instance", "--from", "marker", code=2)
    assert background.json("start-instance", "--to", "arangodb")["source"] == "anonymous"


def test_a_module_that_is_not_known_fails(background: Cli) -> None:
    error = background.json("start-instance", "--from", "marker", "--to", "nobody", code=1)["error"]
    assert error["type"] == "UnknownModuleError"


def test_limits_are_the_instances_own(background: Cli) -> None:
    limits = started(
        background, "--max-turns", "1", "--max-idle", "60", "--deadline", "30", "--memory-mb", "900",
        "--max-tokens", "5000", "--max-cost", "0.5",
    )["limits"]  # fmt: skip
    assert limits == {
        "max_turns": 1, "max_idle_s": 60, "deadline_s": 30, "max_memory_mb": 900, "max_tokens": 5000,
        "max_cost_usd": 0.5,
    }  # fmt: skip
    monitor = background.start("monitor-instance", "marker_arangodb", "--json")
    background.json("query-instance", "marker_arangodb", QUESTION)
    assert lines(monitor)[-1]["type"] == "instance.stopped", "one turn is what it may have"


def test_what_no_instance_can_be_given_is_misuse(background: Cli) -> None:
    for options in (["--env", "=x"], ["--env", "NO_SUCH_VARIABLE_HERE"], ["--grant", "none", "--grant", "Read"]):
        background.json("start-instance", "--name", "marker_arangodb", *options, code=2)
    for options in (["--max-cost", "0"], ["--max-idle", "nan"], ["--max-turns", "0"]):
        background.json("start-instance", "--name", "marker_arangodb", *options, code=2)


def test_a_grant_that_the_module_was_not_given_is_refused(background: Cli, tmp_path: Any) -> None:
    error = background.json("start-instance", "--name", "marker_arangodb", "--grant", "Bash", code=1)["error"]
    assert (error["type"], error["grant"]) == ("PermissionDeniedError", "Bash")


# --- ask and steer -----------------------------------------------------------------------------


def test_an_instance_is_asked_by_id_by_prefix_by_name_and_by_option(background: Cli) -> None:
    instance = started(background)["instance_id"]
    first = fits("query-instance", background.json("query-instance", instance, QUESTION))
    assert first["instance_id"] == instance
    for arguments in ([instance[:-1], "And?"], ["marker_arangodb", "And?"], ["--id", instance, "And?"]):
        assert background.json("query-instance", *arguments)["thread_id"] == first["thread_id"]
    [info] = background.json("list-instances")
    assert (info["turns"], info["thread_id"]) == (4, first["thread_id"])
    done = background.run("query-instance", "marker_arangodb", "And?")
    assert 'claude-comms query-instance marker_arangodb "..."' in done.stderr


def test_an_instance_that_is_not_there_is_told(background: Cli) -> None:
    for command in ("query-instance", "pause-instance", "stop-instance", "monitor-instance"):
        question = [QUESTION] if command == "query-instance" else []
        error = fits(ERROR, background.json(command, "i_nobody", *question, code=1))["error"]
        assert error["type"] == "InstanceNotFoundError"
    assert background.run("stop-instance").returncode == 2


def test_pause_resume_interrupt_stop(background: Cli) -> None:
    instance = started(background)["instance_id"]
    assert fits("pause-instance", background.json("pause-instance", instance))["state"] == "paused"
    error = background.json("query-instance", instance, QUESTION, "--deadline", "0.3", code=1)["error"]
    assert error["type"] == "DeadlineExceededError", "it waits until it is resumed, or its time is up"
    assert fits("resume-instance", background.json("resume-instance", "--id", instance))["state"] == "idle"
    assert fits("interrupt-instance", background.json("interrupt-instance", instance))["state"] == "idle"
    assert background.run("stop-instance", instance).stdout == f"{instance} is stopped\n"
    assert background.json("list-instances") == []
    assert fits("stop-instance", background.json("stop-instance", instance))["state"] == "stopped"


def test_another_terminal_interrupts_a_turn(background: Cli, api: LoopbackAPI) -> None:
    api.answer("Half of an answer that never becomes whole.")
    api.fail(Fault.stall(after=1, seconds=60))
    instance = started(background)["instance_id"]
    asking = background.start("query-instance", instance, QUESTION, "--json")
    monitor = background.start("monitor-instance", instance, "--json")
    assert monitor.stdout is not None
    while json.loads(monitor.stdout.readline())["type"] != "turn.delta":
        pass
    assert background.run("interrupt-instance", instance).stdout in (
        f"{instance} is interrupted\n",
        f"{instance} is idle\n",
    )
    out, _ = asking.communicate(timeout=60)
    assert asking.returncode == 1
    assert fits(ERROR, json.loads(out))["error"]["reason"] == "interrupted"
    background.json("stop-instance", instance)


# --- list --------------------------------------------------------------------------------------


def test_check_says_when_each_last_proved_alive(background: Cli) -> None:
    started(background)
    [info] = fits("list-instances", background.json("list-instances", "--check"))
    assert info["last_alive_at"] is not None
    assert "ALIVE" in background.run("list-instances", "--check").stdout


def test_a_watched_list_is_printed_at_each_change(background: Cli) -> None:
    instance = started(background)["instance_id"]
    watch = background.start("list-instances", "--watch", "--json")
    assert watch.stdout is not None
    [first] = fits("list-instances", json.loads(watch.stdout.readline()))
    assert first["state"] == "idle"
    background.json("pause-instance", instance)
    [second] = json.loads(watch.stdout.readline())
    assert second["state"] == "paused"
    background.json("stop-instance", instance)
    assert json.loads(watch.stdout.readline()) == []
    watch.send_signal(signal.SIGINT)
    watch.communicate(timeout=60)
    assert watch.returncode == 130


@pytest.mark.parametrize("columns", [60, 200])
def test_the_list_fits_the_terminal(background: Cli, columns: int) -> None:
    started(background)
    terminal = background.terminal("list-instances", columns=columns, environment={"NO_COLOR": "1"})
    assert terminal.end() == 0
    assert max(map(len, terminal.text.splitlines())) <= columns
    assert "marker_arang" in terminal.text


# --- follow ------------------------------------------------------------------------------------


def test_a_monitor_replays_follows_and_ends_with_the_instance(background: Cli) -> None:
    instance = started(background)["instance_id"]
    reply = background.json("query-instance", instance, QUESTION)
    monitor = background.start("monitor-instance", instance, "--json")
    assert monitor.stdout is not None
    before = [fits("monitor-instance", json.loads(monitor.stdout.readline()))]
    while before[-1]["type"] != "turn.completed":
        before.append(fits("monitor-instance", json.loads(monitor.stdout.readline())))
    background.json("query-instance", instance, "And the images?")
    background.json("stop-instance", instance)
    told = [*before, *lines(monitor)]
    assert [event["seq"] for event in told] == sorted({event["seq"] for event in told}), "each once, in order"
    assert {event["specversion"] for event in told} == {"1.0"}
    assert told[-1]["type"] == "instance.stopped"
    messages = [event["data"] for event in told if event["type"] == "message.stored"]
    assert [said["role"] for said in messages] == ["question", "answer"] * 2
    assert (messages[0]["text"], messages[1]["text"]) == (QUESTION, reply["response"])
    pieces = [event["data"]["text"] for event in told if event["type"] == "turn.delta"]
    assert "".join(pieces).startswith(reply["response"])


def test_what_an_instance_did_can_be_read_after_it_has_stopped(background: Cli) -> None:
    instance = started(background)["instance_id"]
    background.json("query-instance", instance, QUESTION)
    background.json("stop-instance", instance)
    done = background.run("monitor-instance", instance)
    assert done.returncode == 0
    assert QUESTION in done.stdout
    assert "stopped" in done.stdout.splitlines()[-1]
    last = [json.loads(line) for line in background.run("monitor-instance", instance, "--json").stdout.splitlines()]
    cursor = str(last[-2]["seq"])
    [only] = background.run("monitor-instance", instance, "--json", "--since", cursor).stdout.splitlines()
    assert json.loads(only) == last[-1]
    assert background.run("monitor-instance", instance, "--json", "--since", "2000-01-01").stdout.count("\n") == len(
        last
    )
    assert background.run("monitor-instance", instance, "--since", "soon").returncode == 2


def test_focus_shows_what_presses_and_counts_the_rest(background: Cli) -> None:
    instance = started(background)["instance_id"]
    background.json("query-instance", instance, QUESTION)
    background.json("stop-instance", instance)
    shown = background.run("monitor-instance", instance, "--focus", "critical").stdout
    assert "held back: 2 message.stored (marker → arangodb)" in shown
    assert background.run("monitor-instance", instance, "--focus", "critical", "--json").stdout == ""


def test_listening_to_a_module_shows_what_it_asks_and_is_asked(background: Cli) -> None:
    background.json("daemon", "start")
    text = background.start("listen-module", "--module", "arangodb")
    stream = background.start("listen-module", "arangodb", "--json", "--deltas")
    assert text.stderr is not None
    assert b"listening to arangodb" in text.stderr.readline()
    reply = background.json("query-module", "arangodb", QUESTION, "--from", "marker")
    assert stream.stdout is not None
    told = [fits("listen-module", json.loads(stream.stdout.readline()))]
    while told[-1]["type"] != "message.stored" or told[-1]["data"]["role"] != "answer":
        told.append(fits("listen-module", json.loads(stream.stdout.readline())))
    assert told[-1]["data"]["text"] == reply["response"]
    assert any(event["type"] == "turn.delta" for event in told)
    for child in (text, stream):
        child.send_signal(signal.SIGINT)
    shown = text.communicate(timeout=60)[0].decode()
    stream.communicate(timeout=60)
    assert (text.returncode, stream.returncode) == (130, 130)
    assert f"{reply['thread_id']} · marker asks\n{QUESTION}\n" in shown
    assert "UnknownModuleError" in background.run("listen-module", "nobody", "--json").stdout


# --- attach ------------------------------------------------------------------------------------


def test_attaching_needs_a_terminal(background: Cli) -> None:
    done = background.run("attach-instance", "i_1")
    assert done.returncode == 2
    assert "terminal" in done.stderr


def test_attaching_to_other_backends_is_a_chat(background: Cli) -> None:
    instance = started(background)["instance_id"]
    terminal = background.terminal("attach-instance", instance)
    terminal.wait_for("marker> ")
    terminal.type(f"{QUESTION}\n")
    terminal.wait_for("no cost")
    terminal.type("\n")
    assert terminal.end() == 0
    [info] = background.json("list-instances")
    assert (info["turns"], info["state"]) == (1, "idle")
    background.json("stop-instance", instance)
    ended = background.terminal("attach-instance", instance)
    assert ended.end() == 1
    assert "continue-conversation" in ended.text


def test_attaching_to_claude_code_goes_on_with_its_session_and_gives_it_back(
    background: Cli, loopback_api: LoopbackAPI
) -> None:
    pytest.importorskip("claude_agent_sdk", reason="the extra claude-code is not installed")
    background.environment |= loopback_api.environment()
    place = background.directory / "arango"
    place.mkdir()
    card = background.directory / "arangodb.yaml"
    card.write_text("name: arangodb\nversion: '1'\nsummary: A database.\n")
    background.json("register-module", "arangodb", "--path", place, "--desc", card)
    started(background, "--backend", "claude-code", "--deadline", "60")
    thread = background.json("query-instance", "marker_arangodb", "How many collections?")["thread_id"]
    agree(background, place, loopback_api)
    terminal = background.terminal("attach-instance", "marker_arangodb", columns=120)
    terminal.wait_for("manual")
    terminal.type("And how many graphs?")
    terminal.wait_for("graphs?")
    terminal.type("\r")
    loopback_api.wait_for_requests(2)
    paused = background.json("list-instances")
    assert [info["state"] for info in paused] == ["paused"], "nobody else is answered meanwhile"
    terminal.wait_for("done")
    terminal.type("/exit")
    terminal.wait_for("exit")
    terminal.type("\r")
    assert terminal.end() == 0, terminal.text
    assert f"1 turn stored in {thread}" in terminal.text
    [info] = background.json("list-instances")
    assert info["state"] in ("idle", "hibernated")
    assert info["turns"] == 1, "it was asked once through the daemon"
    said = background.json("show-conversation", thread)["messages"]
    assert said[3]["usage"]["cost_usd"], "what was had in the terminal costs, too"
    socket = Path(background.json("daemon", "status")["socket"])
    told = short_request(socket, "GET", "/v1/events?types=message.stored")
    assert [event["data"]["text"] for event in told][2] == "And how many graphs?", "whoever follows hears of it"
    assert [message["text"] for message in said][2] == "And how many graphs?"
    assert [message["state"] for message in said] == ["complete"] * 4
    background.json("query-instance", "marker_arangodb", "And how many views?")
    questions = [text for role, text in loopback_api.requests[-1].thread if role == "user"]
    assert sum("And how many graphs?" in text for text in questions) == 1, "it goes on from what was said there"
    rebuilt = background.json("show-conversation", thread)["messages"][-1]["rebuilt"]
    assert rebuilt is None, "its session was resumed"


def agree(cli: Cli, place: Path, api: LoopbackAPI) -> None:
    """What a person says to Claude Code once: that it may use the key, and that the directory is theirs."""
    key = api.environment()["ANTHROPIC_API_KEY"]
    config = cli.home / "claude-code" / "config" / ".claude.json"
    known: dict[str, Any] = json.loads(config.read_text()) if config.exists() else {}
    known |= {
        "hasCompletedOnboarding": True,
        "customApiKeyResponses": {"approved": [key[-20:]], "rejected": []},
        "projects": {**known.get("projects", {}), str(place): {"hasTrustDialogAccepted": True}},
    }
    config.write_text(json.dumps(known))


# --- what streams ------------------------------------------------------------------------------

STREAMS = {
    "monitor-instance": ["monitor-instance", "marker_arangodb"],
    "listen-module": ["listen-module", "marker", "--since", "1h"],
    "list-instances": ["list-instances", "--watch"],
    "daemon logs": ["daemon", "logs", "--follow"],
}


def streaming(cli: Cli, command: str) -> subprocess.Popen[bytes]:
    """One that has shown its first line, and waits for more."""
    started(cli)
    cli.run("query-instance", "marker_arangodb", QUESTION)
    child = cli.start(*STREAMS[command], "--json")
    assert child.stdout is not None
    assert child.stdout.readline(), child.communicate()
    return child


@pytest.mark.parametrize("command", STREAMS)
def test_what_streams_ends_when_nobody_reads_it_any_more(background: Cli, command: str) -> None:
    child = streaming(background, command)
    assert child.stdout is not None
    child.stdout.close()
    assert child.wait(60) == 1
    assert child.stderr is not None
    assert child.stderr.read() == b""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", STREAMS)
def test_what_streams_says_nothing_of_the_signal_that_ends_it(
    background: Cli, command: str, number: int, code: int
) -> None:
    child = streaming(background, command)
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert child.returncode == code, err
    assert b'{"error":' not in out
    assert err == b""
