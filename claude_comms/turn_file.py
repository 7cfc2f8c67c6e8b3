"""What an instance's tools must know of its running turn, should they ask other modules: a file beside its process.

A process stays warm over many turns, so its environment can tell where the file is, and only the file what it says.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio

from claude_comms.errors import ConfigError
from claude_comms.files import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping

    from claude_comms.types import TurnRequest

__all__ = ["TURN_FILE_VARIABLE", "RunningTurnFacts", "read_turn_file", "write_turn_file"]

TURN_FILE_VARIABLE = "CLAUDE_COMMS_TURN"
"""The variable that names the file to an instance's MCP servers."""


@dataclass(frozen=True, slots=True)
class RunningTurnFacts:
    """An instance's turn. `chain` are the modules that led to it, the one that answers, and asks now, last."""

    turn_id: str
    chain: tuple[str, ...]
    max_cost_usd: float | None
    """What could still be spent when it began."""
    left_s: float | None
    """Seconds until its deadline."""

    @property
    def module(self) -> str:
        """The module that the instance speaks for."""
        return self.chain[-1]


def write_turn_file(path: Path, request: TurnRequest) -> None:
    """Put down the turn that `request` begins, for its owner's eyes alone."""
    deadline = None if request.deadline is None else time.time() + request.deadline - anyio.current_time()
    facts = {
        "turn_id": request.turn_id,
        "chain": request.chain or (request.prompt.pair.source, request.prompt.pair.target),
        "max_cost_usd": request.max_cost_usd,
        "deadline": deadline,
    }
    write_private(path, json.dumps(facts))


def read_turn_file(environment: Mapping[str, str] | None = None) -> RunningTurnFacts | None:
    """The turn of the instance whose tool this process is; None where it is nobody's.

    ConfigError where it is somebody's and cannot be known: a question without its chain could go in circles.
    """
    name = (os.environ if environment is None else environment).get(TURN_FILE_VARIABLE)
    if not name:
        return None
    try:
        told: dict[str, Any] = json.loads(Path(name).read_bytes())
        deadline = _number(told, "deadline")
        return RunningTurnFacts(
            turn_id=str(told["turn_id"]),
            chain=_names(told["chain"]),
            max_cost_usd=_number(told, "max_cost_usd"),
            left_s=None if deadline is None else deadline - time.time(),
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{TURN_FILE_VARIABLE}: {name} does not tell the instance's turn ({error}). Ask from within a turn."
        ) from error


def _names(value: object) -> tuple[str, ...]:
    names = tuple(cast("list[object]", value)) if isinstance(value, list) else ()
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError("its chain is no list of modules")
    return cast("tuple[str, ...]", names)


def _number(told: dict[str, Any], key: str) -> float | None:
    value: object = told[key]
    if value is None or (isinstance(value, int | float) and math.isfinite(value)):
        return value
    raise ValueError(f"its {key} is no number")
