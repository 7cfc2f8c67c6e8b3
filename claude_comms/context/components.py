"""The parts that a prompt is made of, and how a program adds its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from claude_comms.context._pairing import SYSTEM_COMPONENTS
from claude_comms.errors import ContextError

if TYPE_CHECKING:
    from claude_comms.context.descriptor import Descriptor
    from claude_comms.types import HistoryMessage

__all__ = ["COMPONENTS", "Component", "ComponentInput", "own_texts"]

COMPONENTS = (*SYSTEM_COMPONENTS, "capabilities", "history", "data", "schema", "question")
"""The built-in components. All but `question` can be overridden for one question by `context=`."""


@dataclass(frozen=True, slots=True)
class ComponentInput:
    """What a component may use to make its text."""

    source: Descriptor
    target: Descriptor
    question: str
    history: tuple[HistoryMessage, ...]
    """As it was given, before anything is cut."""
    data: Any
    """As JSON values; None where there is none."""
    params: Mapping[str, Any]
    """The template's parameters, defaults included."""


Component = Callable[[ComponentInput], str]
"""Makes a component's text; an empty one leaves the component out. The same input must give the same text."""


def own_texts(
    components: Mapping[str, Component], given: ComponentInput, overrides: Mapping[str, str]
) -> dict[str, str]:
    """The text of each own component, in their order; ContextError where one fails."""
    return {
        name: overrides[name] if name in overrides else _text(name, component, given)
        for name, component in components.items()
    }


def _text(name: str, component: Component, given: ComponentInput) -> str:
    try:
        text = cast("object", component(given))
    except Exception as error:
        raise ContextError(f"component {name!r} failed: {type(error).__name__}: {error}. Correct it.") from error
    if not isinstance(text, str):
        raise ContextError(f"component {name!r} gave {type(text).__name__}. It must return text.")
    return text
