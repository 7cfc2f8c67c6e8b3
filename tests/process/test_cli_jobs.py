"""Background questions from the command line, and that every command's JSON is what its schema says."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

from claude_comms.cli.schemas import ERROR, schema_of
from claude_comms.testing.loopback import Fault, LoopbackAPI

if TYPE_CHECKING:
    from pathlib import Path

    from tests.process.conftest import Cli

QUESTION = "How should I store my page blocks?"


def fits(command: str, document: Any) -> Any:
    """`document`, once it has been found to be what `command` says that it prints."""
    jsonschema_rs.validate(schema_of(command), document)
    return document


def asked(cli: Cli, *options: str) -> str:
    """The id of a question that is asked in the background."""
    told = cli.json("query-module", "arangodb", QUESTION, "--from", "marker", "--background", *options)
    assert set(fits("query-module", told)) == {"job_id", "state"}
    return told["job_id"]


@pytest.fixture
def stuck(background: Cli, loopback_api: LoopbackAPI) -> LoopbackAPI:
    """An API whose first answer does not come to its end."""
    background.environment |= {**loopback_api.environment(), "CLAUDE_COMMS_BACKEND": "api"}
    loopback_api.answer("Half of an answer that never becomes whole.")
    loopback_api.fail(Fault.stall(after=1, seconds=60))
    return loopback_api


def test_jobs_fit_a_narrow_terminal(background: Cli) -> None:
    job_id = asked(background)
    background.json("wait-job", job_id)
    terminal = background.terminal("list-jobs", columns=60, environment={"NO_COLOR": "1"})
    assert terminal.end() == 0
    shown = terminal.text.splitlines()
    assert "PROMPT" in shown[0]
    assert max(map(len, shown)) <= 60, shown


def test_a_question_in_the_background_prints_its_id_and_is_waited_for_elsewhere(background: Cli) -> None:
    done = background.run("query-module", "arangodb", QUESTION, "--background")
    assert done.returncode == 0, done.stderr
    job_id = done.stdout.strip()
    assert job_id.startswith("j_")
    assert f"wait-job {job_id}" in done.stderr
    job = fits("wait-job", background.json("wait-job", job_id))
    assert (job["state"], job["source"], job["target"]) == ("done", "anonymous", "arangodb")
    assert job["reply"]["response"].startswith("[offline]")
    assert fits("show-job", background.json("show-job", "--id", job_id[:-1])) == job
    shown = background.run("show-job", job_id)
    assert shown.stdout.rstrip("\n") == job["reply"]["response"].rstrip("\n")
    assert "done" in shown.stderr
    [listed] = fits("list-jobs", background.json("list-jobs"))
    assert listed["job_id"] == job_id
    assert fits("list-jobs", background.json("list-jobs", "--state", "failed")) == []
    assert job_id in background.run("list-jobs").stdout


def test_what_is_wrong_with_the_question_is_told_at_once(background: Cli) -> None:
    error = background.json("query-module", "nobody", QUESTION, "--background", code=1)["error"]
    assert error["type"] == "UnknownModuleError"
    error = background.json(
        "query-module", "arangodb", QUESTION, "--from", "marker", "--background", "--thread", "last", code=1
    )["error"]
    assert "Leave out --thread" in error["message"]
    assert background.json("list-jobs") == []


def test_options_of_a_job_without_one_are_misuse(background: Cli) -> None:
    for option in (["--priority", "1"], ["--expires", "9"], ["--callback", "true"]):
        background.json("query-module", "arangodb", QUESTION, *option, code=2)
    background.json("query-module", "arangodb", QUESTION, "--background", "--show-prompt", code=2)
    background.json("query-module", "arangodb", QUESTION, "--background", "--callback", "'", code=2)


def test_ctrl_c_ends_the_waiting_and_the_job_goes_on(background: Cli, stuck: LoopbackAPI) -> None:
    job_id = asked(background)
    stuck.wait_for_requests(1)
    waiting = background.start("wait-job", job_id, "--json")
    with pytest.raises(TimeoutError):
        raise TimeoutError if waiting.poll() is None else AssertionError(waiting.communicate())
    short = background.json("wait-job", job_id, "--timeout", "0.2", code=1)["error"]
    assert short["type"] == "DeadlineExceededError"
    waiting.send_signal(signal.SIGINT)
    out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert fits(ERROR, json.loads(out))["error"]["type"] == "KeyboardInterrupt"
    assert background.json("show-job", job_id)["state"] == "running"
    cancelled = fits("cancel-job", background.json("cancel-job", job_id))
    assert cancelled["job_id"] == job_id
    ended = fits("wait-job", background.json("wait-job", job_id, code=1))
    assert ended["state"] == "cancelled"


def test_a_job_that_is_not_there_is_told(background: Cli) -> None:
    for command in ("show-job", "wait-job", "cancel-job"):
        assert fits(ERROR, background.json(command, "j_nobody", code=1))["error"]["type"] == "JobNotFoundError"


def test_a_callback_is_handed_the_job(background: Cli, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    script = tmp_path / "callback.py"
    script.write_text(f"import pathlib, sys\npathlib.Path({str(told)!r}).write_text(sys.stdin.read())\n")
    job_id = asked(background, "--priority", "5", "--expires", "60", "--callback", f"{sys.executable} {script}")
    job = background.json("wait-job", job_id)
    assert (job["priority"], job["callback"]) == (5, [sys.executable, str(script)])
    assert job["expires_at"] is not None
    while background.json("show-job", job_id)["callback_result"] is None:
        pass
    assert json.loads(told.read_text())["job_id"] == job_id


def test_usage_reads_the_same_with_and_without_a_daemon(background: Cli) -> None:
    assert fits("usage", background.json("usage")) == []
    background.json("query-module", "arangodb", QUESTION, "--from", "marker")
    rows = fits("usage", background.json("usage"))
    assert [(row["group"], row["turns"]) for row in rows] == [("marker/arangodb", 1)]
    for by in ("source", "target", "backend", "model", "day", "all"):
        assert [row["turns"] for row in fits("usage", background.json("usage", "--by", by))] == [1]
    assert background.json("usage", "--until", "1h") == []
    assert background.json("usage", "--since", "1h", "--to", "marker") == []
    assert background.json("usage", "--since", "whenever", code=2)["error"]
    background.json("daemon", "stop")
    assert background.json("usage") == rows
    assert "marker/arangodb" in background.run("usage").stdout


def test_every_other_command_prints_what_its_schema_says(background: Cli, tmp_path: Path) -> None:
    """Those around the daemon, instances and jobs are validated where they are tested."""
    (tmp_path / "mine").mkdir()
    fits("register-module", background.json("register-module", "mine", "--path", tmp_path / "mine"))
    assert len(fits("list-modules", background.json("list-modules"))) == 4
    fits("show-module", background.json("show-module", "marker"))
    fits("show-module", background.json("show-module", "--schema"))
    assert fits("find-module", background.json("find-module", "full-text search"))
    reply = fits("query-module", background.json("query-module", "arangodb", QUESTION, "--from", "marker"))
    thread = reply["thread_id"]
    fits("query-module", background.json("query-module", "arangodb", QUESTION, "--show-prompt"))
    fits("continue-conversation", background.json("continue-conversation", thread, "And then?"))
    fits("continue-conversation", background.json("continue-conversation", thread, "And then?", "--show-prompt"))
    assert fits("list-conversations", background.json("list-conversations"))
    fits("show-conversation", background.json("show-conversation", thread))
    assert fits("search-conversations", background.json("search-conversations", "blocks"))
    fits("export-conversation", background.json("export-conversation", thread))
    fits("archive-conversation", background.json("archive-conversation", thread))
    assert fits("doctor", background.json("doctor"))
    assert fits("config show", background.json("config", "show"))
    fits("unregister-module", background.json("unregister-module", "mine"))
    fits("demo", background.json("demo"))
    fits(ERROR, background.json("show-module", "nobody", code=1))
    fits(ERROR, background.json("show-module", code=2))
