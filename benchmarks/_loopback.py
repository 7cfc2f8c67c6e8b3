"""The loopback Messages API in a process of its own, for the benchmarks beside this file."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sqlite3
import subprocess
import sys
import threading
from importlib.metadata import version
from typing import TYPE_CHECKING

from claude_comms.testing.loopback import Answer, LoopbackAPI

if TYPE_CHECKING:
    from collections.abc import Generator

KEY = "sk-ant-benchmark"
MODEL = "claude-sonnet-5-5"
ANSWER = "Store each page as a document and its blocks as an array inside it, in reading order. " * 4
_LONGEST_RUN_S = 300


@contextlib.contextmanager
def loopback(*, delay_s: float = 0.0) -> Generator[str]:
    """Its address. Each answer's first byte comes after `delay_s`. The process ends with the block."""
    command = [sys.executable, __file__, str(delay_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def machine() -> str:
    """What was measured on, in one line."""
    return (
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, anthropic {version('anthropic')},"
        f" anyio {version('anyio')}; {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}"
    )


def _serve(delay_s: float) -> None:
    with LoopbackAPI(Answer(ANSWER, delay_s=delay_s)) as api:
        print(api.base_url, flush=True)
        threading.Event().wait(_LONGEST_RUN_S)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("delay_s", type=float)
    _serve(parser.parse_args().delay_s)
