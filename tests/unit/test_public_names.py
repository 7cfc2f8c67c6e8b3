"""What `import claude_comms` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import claude_comms

PUBLIC = {
    "AsyncBackground",
    "AsyncCommunicator",
    "Background",
    "BaseDescriptor",
    "ContextGenerator",
    "Conversation",
    "InstanceManager",
    "ModuleCommunicator",
    "ModuleDescriptor",
    "Reply",
    "RetryPolicy",
    "create_communicator",
}
HEAVY = ("anthropic", "sqlmodel", "sqlalchemy", "pydantic", "jinja2", "yaml", "typer", "rich", "anyio")


def test_the_public_names_are_these() -> None:
    assert set(claude_comms.__all__) == PUBLIC
    assert all(getattr(claude_comms, name) is not None for name in PUBLIC)
    assert set(dir(claude_comms)) >= PUBLIC


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, claude_comms; print([name for name in {HEAVY} if name in sys.modules])"
    environment = {"PYTHONPATH": str(Path(claude_comms.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
