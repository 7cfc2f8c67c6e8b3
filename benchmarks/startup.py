"""How long the command line takes to start: medians over fresh processes, taken in turns so that all see the same load.

    python benchmarks/startup.py [--rounds 15]

The targets are DESIGN.md's: `import claude_comms` under 80 ms and `claude-comms --help` under 150 ms, on a machine
where ``python -c pass`` takes 15 ms. The command line is started as ``python -m claude_comms``.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import claude_comms

_QUESTION = "How should I store my page blocks?"
_COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import claude_comms": ["-c", "import claude_comms"],
    "import typer (bare)": ["-c", "import typer"],
    "claude-comms --version": ["-m", "claude_comms", "--version"],
    "claude-comms --help": ["-m", "claude_comms", "--help"],
    "list-modules": ["-m", "claude_comms", "list-modules"],
    "list-conversations": ["-m", "claude_comms", "list-conversations"],
    "query-module, offline": ["-m", "claude_comms", "query-module", "arangodb", _QUESTION, "--backend", "offline"],
}
_TARGETS_MS = {"import claude_comms": 80.0, "claude-comms --help": 150.0}
_REFERENCE_MS = 15.0


def main() -> None:
    """Measure and print one line for each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="runs of each command (default 15)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="claude-comms-startup-") as home:
        environment = _environment(Path(home))
        times = _measure(environment, rounds)
    print(f"Python {platform.python_version()}, {os.cpu_count()} processors, {rounds} rounds, milliseconds")
    print(f"{'':24}{'median':>9}{'fastest':>9}{'target':>9}")
    scale = statistics.median(times["python -c pass"]) / _REFERENCE_MS
    for name, taken in times.items():
        target = f"{_TARGETS_MS[name] * scale:9.0f}" if name in _TARGETS_MS else ""
        print(f"{name:24}{statistics.median(taken):9.1f}{min(taken):9.1f}{target}")
    print(f"Targets are scaled by {scale:.2f}: python -c pass here, against {_REFERENCE_MS:.0f} ms.")


def _environment(home: Path) -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(home),
        "CLAUDE_COMMS_HOME": str(home / "state"),
        "PYTHONPATH": str(Path(claude_comms.__file__).parents[1]),
        "COLUMNS": "80",
    }


def _measure(environment: dict[str, str], rounds: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in _COMMANDS}
    for number in range(rounds + 1):
        for name, arguments in _COMMANDS.items():
            taken = _run(arguments, environment)
            if number:  # the first round fills the caches
                times[name].append(taken)
    return times


def _run(arguments: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    taken = (time.perf_counter() - started) * 1000
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    return taken


if __name__ == "__main__":
    main()
