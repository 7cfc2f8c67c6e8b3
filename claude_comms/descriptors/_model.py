"""What a module can do, as values: the descriptor and its parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    WithJsonSchema,
)

from claude_comms.errors import ContextError, DescriptorError
from claude_comms.jsonable import to_json_value
from claude_comms.text import one_line

__all__ = [
    "NAME_PATTERN",
    "BaseDescriptor",
    "Capability",
    "DataType",
    "Example",
    "Hints",
    "ModuleDescriptor",
    "Permissions",
    "Relationship",
]

NAME_PATTERN = r"^[a-z][a-z0-9_-]{0,63}$"
"""What a module may be called."""

TEXT_TAG, MAPPING_TAG = "«text»", "«mapping»"
"""How pydantic marks the two forms of a data type in the place of an error; never part of a field's name."""


def _json(value: object) -> object:
    try:
        return to_json_value(value, field="value")
    except ContextError as error:
        raise ValueError(str(error)) from error


def _schema(value: object) -> object:
    if isinstance(value, (dict, bool)):
        return _json(value)  # pyright: ignore[reportUnknownArgumentType]
    raise ValueError("a JSON Schema is a mapping, true or false")


JsonData = Annotated[Any, BeforeValidator(_json)]
"""Any JSON value. What `to_json_value` knows (dataclasses, datetime, ...) is turned into one."""

JsonObject = Annotated[dict[str, Any], BeforeValidator(_json)]

JsonSchema = Annotated[
    Any,
    BeforeValidator(_schema),
    WithJsonSchema({"type": ["object", "boolean"], "title": "JSON Schema 2020-12"}),
]
"""A JSON Schema 2020-12: a mapping, or true or false."""

NOT_UNICODE = "is not valid Unicode: it has a lone surrogate"


def _unicode(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(NOT_UNICODE) from error
    return value


Text = Annotated[str, AfterValidator(_unicode)]
"""Any text that can be stored and sent. Python's str, JSON and YAML can hold more."""

ShortText = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*\S)?$")]
"""A name of something inside a descriptor: one line without spaces at its ends."""

ModuleName = Annotated[str, Field(pattern=NAME_PATTERN)]


class _Part(BaseModel):
    """What all parts of a descriptor share: frozen, closed, documented by their docstrings."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        use_attribute_docstrings=True,
        serialize_by_alias=True,
    )


class Example(_Part):
    """One use of a capability. What is given must match the capability's schemas; null is a value."""

    input: JsonData = None
    """What goes in."""

    output: JsonData = None
    """What comes back."""

    note: Text = ""
    """What the example shows."""


class Capability(_Part):
    """One thing that a module can do."""

    name: ShortText
    """What it is called, once in a descriptor: a function, an operation, a tool."""

    description: Text = ""
    """What it does; the first line stands in the capability index."""

    tags: tuple[Text, ...] = ()
    """Words to find it by."""

    input_schema: JsonSchema = None
    """JSON Schema 2020-12 of what it takes; references stay within it (#/...)."""

    output_schema: JsonSchema = None
    """JSON Schema 2020-12 of what it gives."""

    examples: tuple[Example, ...] = ()
    """Uses of it, checked against both schemas."""


class DataType(_Part):
    """A kind of data that the module takes or gives, with more than a name. A plain name may stand for one."""

    name: ShortText
    """What it is called."""

    description: Text = ""
    """What it is."""

    json_schema: JsonSchema = Field(default=None, alias="schema")
    """JSON Schema 2020-12 of its values."""

    def __str__(self) -> str:
        return self.name


class Relationship(_Part):
    """How the module stands to another one."""

    module: ModuleName
    """The other module."""

    kind: Text = Field(
        min_length=1,
        examples=["uses", "used by", "stores in", "stores for", "reads from", "feeds", "extends", "replaces"],
    )
    """A word or two, such as: uses, used by, stores in, stores for, reads from, feeds, extends, replaces."""

    description: Text = ""
    """What passes between them, and how."""


class Hints(_Part):
    """How a model should speak for the module."""

    role: Text = ""
    """Who it is to be: "an engineer who runs ArangoDB clusters"."""

    guidance: Text = ""
    """What to keep in mind when answering."""


class Permissions(_Part):
    """What the module's instances ask to use."""

    tools: tuple[ShortText, ...] = ()
    """Tool names. Reading inside the module's own path needs none; anything else is granted by the user first."""


def _form(value: object) -> str:
    return MAPPING_TAG if isinstance(value, (dict, DataType)) else TEXT_TAG


AnyDataType = Annotated[
    Annotated[ShortText, Tag(TEXT_TAG)] | Annotated[DataType, Tag(MAPPING_TAG)], Discriminator(_form)
]


