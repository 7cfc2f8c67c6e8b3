"""What the daemon and its clients say to each other: models of the JSON, problem documents, the handshake.

Apart from the inner types on purpose, so that those may change without the wire. Needs pydantic, nothing heavier.

The names are loaded when they are first used: a command needs only some of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_comms.daemon.wire._base import decoded, encoded
    from claude_comms.daemon.wire._calls import (
        INTERNAL_ERROR,
        INVALID_PARAMS,
        INVALID_REQUEST,
        METHOD_NOT_FOUND,
        OUR_ERROR,
        PARSE_ERROR,
        AskParams,
        Call,
        HelloParams,
        SubscribeParams,
        TurnParams,
        UnsubscribeParams,
    )
    from claude_comms.daemon.wire._modules import MatchModel, match_dict
    from claude_comms.daemon.wire._previews import PreviewModel, preview_dict
    from claude_comms.daemon.wire._problems import (
        PROBLEM_TYPE,
        RETRY_AFTER_S,
        TERMINAL,
        TURN_EVENTS,
        ProblemModel,
        problem,
        status_named,
        status_of,
    )
    from claude_comms.daemon.wire._requests import (
        FilterModel,
        FocusedFilterModel,
        InstanceModel,
        JobRequestModel,
        LimitsModel,
        ListenModel,
        NewConversationModel,
        QuestionModel,
        StopModel,
        TurnsModel,
    )
    from claude_comms.daemon.wire._values import (
        CheckModel,
        ConversationModel,
        EventModel,
        HealthModel,
        InstanceInfoModel,
        JobModel,
        MessageModel,
        ReplyModel,
        SearchHitModel,
        StatusModel,
        UsageModel,
        UsageRowModel,
    )
    from claude_comms.daemon.wire.handshake import (
        SETTINGS_HEADER,
        VERSION_HEADER,
        check_client,
        differing_settings,
        settings_digest,
    )

__all__ = [
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "OUR_ERROR",
    "PARSE_ERROR",
    "PROBLEM_TYPE",
    "RETRY_AFTER_S",
    "SETTINGS_HEADER",
    "TERMINAL",
    "TURN_EVENTS",
    "VERSION_HEADER",
    "AskParams",
    "Call",
    "CheckModel",
    "ConversationModel",
    "EventModel",
    "FilterModel",
    "FocusedFilterModel",
    "HealthModel",
    "HelloParams",
    "InstanceInfoModel",
    "InstanceModel",
    "JobModel",
    "JobRequestModel",
    "LimitsModel",
    "ListenModel",
    "MatchModel",
    "MessageModel",
    "NewConversationModel",
    "PreviewModel",
    "ProblemModel",
    "QuestionModel",
    "ReplyModel",
    "SearchHitModel",
    "StatusModel",
    "StopModel",
    "SubscribeParams",
    "TurnParams",
    "TurnsModel",
    "UnsubscribeParams",
    "UsageModel",
    "UsageRowModel",
    "check_client",
    "decoded",
    "differing_settings",
    "encoded",
    "match_dict",
    "preview_dict",
    "problem",
    "settings_digest",
    "status_named",
    "status_of",
]

_HOMES = {
    "_base": ("decoded", "encoded"),
    "_calls": (
        "AskParams",
        "Call",
        "HelloParams",
        "INTERNAL_ERROR",
        "INVALID_PARAMS",
        "INVALID_REQUEST",
        "METHOD_NOT_FOUND",
        "OUR_ERROR",
        "PARSE_ERROR",
        "SubscribeParams",
        "TurnParams",
        "UnsubscribeParams",
    ),
    "_modules": ("MatchModel", "match_dict"),
    "_previews": ("PreviewModel", "preview_dict"),
    "_problems": (
        "PROBLEM_TYPE",
        "ProblemModel",
        "RETRY_AFTER_S",
        "TERMINAL",
        "TURN_EVENTS",
        "problem",
        "status_named",
        "status_of",
    ),
    "_requests": (
        "FilterModel",
        "FocusedFilterModel",
        "InstanceModel",
        "JobRequestModel",
        "LimitsModel",
        "ListenModel",
        "NewConversationModel",
        "QuestionModel",
        "StopModel",
        "TurnsModel",
    ),
    "_values": (
        "CheckModel",
        "ConversationModel",
        "EventModel",
        "HealthModel",
        "InstanceInfoModel",
        "JobModel",
        "MessageModel",
        "ReplyModel",
        "SearchHitModel",
        "StatusModel",
        "UsageModel",
        "UsageRowModel",
    ),
    "handshake": ("SETTINGS_HEADER", "VERSION_HEADER", "check_client", "differing_settings", "settings_digest"),
}

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'claude_comms.daemon.wire' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
