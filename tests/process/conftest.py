"""The real command line as a child process, in a pipe or on a terminal, seeing nothing of whoever runs the tests."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import claude_comms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_WAIT_S = 60.0
_PASSED_ON = ("PATH", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


@dataclass
class Terminal:
    """A child on a pseudo-terminal. `text` is all it has shown so far."""

    process: subprocess.Popen[bytes]
    controller: int
    shown: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        return self.shown.decode("utf-8", "replace").replace("\r\n", "\n")

    def wait_for(self, text: str) -> str:
        """Read until `text` was shown."""
        return self._read_until(lambda: text in self.text)

    def type(self, keys: str) -> None:
        os.write(self.controller, keys.encode())

    def end(self) -> int:
        """Read to the end; the exit code."""
        self._read_until(lambda: False)
        return self.process.wait(_WAIT_S)

    def _read_until(self, done: Callable[[], bool]) -> str:
        give_up = time.monotonic() + _WAIT_S
        while not done():
            if not select.select([self.controller], [], [], give_up - time.monotonic())[0]:
                raise TimeoutError(f"not shown within {_WAIT_S} s: {self.text}")
            try:
                data = os.read(self.controller, 65536)
            except OSError:
                data = b""
            if not data:
                break
            self.shown += data
        return self.text


@dataclass
class Cli:
    """Runs ``claude-comms`` with a home of its own."""

    home: Path
    directory: Path
    environment: dict[str, str]
    _children: list[subprocess.Popen[Any]] = field(default_factory=list["subprocess.Popen[Any]"])

    def run(
        self,
        *arguments: str | Path,
        input: str | bytes = b"",  # noqa: A002
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """A finished run in pipes."""
        data = input.encode() if isinstance(input, str) else input
        done = subprocess.run(
            self.command(*arguments),
            input=data,
            capture_output=True,
            env={**self.environment, **(environment or {})},
            cwd=cwd or self.directory,
            timeout=_WAIT_S,
            check=False,
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    def json(self, *arguments: str | Path, code: int = 0, **options: Any) -> Any:
        """The one document that a run with ``--json`` prints."""
        done = self.run(*arguments, "--json", **options)
        assert done.returncode == code, (done.stdout, done.stderr)
        assert done.stdout.count("\n") == 1, done.stdout
        return json.loads(done.stdout)

    def start(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """A run under way, in pipes."""
        child = subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self.environment, **(environment or {})},
            cwd=self.directory,
        )
        self._children.append(child)
        return child

    def terminal(
        self, *arguments: str | Path, columns: int = 80, environment: Mapping[str, str] | None = None
    ) -> Terminal:
        """A run under way, on a terminal of that width."""
        controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        child = subprocess.Popen(
            self.command(*arguments),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env={**self.environment, "TERM": "xterm-256color", **(environment or {})},
            cwd=self.directory,
            start_new_session=True,
        )
        os.close(terminal)
        self._children.append(child)
        return Terminal(child, controller)

    def close(self) -> None:
        for child in self._children:
            if child.poll() is None:
                child.send_signal(signal.SIGKILL)
            child.communicate()

    def command(self, *arguments: str | Path) -> list[str]:
        """The command line of a run."""
        return [sys.executable, "-P", "-m", "claude_comms", *map(str, arguments)]


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """The command line without a daemon, unless a test gives it one."""
    home, directory = tmp_path / "home", tmp_path / "work"
    directory.mkdir()
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment |= {
        "HOME": str(tmp_path),
        "CLAUDE_COMMS_HOME": str(home),
        "CLAUDE_COMMS_BACKEND": "offline",
        "CLAUDE_COMMS_DAEMON": "off",
        "PYTHONPATH": str(Path(claude_comms.__file__).parents[1]),
        "PYTHONWARNINGS": "error",
        "LC_ALL": "C.UTF-8",
    }
    runner = Cli(home, directory, environment)
    yield runner
    runner.close()


@pytest.fixture
def background(cli: Cli) -> Iterator[Cli]:
    """The same with a daemon, which is started when it is needed and gone at the test's end."""
    del cli.environment["CLAUDE_COMMS_DAEMON"]
    yield cli
    done = cli.run("daemon", "stop", "--drain", "0")
    assert done.returncode == 0, done.stderr
