"""The monitor as a command: on a terminal it starts the daemon and shows it, elsewhere it says what to do instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.process.conftest import Cli


def test_without_a_terminal_it_is_misuse_and_starts_nothing(background: Cli) -> None:
    done = background.run("monitor")
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr
    assert background.json("daemon", "status", code=1)["running"] is False


def test_where_no_daemon_is_wanted_it_says_so(cli: Cli) -> None:
    terminal = cli.terminal("monitor")
    assert terminal.end() == 1
    assert "live in the daemon" in terminal.text


def test_on_a_terminal_it_starts_the_daemon_and_q_leaves_that_running(background: Cli) -> None:
    terminal = background.terminal("monitor", columns=100)
    terminal.wait_for("● live")
    terminal.wait_for("No instances.")
    terminal.type("q")
    assert terminal.end() == 0
    assert background.json("daemon", "status")["running"] is True
