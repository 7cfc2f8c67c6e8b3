"""The monitor as a command: on a terminal it starts the daemon and shows it, elsewhere it says what to do instead."""

from __future__ import annotations

import os
import signal
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


def test_an_instance_is_attached_to_from_the_monitor_which_shows_what_was_said_there(background: Cli) -> None:
    background.json("start-instance", "--from", "marker", "--to", "arangodb")
    terminal = background.terminal("monitor", columns=100)
    terminal.wait_for("▸ idle")
    terminal.type("t")
    terminal.wait_for("marker> ")
    terminal.type("How should I store my page blocks?\n")
    terminal.wait_for("no cost")
    terminal.type("\n")
    terminal.wait_for("Enter goes back to the monitor.")
    terminal.type("\n")
    terminal.wait_for("Σ no cost")
    terminal.type("q")
    assert terminal.end() == 0


def test_a_terminal_that_is_gone_ends_it_also_where_nobody_sends_a_hangup(background: Cli) -> None:
    terminal = background.terminal("monitor", columns=100)  # it does not control the process
    terminal.wait_for("● live")
    os.close(terminal.controller)
    assert terminal.process.wait(20) == 128 + signal.SIGHUP
