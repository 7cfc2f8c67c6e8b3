"""What may be said about any question on the command line, declared once for all commands that ask."""

# No postponed annotations here: Typer reads them.
import inspect
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any

from claude_comms.cli import _options as options

__all__ = ["QuestionOptions", "with_question_options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionOptions:
    """The options as given: each field is an option of every command that asks."""

    backend: options.Backend = None
    model: options.Model = None
    data: options.Data = None
    schema: options.Schema = None
    template: options.Template = "query"
    param: options.Parameters = None
    deadline: options.Deadline = None
    max_cost: options.MaxCost = None
    show_prompt: options.ShowPrompt = False
    no_daemon: options.NoDaemon = False
    as_json: options.AsJson = False


def with_question_options(*, without: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command the options of every question after its own; it gets them as its parameter ``question``.

    `without` are the fields that make no sense for it; they keep their defaults.
    """
    shared = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.type)
        for field in fields(QuestionOptions)
        if field.name not in without
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def with_options(**given: Any) -> None:
            question = QuestionOptions(**{option.name: given.pop(option.name) for option in shared})
            command(**given, question=question)

        signature = inspect.signature(command)
        own = [parameter for name, parameter in signature.parameters.items() if name != "question"]
        vars(with_options)["__signature__"] = signature.replace(parameters=[*own, *shared])  # what Typer reads
        return with_options

    return decorate
