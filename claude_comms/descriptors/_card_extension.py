"""Our extension of agent cards: what a descriptor says beyond the card's own fields, and how the two are put together.

Where the card's own fields and the extension disagree, somebody edited the card: then its own fields count, because
they are what everybody else reads.
"""

from __future__ import annotations

from typing import Any, cast

from claude_comms.descriptors._card_fields import SHARED, SHARED_OF_A_SKILL, Values, card_of
from claude_comms.descriptors._card_schema import EXTENSION_URI

__all__ = [
    "applied",
    "difference",
    "interface",
    "placement_of",
    "put_extension",
    "take_extension",
    "told_by_card",
    "with_rest",
]

_DESCRIPTION = "What claude-comms knows of the module beyond this card: schemas, data types, relationships, hints."


def interface(url: str) -> Values:
    """The interface that an export with an address adds."""
    return {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}


def put_extension(card: Values, params: Values, placement: object = None) -> Values:
    """`card` with our extension after all others, or as `placement` tells; unchanged where there is nothing to say."""
    placed = cast("Values", placement) if isinstance(placement, dict) else {}
    fields, at, url = placed.get("fields"), placed.get("at"), placed.get("url")
    if not params and not placed:
        return card
    given = {"url": url, **params} if isinstance(url, str) else params
    about = cast("Values", fields) if isinstance(fields, dict) else {"description": _DESCRIPTION}
    capabilities: Values = card["capabilities"]
    extensions: list[Values] = list(capabilities.get("extensions") or [])
    extensions.insert(at if isinstance(at, int) else len(extensions), {**about, "uri": EXTENSION_URI, "params": given})
    return {**card, "capabilities": {**capabilities, "extensions": extensions}}


def placement_of(card: Values) -> Values:
    """How our extension stands in the valid `card`, where `put_extension` would put it otherwise: others may have
    written the card anew, with all fields that the protocol knows.
    """
    extensions: list[Values] = card["capabilities"].get("extensions") or []
    at = next((number for number, item in enumerate(extensions) if item["uri"] == EXTENSION_URI), None)
    if at is None:
        return {}
    ours = extensions[at]
    fields = {key: value for key, value in ours.items() if key not in ("uri", "params")}
    params: Values = ours["params"]
    interfaces: list[Values] = card["supportedInterfaces"]
    stray = "url" in params and interfaces[:1] != [interface(params["url"])]
    placed = {
        **({"at": at} if at != len(extensions) - 1 else {}),
        **({"fields": fields} if fields != {"description": _DESCRIPTION} else {}),
        **({"url": params["url"]} if stray else {}),
    }
    return placed if placed or params else {"at": at}


def take_extension(card: Values) -> tuple[Values, Values]:
    """What our extension says, and the valid `card` without it and without the interface that it tells of."""
    capabilities: Values = card["capabilities"]
    extensions: list[Values] = capabilities.get("extensions") or []
    others = [item for item in extensions if item["uri"] != EXTENSION_URI]
    if len(others) == len(extensions):
        return {}, card
    params: Values = next(item["params"] for item in extensions if item["uri"] == EXTENSION_URI)
    left = {key: value for key, value in capabilities.items() if key != "extensions"}
    card = {**card, "capabilities": {**left, "extensions": others} if others else left}
    interfaces: list[Values] = card["supportedInterfaces"]
    if "url" in params and interfaces and interfaces[0] == interface(params["url"]):
        card = {**card, "supportedInterfaces": interfaces[1:]}
    return params, card


def difference(values: Values, plain: Values, card: Values) -> Values:
    """What must be told beside the card, whose own fields say `plain`, so that `values` come out."""
    params = _told(values, plain, {"capabilities"})
    if values.get("capabilities") == []:
        params.setdefault("fields", {})["capabilities"] = []
    capabilities = {
        skill["id"]: told
        for skill, capability, said in zip(
            card["skills"], values.get("capabilities") or [], plain.get("capabilities") or [], strict=True
        )
        if (told := _told(capability, said, set()))
    }
    return {**params, "capabilities": capabilities} if capabilities else params


def _told(values: Values, plain: Values, without: set[str]) -> Values:
    fields = {
        key: value for key, value in values.items() if key not in without and (key not in plain or plain[key] != value)
    }
    missing = [key for key in plain if key not in values and key not in without]
    return {**({"fields": fields} if fields else {}), **({"not_given": missing} if missing else {})}


def applied(params: Values, plain: Values, card: Values) -> Values:
    """`plain` with what the extension tells beside it. Capabilities whose skills are gone are gone."""
    values = _apply(params, {key: value for key, value in plain.items() if key != "capabilities"})
    told: Values = params.get("capabilities", {})
    capabilities = [
        _apply(told.get(skill["id"], {}), capability)
        for skill, capability in zip(card["skills"], plain.get("capabilities") or [], strict=True)
    ]
    if capabilities:
        values["capabilities"] = capabilities
    return values


def _apply(params: Values, plain: Values) -> Values:
    missing = params.get("not_given", [])
    return {**{key: value for key, value in plain.items() if key not in missing}, **params.get("fields", {})}


def told_by_card(values: Values, plain: Values, card: Values) -> Values:
    """`values` with what the card's own fields say wherever `values` would write them otherwise."""
    said = card_of(values)
    values = _corrected(values, plain, said, card, SHARED)
    capabilities = [
        _corrected(capability, plain_capability, said_skill, skill, SHARED_OF_A_SKILL)
        for capability, plain_capability, said_skill, skill in zip(
            values.get("capabilities") or [],
            plain.get("capabilities") or [],
            said["skills"],
            card["skills"],
            strict=True,
        )
    ]
    return {**values, "capabilities": capabilities} if capabilities else values


def _corrected(values: Values, plain: Values, said: Values, card: Values, shared: dict[str, tuple[str, ...]]) -> Values:
    wrong = [key for name, keys in shared.items() if said.get(name) != card.get(name) for key in keys]
    kept = {key: value for key, value in values.items() if key not in wrong}
    return {**kept, **{key: plain[key] for key in wrong if key in plain}}


def with_rest(values: Values, rest: dict[str, Any] | None, place: str) -> Values:
    """`values` with `rest` under `place` of its metadata, unless the extension brought it along."""
    metadata: Any = values.get("metadata", {})
    if not rest or not isinstance(metadata, dict) or place in metadata:
        return values
    return {**values, "metadata": {**metadata, place: rest}}
