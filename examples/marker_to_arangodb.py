"""marker, a PDF extractor, asks arangodb how to store what it extracts, and gets an answer it can use in code.

    python examples/marker_to_arangodb.py

With ANTHROPIC_API_KEY set a model answers. Without, the offline backend quotes arangodb's descriptor, and the
structured part is left out, since nobody is there to write it.
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from claude_comms import create_communicator
from claude_comms.text import printable

PAGE = {
    "page_id": 3,
    "blocks": [
        {"id": "/page/3/SectionHeader/0", "block_type": "SectionHeader", "html": "<h2>Results</h2>"},
        {"id": "/page/3/Table/1", "block_type": "Table", "html": "<table>…</table>"},
    ],
}


class StoragePlan(BaseModel):
    """Where marker's output goes in ArangoDB."""

    document_collections: list[str] = Field(description="names of the collections that hold blocks and pages")
    edge_collections: list[str] = Field(description="names of the collections that link them")
    unique_key: str = Field(description="which field of a block becomes its _key, and how")


def main() -> None:
    """Ask, look at the conversation, and ask for a plan of a given shape where a model is there."""
    with create_communicator("marker") as comm:
        stream = comm.stream_message(target="arangodb", prompt="How should I store my page blocks?", data=PAGE)
        for piece in stream:
            print(printable(piece), end="", flush=True)
        reply = stream.reply
        print(f"\n\n[{reply.backend}, {reply.usage.input_tokens} tokens in, conversation {reply.thread_id}]")

        if reply.backend == "offline":
            print("Set ANTHROPIC_API_KEY to have a model answer, in a shape of your choice.")
            return

        plan = comm.send_message(
            target="arangodb",
            prompt="Give me that as a plan for these blocks.",
            response_model=StoragePlan,
            max_cost_usd=0.25,
        ).data
        print(f"documents in {plan.document_collections}, edges in {plan.edge_collections}, key: {plan.unique_key}")


if __name__ == "__main__":
    main()
