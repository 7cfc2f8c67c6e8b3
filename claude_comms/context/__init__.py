"""What to say: (source, target, history, question, budget) → Prompt. Pure, no I/O."""

from __future__ import annotations

from claude_comms.context.components import COMPONENTS, Component, ComponentInput
from claude_comms.context.describe import describe, prompt_as_dict
from claude_comms.context.descriptor import Descriptor
from claude_comms.context.generator import ContextGenerator
from claude_comms.context.tokens import estimate_tokens

__all__ = [
    "COMPONENTS",
    "Component",
    "ComponentInput",
    "ContextGenerator",
    "Descriptor",
    "describe",
    "estimate_tokens",
    "prompt_as_dict",
]
