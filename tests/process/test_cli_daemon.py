"""The commands around the daemon, and what they cost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

from claude_comms.cli.schemas import ERROR, schema_of
from claude_comms.testing.loopback import Fault, LoopbackAPI

if TYPE_CHECKING:
    from tests.process.conftest import Cli

HEAVY = {
    "anthropic", "claude_agent_sdk", "sqlmodel", "sqlalchemy", "alembic", "fastapi", "starlette", "uvicorn", "jinja2",
}  # fmt: skip


def fits(command: str, document: Any) -> Any:
    """`document`, once it has been found to be what `command` says that it prints."""
    jsonschema_rs.validate(schema_of(command), document)
    return document


# --- life --------------------------------------------------------------------------------------


def test_status_without_a_daemon_is_one_and_says_so(background: Cli) -> None:
    status = fits("daemon status", background.json("daemon", "status", code=1))
    assert status["running"] is False
    assert status["pid"] is None
    done = background.run("daemon", "status")
    assert (done.returncode, done.stdout) == (1, "The daemon is not running.\n")
    assert not background.home.exists()


def test_start_status_stop(background: Cli) -> None:
    started = fits("daemon start", background.json("daemon", "start"))
    status = fits("daemon status", background.json("daemon", "status"))
    assert status["running"] is True
    assert status["pid"] == started["pid"]
    assert Path(status["socket"]).exists()
    again = fits("daemon start", background.json("daemon", "start"))
    assert again["pid"] == started["pid"], "starting a running one is no failure"
    assert fits("daemon stop", background.json("daemon", "stop")) == {"running": False, "stopped": True}
    assert fits("daemon stop", background.json("daemon", "stop")) == {"running": False, "stopped": False}
    assert background.json("daemon", "status", code=1)["running"] is False


def test_restart_is_another_process_that_listens_where_the_first_did(background: Cli) -> None:
    first = background.json("daemon", "start", "--listen", "127.0.0.1:0")
    second = fits("daemon restart", background.json("daemon", "restart"))
    assert second["pid"] != first["pid"]
    assert second["listen"] == first["listen"]


def test_start_with_listen_makes_a_running_one_listen(background: Cli) -> None:
    before = background.json("daemon", "start")
    assert before["listen"] is None
    after = background.json("daemon", "start", "--listen", "127.0.0.1:0")
    assert after["pid"] == before["pid"]
    host, _, port = after["listen"].rpartition(":")
    assert host == "127.0.0.1"
    assert int(port) > 0


def test_an_address_that_is_not_loopback_is_refused(background: Cli) -> None:
    done = background.run("daemon", "start", "--listen", "0.0.0.0:0", "--json")
    assert done.returncode != 0
    fits(ERROR, json.loads(done.stdout))


def test_run_is_the_daemon_until_it_is_told_to_end(background: Cli) -> None:
    child = background.start("daemon", "run")
    while background.run("daemon", "status").returncode:
        assert child.poll() is None, child.communicate()
    assert background.json("query-module", "arangodb", "Which index?")["status"] == "complete"
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode in (0, 130), (out, err)
    assert background.run("daemon", "status").returncode == 1


def test_commands_that_ask_start_it_and_say_so_and_others_do_not(background: Cli) -> None:
    for reading in (["list-modules"], ["config", "show"], ["list-conversations"], ["usage"], ["doctor"]):
        assert background.run(*reading).returncode == 0
        assert background.run("daemon", "status").returncode == 1, reading
    done = background.run("query-module", "arangodb", "Which index?")
    assert done.returncode == 0, done.stderr
    assert "starting it" in done.stderr
    assert background.run("daemon", "status").returncode == 0
    assert "starting it" not in background.run("query-module", "arangodb", "Which index?").stderr


@pytest.mark.parametrize("kept", ["option", "setting"])
def test_no_daemon_keeps_a_question_in_its_process(background: Cli, kept: str) -> None:
    option = ["--no-daemon"] if kept == "option" else []
    environment = {} if kept == "option" else {"CLAUDE_COMMS_DAEMON": "off"}
    reply = background.json("query-module", "arangodb", "Which index?", *option, environment=environment)
    assert reply["status"] == "complete"
    assert background.run("daemon", "status").returncode == 1


def test_showing_a_prompt_starts_nothing(background: Cli) -> None:
    shown = fits("query-module", background.json("query-module", "arangodb", "Which index?", "--show-prompt"))
    assert "Which index?" in shown["message"]
    assert background.run("daemon", "status").returncode == 1


def test_doctor_tells_of_the_daemon(background: Cli) -> None:
    def line() -> Any:
        [found] = [check for check in background.json("doctor") if check["name"] == "daemon"]
        return found

    assert (line()["ok"], line()["detail"]) == (None, "not running")
    pid = background.json("daemon", "start")["pid"]
    assert line()["ok"] is True
    assert str(pid) in line()["detail"]


# --- logs --------------------------------------------------------------------------------------


def test_logs_are_read_with_and_without_a_daemon(background: Cli) -> None:
    assert fits("daemon logs", background.json("daemon", "logs")) == []
    thread = background.json("query-module", "arangodb", "Which index?")["thread_id"]
    background.json("daemon", "stop")
    lines = fits("daemon logs", background.json("daemon", "logs", "--level", "debug"))
    assert {"time", "level", "message"} <= set(lines[0])
    own = background.json("daemon", "logs", "--conversation", thread[:20])
    assert own
    assert {line["conversation"] for line in own} == {thread}
    assert len(background.json("daemon", "logs", "--limit", "1")) == 1
    assert background.run("daemon", "logs").stdout.count("\n") >= len(own)


def test_followed_logs_show_what_comes(background: Cli) -> None:
    background.json("daemon", "start")
    child = background.start("daemon", "logs", "--follow", "--limit", "0", "--json")
    assert child.stdout is not None
    thread = background.json("query-module", "arangodb", "Which index?")["thread_id"]
    line = fits("daemon logs", json.loads(child.stdout.readline()))
    while line.get("conversation") != thread:
        line = json.loads(child.stdout.readline())
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=60)
    assert child.returncode == 130


# --- units -------------------------------------------------------------------------------------


def test_a_unit_is_shown_and_nothing_is_written_unless_it_is_agreed_to(background: Cli, tmp_path: Path) -> None:
    shown = fits("daemon install", background.json("daemon", "install", "--systemd", "--print"))
    assert "ExecStart=" in shown["text"]
    assert shown["installed"] is False
    done = background.run("daemon", "install", "--systemd")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert "ExecStart=" in done.stderr, "it is shown first"
    assert "has no ANTHROPIC_API_KEY" in done.stderr
    terminal = background.terminal("daemon", "install", "--systemd")
    terminal.wait_for("Write it? [y/N]")
    terminal.type("n\n")
    assert terminal.end() == 1
    assert not Path(shown["path"]).exists()
    assert shown["path"].startswith(str(tmp_path))


def test_a_unit_is_written_enabled_and_removed(background: Cli, tmp_path: Path) -> None:
    called = tmp_path / "called"
    control = tmp_path / "bin" / "systemctl"
    control.parent.mkdir()
    control.write_text(f'#!/bin/sh\necho "$@" >>{called}\n')
    control.chmod(0o755)
    background.environment["PATH"] = f"{control.parent}{os.pathsep}{background.environment['PATH']}"
    written = fits("daemon install", background.json("daemon", "install", "--systemd", "--yes"))
    assert written["installed"] is True
    assert Path(written["path"]).read_text() == written["text"]
    assert "enable --now" in called.read_text()
    gone = fits("daemon uninstall", background.json("daemon", "uninstall", "--systemd", "--yes"))
    assert gone["removed"] is True
    assert "disable --now" in called.read_text()
    assert not Path(written["path"]).exists()
    assert background.json("daemon", "uninstall", "--systemd")["removed"] is False


def test_both_kinds_of_unit_at_once_are_misuse(background: Cli) -> None:
    assert background.json("daemon", "install", "--systemd", "--launchd", "--print", code=2)["error"]
    launchd = fits("daemon install", background.json("daemon", "install", "--launchd", "--print"))
    assert "<plist" in launchd["text"]


# --- what a command through the daemon loads ---------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["query-module", "arangodb", "Which index?", "--from", "marker"],
        ["query-module", "arangodb", "Which index?", "--background"],
        ["list-instances", "--check"],
        ["start-instance", "--name", "marker_arangodb"],
        ["list-jobs"],
        ["usage"],
    ],
)
def test_a_command_through_a_running_daemon_loads_nothing_that_answers_or_stores(
    background: Cli, arguments: list[str]
) -> None:
    background.json("daemon", "start")
    code = (
        "import sys; from claude_comms.cli._run import run; code = run(sys.argv[1:])\n"
        "print(code, 'loaded:', *sorted({n.partition('.')[0] for n in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        env=background.environment, cwd=background.directory, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told, _, loaded = done.stderr.rpartition("loaded:")
    assert told.split()[-1] == "0", done.stderr
    assert not HEAVY & set(loaded.split())


def test_ctrl_c_interrupts_a_turn_in_the_daemon_and_stores_what_is_true(
    background: Cli, loopback_api: LoopbackAPI
) -> None:
    background.environment |= {**loopback_api.environment(), "CLAUDE_COMMS_BACKEND": "api"}
    loopback_api.answer("Half of an answer that never becomes whole.")
    loopback_api.fail(Fault.stall(after=1, seconds=60))
    child = background.start("query-module", "arangodb", "Which index?")
    assert child.stdout is not None
    begun = os.read(child.stdout.fileno(), 1000)
    child.send_signal(signal.SIGINT)
    rest, told = child.communicate(timeout=60)
    assert child.returncode == 130, told
    [conversation] = background.json("list-conversations")
    messages = background.json("show-conversation", conversation["thread_id"])["messages"]
    assert [message["state"] for message in messages] == ["failed", "partial"]
    assert messages[1]["text"] == (begun + rest).decode().rstrip("\n")
    assert f"stored as partial in {conversation['thread_id']}" in told.decode()


def test_the_shell_completes_what_a_running_daemon_has_and_starts_none(background: Cli) -> None:
    def completions(line: str) -> list[str]:
        words = {"_CLAUDE_COMMS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
        return background.run(environment=words).stdout.split()

    assert completions("claude-comms stop-instance mar") == []
    assert background.run("daemon", "status").returncode == 1
    instance = background.json("start-instance", "--name", "marker_arangodb")["instance_id"]
    assert completions("claude-comms stop-instance mar") == ["marker_arangodb"]
    assert completions(f"claude-comms stop-instance {instance[:5]}") == [instance]
    job = background.json("query-module", "arangodb", "Which index?", "--background")["job_id"]
    assert completions("claude-comms wait-job j") == [job]
    assert "claude-code" in completions("claude-comms query-module arangodb x --backend c")


def test_whoever_watches_is_told_that_the_daemon_has_stopped_and_starts_no_other(background: Cli) -> None:
    instance = background.json("start-instance", "--name", "marker_arangodb")["instance_id"]
    monitor = background.start("monitor-instance", instance, "--json")
    assert monitor.stdout is not None
    assert json.loads(monitor.stdout.readline())["type"] == "instance.started"
    background.json("daemon", "stop")
    out, _ = monitor.communicate(timeout=60)
    assert monitor.returncode == 1
    assert fits(ERROR, json.loads(out.splitlines()[-1]))["error"]["type"] == "DaemonNotRunningError"
    assert background.run("daemon", "status").returncode == 1
