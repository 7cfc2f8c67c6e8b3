"""The example: offline, and with a model that answers in the shape that is asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_comms.testing import LoopbackAPI
    from tests.docs.conftest import Desk

PROGRAM = "python examples/marker_to_arangodb.py"
PLAN = {
    "document_collections": ["blocks", "pages"],
    "edge_collections": ["page_has_block"],
    "unique_key": "the id with - for /",
}


def test_without_a_key_it_quotes_and_leaves_the_plan_out(desk: Desk) -> None:
    for name in ("ANTHROPIC_API_KEY", "CLAUDE_COMMS_BACKEND"):
        del desk.environment[name]
    code, text = desk.run(PROGRAM)
    assert code == 0, text
    assert text.startswith("[offline] No model was asked.")
    assert "[offline, 0 tokens in, conversation c_" in text
    assert "Set ANTHROPIC_API_KEY" in text
    assert "documents in" not in text


def test_with_a_model_it_uses_the_plan_and_both_questions_are_one_conversation(
    desk: Desk, loopback_api: LoopbackAPI
) -> None:
    desk.environment |= loopback_api.environment()
    loopback_api.answer("Keep blocks in one collection.")
    loopback_api.answer(json.dumps(PLAN))
    code, text = desk.run(PROGRAM)
    assert code == 0, text
    assert text.startswith("Keep blocks in one collection.\n")
    assert "documents in ['blocks', 'pages'], edges in ['page_has_block'], key: the id with - for /" in text
    first, second = [request for request in loopback_api.requests if request.path == "/v1/messages"]
    assert '"block_type": "Table"' in first.thread[-1][1]
    assert second.thread[:-1] == [*first.thread, ("assistant", "Keep blocks in one collection.")]
    assert len(desk.threads()) == 1