class BaseDescriptor(ABC):
    """What every module can say of itself. The least that is needed is a `name` and `to_prompt`:

        class Clock(BaseDescriptor):
            name = "clock"

            def to_prompt(self, role):
                return "The clock. It knows the time."

    All else has a default; what a subclass sets is found by `find_modules` and quoted by `offline`.
    """

    name: str
    version: str
    summary: str
    description: str
    capabilities: tuple[Capability, ...]
    data_types: tuple[str | DataType, ...]
    relationships: tuple[Relationship, ...]
    hints: Hints
    permissions: Permissions
    metadata: dict[str, Any]

    _defaults: ClassVar[dict[str, Any]] = {
        "version": "",
        "summary": "",
        "description": "",
        "capabilities": (),
        "data_types": (),
        "relationships": (),
        "hints": Hints(),
        "permissions": Permissions(),
    }

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Give what the class leaves open a default; pydantic models bring their own."""
        super().__init_subclass__(**arguments)
        if not issubclass(cls, BaseModel):
            for name, value in [*BaseDescriptor._defaults.items(), ("metadata", dict[str, Any]())]:
                if not hasattr(cls, name):
                    setattr(cls, name, value)

    @abstractmethod
    def to_prompt(self, role: Literal["source", "target"]) -> str:
        """The module's block in the system prompt: `source` when it asks, `target` when it is asked.

        The same text every time, and nothing about the question: the block is cached on both sides.
        """


class ModuleDescriptor(BaseDescriptor, _Part):
    """A module's card, from a file or made in code. Wrong values raise DescriptorError with all problems."""

    name: ModuleName
    """The module's name: lower case letters, digits, - and _, starting with a letter; at most 64."""

    version: Text = ""
    """The version of the module that this describes. Text: quote it."""

    summary: Text = ""
    """What the module is, in one line."""

    description: Text = ""
    """What the module is, in some paragraphs."""

    capabilities: tuple[Capability, ...] = ()
    """What the module can do."""

    data_types: tuple[AnyDataType, ...] = ()
    """What the module takes and gives: names, or mappings with name, description and schema."""

    relationships: tuple[Relationship, ...] = ()
    """How the module stands to others."""

    hints: Hints = Hints()
    """Who a model is to be when it speaks for the module, and what it should keep in mind."""

    permissions: Permissions = Permissions()
    """The tools that the module's instances ask for."""

    extends: ModuleName | None = None
    """Another descriptor's name: its fields are merged in. Own values win, lists add, mappings merge."""

    descriptor_class: Text | None = Field(default=None, alias="class")
    """An entry point of the group `claude_comms.descriptors`: the class that reads this file."""

    metadata: JsonObject = {}
    """Anything else, for yourself."""

    def __init__(self, **data: Any) -> None:
        from claude_comms.descriptors._check import content_problems, explain, size_problems

        if problems := size_problems(data):
            raise DescriptorError(problems)
        problems = content_problems(data)
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise DescriptorError([*explain(error, type(self)), *problems]) from error
        if problems:
            raise DescriptorError(problems)

    def to_prompt(self, role: Literal["source", "target"]) -> str:
        """Who the module is; for the one that is asked, also its capability index, one line each."""
        return "\n\n".join(part for part in (_target_parts(self) if role == "target" else _source_parts(self)) if part)


def _source_parts(card: ModuleDescriptor) -> list[str]:
    return [_title(card), _data_types(card)]


def _target_parts(card: ModuleDescriptor) -> list[str]:
    index = "\n".join(_index_line(capability) for capability in card.capabilities)
    return [
        _title(card),
        card.description.strip(),
        f"Role: {card.hints.role.strip()}" if card.hints.role else "",
        f"Guidance: {card.hints.guidance.strip()}" if card.hints.guidance else "",
        _data_types(card),
        f"Capabilities:\n{index}" if index else "",
    ]


def _title(card: ModuleDescriptor) -> str:
    version = f" {one_line(card.version)}" if card.version else ""
    summary = one_line(card.summary) or ""
    return f"Module {card.name}{version}" + (f": {summary}" if summary else "")


def _data_types(card: ModuleDescriptor) -> str:
    lines = [item if isinstance(item, str) else _with(item.name, item.description) for item in card.data_types]
    return "Data types:\n" + "\n".join(f"- {line}" for line in lines) if lines else ""


def _index_line(capability: Capability) -> str:
    tags = f" [{', '.join(one_line(tag) for tag in capability.tags)}]" if capability.tags else ""
    first_line = capability.description.strip().partition("\n")[0]
    return f"- {_with(capability.name, first_line)}{tags}"


def _with(name: str, description: str) -> str:
    return f"{name}: {one_line(description)}" if description else name
