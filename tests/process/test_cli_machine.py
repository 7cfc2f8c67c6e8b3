from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.process.conftest import Cli

HEAVY = ("anthropic", "sqlmodel", "sqlalchemy", "alembic", "pydantic", "jinja2", "jsonschema_rs", "yaml", "anyio")


# --- start-up ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    ["import claude_comms", "import claude_comms.cli", "from claude_comms.cli._run import run; run(['--help'])"],
)
def test_help_loads_nothing_that_is_heavy(cli: Cli, statement: str) -> None:
    code = f"import sys; {statement}; print('loaded:', *sorted({{n.partition('.')[0] for n in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=cli.environment, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.rpartition("loaded:")[2].split())
    assert loaded.isdisjoint(HEAVY)


def test_version_is_the_distributions(cli: Cli) -> None:
    assert cli.run("--version").stdout.startswith("claude-comms ")


def test_reading_commands_make_no_home(cli: Cli) -> None:
    for arguments in (["--help"], ["list-modules"], ["config", "show"], ["show-module", "marker"]):
        assert cli.run(*arguments).returncode == 0
    assert not cli.home.exists()


# --- completion --------------------------------------------------------------------------------


def completions(cli: Cli, line: str) -> list[str]:
    words = line.split(" ")
    environment = {
        "_CLAUDE_COMMS_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    return cli.run(environment=environment).stdout.split()


def test_the_shell_completes_modules_conversations_and_backends(cli: Cli) -> None:
    assert "arangodb" in completions(cli, "claude-comms query-module ara")
    assert "offline" in completions(cli, "claude-comms query-module arangodb x --backend o")
    assert not cli.home.exists(), "completion writes nothing"
    thread = cli.json("query-module", "arangodb", "Which index?")["thread_id"]
    assert thread in completions(cli, "claude-comms show-conversation c_")


def test_completion_with_broken_settings_offers_nothing_and_says_nothing(cli: Cli) -> None:
    cli.environment["CLAUDE_COMMS_MAX_INSTANCES"] = "many"
    assert completions(cli, "claude-comms show-module ara") == []


# --- doctor ------------------------------------------------------------------------------------


def test_doctor_lists_what_it_found_and_is_content(cli: Cli) -> None:
    checks = {check["name"]: check for check in cli.json("doctor")}
    assert "SQLite" in checks["versions"]["detail"]
    assert str(cli.home) in checks["home"]["detail"]
    assert "offline" in checks["new conversations"]["detail"]
    text = cli.run("doctor").stdout
    assert "✓ home" in text
    assert "✗" not in text


def test_doctor_has_ascii_signs_where_there_are_no_others(cli: Cli) -> None:
    done = cli.run("doctor", environment={"PYTHONIOENCODING": "ascii"})
    assert done.stdout.isascii()
    assert "ok home" in done.stdout


def test_doctor_tells_a_broken_descriptor_and_exits_with_1(cli: Cli) -> None:
    folder = cli.home / "descriptors"
    folder.mkdir(parents=True)
    (folder / "bad.yaml").write_text("name: bad\ncapabilities: 5\n")
    wrong = [check for check in cli.json("doctor", code=1) if check["ok"] is False]
    assert len(wrong) == 1
    assert "bad.yaml" in wrong[0]["detail"]


def test_doctor_tells_broken_settings_as_a_finding(cli: Cli) -> None:
    cli.home.mkdir()
    (cli.home / "config.toml").write_text("no_such = 1\n")
    checks = cli.json("doctor", code=1)
    assert [(check["name"], check["ok"]) for check in checks] == [("settings", False)]
    assert "no such setting" in checks[0]["detail"]


def test_doctor_tells_a_store_that_is_none(cli: Cli) -> None:
    cli.home.mkdir()
    (cli.home / "claude-comms.db").write_bytes(b"this is no database at all" * 1000)
    assert any(check["ok"] is False for check in cli.json("doctor", code=1))


_WITHIN_48_KIB = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (49152, 49152))
os.execv(sys.executable, [sys.executable, "-P", "-m", "claude_comms", "doctor", "--json"])
"""


def test_doctor_tells_a_store_that_cannot_be_written(cli: Cli) -> None:
    cli.json("query-module", "arangodb", "Which index?")
    done = subprocess.run(
        [sys.executable, "-P", "-c", _WITHIN_48_KIB], env=cli.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    store = next(check for check in json.loads(done.stdout) if check["name"] == "store")
    assert store["ok"] is False
    assert "cannot be written" in store["detail"]


def test_looking_at_the_store_changes_nothing_in_it(cli: Cli) -> None:
    thread = cli.json("query-module", "arangodb", "Which index?")["thread_id"]
    before = sorted(path.name for path in cli.home.iterdir()), cli.json("show-conversation", thread)
    cli.json("doctor")
    assert (sorted(path.name for path in cli.home.iterdir()), cli.json("show-conversation", thread)) == before


# --- standard streams --------------------------------------------------------------------------


def in_shell(cli: Cli, redirection: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, started by a shell that redirects as told."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", sys.executable, "-P", "-m", "claude_comms", *arguments],
        env=cli.environment, cwd=cli.directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
@pytest.mark.parametrize("arguments", [["list-modules"], ["list-modules", "--json"], ["--help"]])
def test_a_stdout_that_takes_nothing_is_told_in_one_line(cli: Cli, redirection: str, arguments: list[str]) -> None:
    done = in_shell(cli, redirection, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: stdout ")
    assert done.stderr.count("\n") == 1


def test_nothing_is_asked_where_stdout_is_closed(cli: Cli) -> None:
    assert in_shell(cli, ">&-", "query-module", "arangodb", "Which index?").returncode == 1
    assert cli.json("list-conversations") == []


def test_a_closed_stdin_is_misuse_of_what_would_read_it(cli: Cli) -> None:
    done = in_shell(cli, "<&-", "query-module", "arangodb", "-")
    assert done.returncode == 2
    assert done.stderr.endswith("stdin is closed, so there is nothing to read from it.\n")
    assert in_shell(cli, "<&-", "query-module", "arangodb", "Which index?").returncode == 0


def test_what_goes_to_a_closed_stderr_does_not_come_out_of_stdout(cli: Cli) -> None:
    done = in_shell(cli, "2>&-", "query-module", "arangodb", "Which index?", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["status"] == "complete"


# --- an end before anything has begun ----------------------------------------------------------


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("imported", ["typer", "anyio"])
def test_an_end_while_importing_is_told_like_any_other(cli: Cli, name: str, code: int, imported: str) -> None:
    """`typer` is imported before a command is known, `anyio` by the command."""
    folder = cli.directory / "first"
    folder.mkdir()
    (folder / f"{imported}.py").write_text(f"import os, signal\nos.kill(os.getpid(), signal.{name})\n")
    cli.environment["PYTHONPATH"] = f"{folder}{os.pathsep}{cli.environment['PYTHONPATH']}"
    error = cli.json("query-module", "arangodb", "Which index?", code=code)["error"]
    assert error == {"type": "KeyboardInterrupt", "message": "interrupted"}
    done = cli.run("query-module", "arangodb", "Which index?")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "Interrupted.\n")


# --- demo --------------------------------------------------------------------------------------


def test_the_demo_does_the_main_job_and_leaves_nothing(cli: Cli) -> None:
    facts = cli.json("demo")
    assert facts["model_asked"] is False
    assert {reply["thread_id"] for reply in facts["replies"]} == {facts["thread_id"]}
    assert [reply["backend"] for reply in facts["replies"]] == ["offline"] * 3
    assert facts["conversation"]["message_count"] == 6
    assert facts["search"]
    assert not cli.home.exists()


def test_the_demo_ignores_the_users_own_state_and_key(cli: Cli) -> None:
    store = cli.directory / "mine.db"
    facts = cli.json(
        "demo",
        environment={
            "CLAUDE_COMMS_DATABASE_URL": f"sqlite:///{store}",
            "CLAUDE_COMMS_BACKEND": "api",
            "ANTHROPIC_API_KEY": "not-a-key",
            "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
        },
    )
    assert facts["backend"] == "offline"
    assert not store.exists()


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_demo_fits_the_terminal_and_shows_how_to_do_the_same(cli: Cli, columns: int) -> None:
    terminal = cli.terminal("demo", columns=columns, environment={"NO_COLOR": "1"})
    assert terminal.end() == 0
    lines = terminal.text.splitlines()
    flowing = " ".join(terminal.text.split())
    assert max(map(len, lines)) <= columns
    assert "claude-comms query-module arangodb" in flowing
    assert "comm.send_message(" in flowing
    assert "No model is asked" in flowing
    assert "export ANTHROPIC_API_KEY=" in flowing


def test_the_demo_reads_the_same_in_a_pipe(cli: Cli) -> None:
    done = cli.run("demo")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert json.dumps("offline") not in done.stdout
    assert "This demo is offline" in done.stdout
