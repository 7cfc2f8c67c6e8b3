"""YAML as parse events, and values as YAML.

Plain words mean what YAML 1.2's core schema says: ``true`` and ``false`` are booleans, ``yes``, ``no``, ``on`` and
``off`` are text, and so are dates. What is written quotes also what YAML 1.1 would take for something else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import yaml

from claude_comms.descriptors._json import number_event
from claude_comms.descriptors._tree import Event, Kind, refuse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["to_yaml", "yaml_events"]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_parse = cast("Callable[..., Iterator[Any]]", yaml.parse)  # pyright: ignore[reportUnknownMemberType]
_TEXT_TAGS = frozenset({"!", "tag:yaml.org,2002:str"})

_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def yaml_events(text: str) -> Iterator[Event]:
    """The events of the one YAML document in `text`. DescriptorError names the line where it is none."""
    documents = 0
    try:
        for event in _parse(text, Loader=_LOADER):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise refuse("a second document begins here", _line(event), "one descriptor for each file")
            converted = _convert(event)
            if converted:
                yield converted
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        raise refuse(f"not YAML: {said}", mark.line + 1 if mark else None, "check indentation and quotes") from error
    except yaml.YAMLError as error:
        said = str(error).partition("\n")[0]
        raise refuse(f"not YAML: {said}", None, "check for control characters") from error
    except (ValueError, OverflowError) as error:  # an escape beyond Unicode, in PyYAML's own parser
        raise refuse(f"not YAML: {error}", None, "check the escapes in double quotes") from error


def _convert(event: Any) -> Event | None:
    match event:
        case yaml.ScalarEvent():
            return _scalar(event)
        case yaml.AliasEvent():
            return Event(Kind.ALIAS, _line(event), event.anchor)
        case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
            kind = Kind.MAPPING if isinstance(event, yaml.MappingStartEvent) else Kind.SEQUENCE
            if event.tag:
                raise refuse(f"the tag {event.tag} is not allowed", _line(event), "remove it; plain values only")
            return Event(kind, _line(event), anchor=event.anchor)
        case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
            return Event(Kind.END, _line(event))
        case _:
            return None


def _line(event: Any) -> int:
    return event.start_mark.line + 1


def _scalar(event: Any) -> Event:
    line, text, anchor = _line(event), str(event.value), event.anchor
    if event.tag and event.tag not in _TEXT_TAGS:
        return Event(Kind.BAD, line, (f"the tag {event.tag} is not allowed", "remove it; plain values only"), anchor)
    if event.tag or event.style:
        return Event(Kind.SCALAR, line, text, anchor)
    return _plain(text, line)._replace(anchor=anchor)


def _plain(text: str, line: int) -> Event:
    """What a word without quotes means."""
    if text in _WORDS:
        return Event(Kind.SCALAR, line, _WORDS[text])
    if text == "<<":
        return Event(Kind.BAD, line, ("merge keys are not supported", "write the fields out, or use extends"))
    if _INTEGER.fullmatch(text):
        return number_event(text, line, whole=True, base={"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return number_event(text, line, whole=False)
    if _NOT_FINITE.fullmatch(text):
        return Event(Kind.BAD, line, (f"{text} is no JSON number", "quote it if it is text"))
    return Event(Kind.SCALAR, line, text)


_ODD_BREAK = re.compile("[\x85\u2028\u2029\ufeff]")
"""Line breaks of YAML 1.1 that PyYAML 6.0.3 folds away in other styles than double quotes."""


class _Dumper(yaml.SafeDumper):
    """Quotes all that YAML 1.1 or 1.2 would not read as text, and writes long text as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        """No anchors: equal parts are written out."""
        return True


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    lines = value.split("\n")
    block = len(lines) > 1 and lines[0].strip() and not any(line != line.rstrip() for line in lines)
    style = '"' if _ODD_BREAK.search(value) else "|" if block else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)  # pyright: ignore[reportUnknownMemberType]


_Dumper.add_representer(str, _represent_text)
for _pattern in (_INTEGER, _FLOAT):
    _resolver = re.compile(f"^(?:{_pattern.pattern})$")
    _Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _resolver, list("-+.0123456789"))  # pyright: ignore[reportUnknownMemberType]


def to_yaml(value: Any) -> str:
    """`value`, of JSON values, as YAML that `yaml_events` and other readers understand alike."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
