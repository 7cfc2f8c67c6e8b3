"""The backend `bridge` from the shell, through the daemon: its instances, with Node killed in between; one thread over
all backends; and a Node program that goes on with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from claude_code_support import last_line
from survival_support import Lines

if TYPE_CHECKING:
    from node_support import InstalledBridge

    from claude_comms.testing import LoopbackAPI, RecordedRequest
    from tests.process.conftest import Cli

PROGRAM = Path(__file__).parents[3] / "examples" / "threads.mjs"


@pytest.fixture
def shell(background: Cli, api: LoopbackAPI, installed: InstalledBridge) -> Cli:
    """The command line, set to ask the loopback API, with the bridge where its settings say."""
    background.home.mkdir(mode=0o700)
    command = ", ".join(json.dumps(word) for word in installed.command)
    (background.home / "config.toml").write_text(f"bridge_command = [{command}]\n")
    background.environment |= {**api.environment(), "CLAUDE_COMMS_BACKEND": "api"}
    return background


def node_of(cli: Cli) -> psutil.Process:
    """The bridge's Node process below the daemon."""
    daemon = psutil.Process(cli.json("daemon", "status")["pid"])
    nodes = [child for child in daemon.children(recursive=True) if Path(child.exe()).name == "node"]
    (bridge,) = [node for node in nodes if "serve" in node.cmdline()]
    return bridge


def seen(cli: Cli) -> dict[str, Any]:
    """The one instance, as `list-instances --check` has it; its process, where it tells of one, lives."""
    (instance,) = cli.json("list-instances", "--check")
    if instance["pid"] is not None:
        assert psutil.pid_exists(instance["pid"])
        assert instance["rss_bytes"] is None or instance["rss_bytes"] > 10_000_000  # None: not measured yet
    return instance


@pytest.mark.timeout(180)
def test_an_instance_on_the_bridge_is_steered_from_the_shell_and_outlives_its_node(
    shell: Cli, api: LoopbackAPI
) -> None:
    pair = ("--from", "marker", "--to", "arangodb", "--name", "helper")
    started = shell.json("start-instance", *pair, "--backend", "bridge")
    assert (started["state"], started["backend"]) == ("idle", "bridge")
    monitor = Lines(shell.start("monitor-instance", "--id", "helper", "--json"))
    first = shell.json("query-instance", "--id", "helper", "Which index?")
    assert (first["response"], first["backend"]) == ("Answer to Which index?", "bridge")
    assert (seen(shell)["state"], seen(shell)["turns"]) == ("idle", 1)

    shell.run("pause-instance", "helper")
    assert seen(shell)["state"] == "paused"
    waiting = Lines(shell.start("query-instance", "--id", "helper", "And then?", "--json"))
    node = node_of(shell)
    node.send_signal(signal.SIGKILL)
    node.wait(10)
    assert seen(shell)["state"] == "paused"
    shell.run("resume-instance", "helper")
    second = waiting.until(lambda document: "response" in document)
    assert second["response"] == "Answer to And then?"
    assert second["thread_id"] == first["thread_id"]
    assert [last_line(request) for request in api.requests.messages] == ["Which index?", "And then?"]
    assert "Answer to Which index?" in json.dumps(api.requests.messages[-1].body)
    assert node_of(shell).pid != node.pid
    assert (seen(shell)["state"], seen(shell)["turns"]) == ("idle", 2)

    shell.run("stop-instance", "--id", "helper")
    assert monitor.end() == 0
    told = [event["data"]["text"] for event in monitor.came if event["type"] == "message.stored"]
    assert told == ["Which index?", "Answer to Which index?", "And then?", "Answer to And then?"]
    assert shell.json("list-instances") == []


@pytest.mark.parametrize("backend", ["claude-code", "bridge"])
def test_a_process_gets_the_variables_of_its_instance_and_keeps_the_home_that_is_ours(shell: Cli, backend: str) -> None:
    given = ("--env", "MODULE_STAGE=testing", "--env", "HOME=/elsewhere")
    shell.json("start-instance", "--from", "marker", "--to", "arangodb", "--backend", backend, *given)
    root = psutil.Process(seen(shell)["pid"])
    (claude,) = [one for one in (root, *root.children(recursive=True)) if "stream-json" in one.cmdline()[:4]]
    environment = claude.environ()
    assert environment["MODULE_STAGE"] == "testing"
    assert environment["HOME"] == str(shell.home / "claude-code" / "home")


def thread_in(request: RecordedRequest) -> str:
    return json.dumps(request.body["messages"])


@pytest.mark.timeout(240)
def test_one_thread_goes_over_all_backends_and_back_and_a_node_program_goes_on_with_it(
    shell: Cli, api: LoopbackAPI, installed: InstalledBridge
) -> None:
    backends = ["api", "claude-code", "bridge", "api", "bridge", "claude-code", "bridge"]
    questions = [f"Question {number} over {backend}?" for number, backend in enumerate(backends)]
    thread_id = ""
    for number, (backend, question) in enumerate(zip(backends, questions, strict=True)):
        where = ["continue-conversation", thread_id] if thread_id else ["query-module", "arangodb", "--from", "marker"]
        reply = shell.json(*where, question, "--backend", backend)
        thread_id = reply["thread_id"]
        assert (reply["backend"], reply["response"]) == (backend, f"Answer to {question}")
        sent = thread_in(api.requests.messages[-1])
        for earlier in questions[:number]:
            assert sent.count(f"Answer to {earlier}") == 1, f"{backend} was not told of {earlier!r} once"
    assert [last_line(request) for request in api.requests.messages] == questions
    assert len(shell.json("show-conversation", thread_id)["messages"]) == 2 * len(questions)

    def program(*arguments: str) -> str:
        environment = {"PATH": os.defpath, "CLAUDE_COMMS_SOCKET": shell.json("daemon", "status")["socket"]}
        command = [str(installed.node.path), str(PROGRAM), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert program("list").split()[:6] == [thread_id, "marker", "→", "arangodb", "bridge", "14"]
    assert thread_id in program("search", "over claude-code")
    assert program("continue", thread_id, "And from Node?") == "Answer to And from Node?\n"
    assert "arangodb: Answer to And from Node?" in program("show", thread_id)
    assert shell.json("show-conversation", thread_id)["messages"][-1]["text"] == "Answer to And from Node?"
    assert all(f"Answer to {question}" in thread_in(api.requests.messages[-1]) for question in questions)
