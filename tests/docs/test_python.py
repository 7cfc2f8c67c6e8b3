"""The Python that the documents show: each block by itself, with an empty home, against the loopback API."""

from __future__ import annotations

import subprocess
import sys
import types
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from tests.docs.conftest import Block, Desk, Document


def test_a_python_block_runs(
    python_document: Document, python_block: Block, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.put(python_document)
    if "def test_" in python_block.text or "class Test" in python_block.text:
        _run_as_tests(python_block, desk)
        return
    for name, value in desk.environment.items():
        if name not in ("PATH", "PYTHONPATH"):
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "path", [str(desk.directory), *sys.path])
    monkeypatch.chdir(desk.directory)
    module = types.ModuleType("shown")
    monkeypatch.setitem(sys.modules, "shown", module)
    before = set(sys.modules)
    exec(compile("\n" * python_block.line + python_block.text, python_block.document, "exec"), module.__dict__)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(desk.directory)):
            del sys.modules[name]


def _run_as_tests(block: Block, desk: Desk) -> None:
    (desk.directory / "test_shown.py").write_text(block.text)
    plugin = [] if entry_points(group="pytest11", name="claude_comms") else ["-p", "claude_comms.testing.plugin"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, "test_shown.py"],
        cwd=desk.directory,
        env=desk.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
