"""The wire's names are there, and importing them brings nothing heavy along."""

from __future__ import annotations

import subprocess
import sys

import pytest

from claude_comms.daemon import wire


def test_every_public_name_is_there() -> None:
    for name in wire.__all__:
        assert getattr(wire, name) is not None
    assert set(wire.__all__) <= set(dir(wire))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = wire.Nothing


def test_a_client_loads_no_server_and_no_database() -> None:
    code = (
        "import sys, claude_comms.daemon.wire as wire; [getattr(wire, name) for name in wire.__all__];"
        "print([name for name in ('fastapi', 'starlette', 'uvicorn', 'sqlalchemy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.strip() == "[]"
