"""Tools that ask, and the one that finds what was answered before."""

# No postponed annotations here: the SDK reads them.
from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp_types import CallToolResult
from pydantic import Field

from claude_comms.plugin._asking import ask
from claude_comms.plugin._desk import Asker, Desk
from claude_comms.plugin._offering import answered, offer
from claude_comms.plugin._shapes import Answer, Found, Hits

__all__ = ["Prompt", "Target", "Thread", "add_asking_tools"]

Target = Annotated[str, Field(description="The module to ask: a name from list_modules.")]
Prompt = Annotated[
    str,
    Field(description="The question, complete in itself: the module sees nothing of this session.", min_length=1),
]
Thread = Annotated[
    str | None,
    Field(description="Go on in this conversation; it keeps what was said. Left out, a new one begins."),
]
_Limit = Annotated[int, Field(ge=1, le=100, description="At most so many.")]


def add_asking_tools(server: MCPServer[Any], desk: Desk) -> None:
    """Offer query_module, continue_conversation and search_conversations."""

    async def query_module(
        target: Target, prompt: Prompt, context: Context[Any, Any], thread_id: Thread = None
    ) -> Annotated[CallToolResult, Answer]:
        """Ask another software module a question and wait for its answer.

        A background Claude that knows the module (its descriptor, and its code where it has a path) answers for it.
        Use it when the matter belongs to another module: its API, its data, how to work with it. Put one precise
        question, with what the module must know to answer. It takes seconds to minutes and may cost money; for long
        work use start_task. The result has a thread_id: follow-up questions go there, with continue_conversation.
        """
        asker = await desk.asker(context)
        return await ask(desk, context, asker.question(target, prompt, thread_id), asker.reason)

    async def continue_conversation(
        thread_id: Annotated[
            str, Field(description="From an earlier answer, or from search_conversations.", min_length=1)
        ],
        prompt: Prompt,
        context: Context[Any, Any],
    ) -> Annotated[CallToolResult, Answer]:
        """Ask the next question in a stored conversation, with the same module, which remembers what was said.

        Use it for follow-ups instead of repeating the context in a new query_module. It asks in the name of whoever
        began the conversation.
        """
        engine = await desk.engine()
        conversation = await engine.get_conversation(thread_id)
        asker = await desk.asker(context)
        if asker.turn is None:
            asker = Asker(conversation.source, "the conversation is its own")
        question = asker.question(conversation.target, prompt, conversation.thread_id)
        return await ask(desk, context, question, asker.reason)

    async def search_conversations(
        text: Annotated[str, Field(description="Words to look for.", min_length=1)],
        target: Annotated[str | None, Field(description="Only what this module was asked.")] = None,
        source: Annotated[str | None, Field(description="Only what this module asked.")] = None,
        limit: _Limit = 10,
    ) -> Annotated[CallToolResult, Hits]:
        """Search all stored questions and answers between modules, the best fits first.

        Use it before asking: it may have been answered already, and searching costs nothing. Each hit has a
        thread_id to go on with.
        """
        engine = await desk.engine()
        hits = await engine.search_conversations(text, source=source, target=target, limit=limit)
        found = [Found(**{name: hit.as_dict()[name] for name in Found.model_fields}) for hit in hits]
        lines = [f"{hit.thread_id} {hit.source} → {hit.target}, {hit.role}: {hit.excerpt}" for hit in found]
        return answered("\n".join(lines) or "Nothing was found. Ask with query_module.", Hits(hits=found))

    offer(server, query_module, title="Ask a module", effect="asks")
    offer(server, continue_conversation, title="Go on in a conversation", effect="asks")
    offer(server, search_conversations, title="Search conversations", effect="reads")
