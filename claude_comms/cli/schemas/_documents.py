"""The documents that the command line prints beside the records that all of claude-comms shares."""

# No postponed annotations here: pydantic reads them.
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, RootModel

from claude_comms.daemon.wire import (
    CheckModel,
    ConversationModel,
    EventModel,
    InstanceInfoModel,
    JobModel,
    ReplyModel,
    SearchHitModel,
    UsageRowModel,
)
from claude_comms.jobs import JobState

__all__ = ["DOCUMENTS", "ErrorDocument"]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ErrorFacts(_Document):
    """What failed: the error's name, its text, and its facts by name."""

    model_config = ConfigDict(extra="allow")

    type: str
    message: str


class ErrorDocument(_Document):
    """What any command prints with --json when it fails."""

    error: ErrorFacts


class JobStarted(_Document):
    """A question that is asked in the background."""

    job_id: str
    state: JobState


class _Tokens(_Document):
    tokens: int
    estimated: bool


class _Block(_Document):
    name: str
    text: str


class _Said(_Document):
    role: Literal["question", "answer"]
    text: str


class _Omission(_Document):
    what: str
    count: int
    why: str


class PreviewDocument(_Document):
    """What would be sent; nothing was asked."""

    source: str
    target: str
    backend: str
    reason: str
    model: str
    thread_id: str | None
    template: str
    version: str
    tokens: _Tokens
    system: list[_Block]
    history: list[_Said]
    message: str
    omitted: list[_Omission]


class ModuleEntry(_Document):
    """What the registry knows of a module."""

    name: str
    version: str
    summary: str
    origin: str
    file: str | None
    path: str | None
    hides: list[str]
    granted: list[str]


class ModuleDocument(ModuleEntry):
    """The same, with the descriptor's own fields, as in its file."""

    model_config = ConfigDict(extra="allow")


class ModuleMatch(ModuleEntry):
    """A module that fits a question, how well, and its capabilities that do."""

    score: float
    capabilities: list[str]


class DescriptorFormat(_Document):
    """The JSON Schema of descriptor files."""

    model_config = ConfigDict(extra="allow")

    type: Literal["object"]
    properties: dict[str, Any]


class AgentCard(_Document):
    """A module as an agent card of A2A 1.0: what the protocol requires, and whatever else the card says."""

    model_config = ConfigDict(extra="allow")

    name: str
    description: str
    version: str
    supportedInterfaces: list[dict[str, Any]]  # noqa: N815 - the protocol's names
    capabilities: dict[str, Any]
    defaultInputModes: list[str]  # noqa: N815
    defaultOutputModes: list[str]  # noqa: N815
    skills: list[dict[str, Any]]


class JobDocument(JobModel):
    """A background question as it stands, with the whole reply of one that is done."""

    reply: ReplyModel | None  # pyright: ignore[reportIncompatibleVariableOverride,reportGeneralTypeIssues]


class Unregistered(_Document):
    """A module that is no longer registered; `left` is its descriptor's file, where that was edited."""

    name: str
    unregistered: Literal[True]
    left: str | None


class Heading(_Document):
    """A conversation without its messages."""

    thread_id: str
    source: str
    target: str
    backend: str | None
    model: str | None
    state: Literal["active", "archived"]
    title: str
    created_at: str
    updated_at: str
    message_count: int


class Exported(_Document):
    """Where a conversation was written."""

    thread_id: str
    format: str
    path: str


class DaemonStatus(_Document):
    """What there is to know of the daemon; of one that runs, what it tells of itself as well."""

    model_config = ConfigDict(extra="allow")

    running: bool
    pid: int | None
    version: str | None
    socket: str | None
    listen: str | None
    token_file: str | None


class DaemonStopped(_Document):
    """The daemon does not run now; `stopped` says whether it did before."""

    running: Literal[False]
    stopped: bool


class UnitFile(_Document):
    """A unit of systemd's or an agent of launchd's."""

    kind: Literal["systemd", "launchd"]
    path: str
    text: str
    installed: bool


class UnitRemoved(_Document):
    """A unit that is gone; `removed` says whether there was one."""

    kind: Literal["systemd", "launchd"]
    path: str
    removed: bool


class PluginInstalled(_Document):
    """The MCP server in a client's configuration, or, with --remove, out of it; `server` is its definition there."""

    client: Literal["claude-code"]
    scope: Literal["user", "project", "local"]
    path: str
    installed: bool
    changed: bool
    server: dict[str, Any] | None


class BridgeInstalled(_Document):
    """The Node bridge in the home, or, with --remove, out of it."""

    client: Literal["bridge"]
    path: str
    version: str
    installed: bool
    changed: bool
    node: str | None
    """The Node that npm ran on, where it ran."""


class LogLine(_Document):
    """A line of the daemon's log."""

    model_config = ConfigDict(extra="allow")

    time: str
    level: str
    message: str


class Setting(_Document):
    """A setting, and where it came from."""

    name: str
    value: Any
    origin: str


class Demo(_Document):
    """What happened in the demo."""

    backend: Literal["offline"]
    model_asked: Literal[False]
    kept: Literal[False]
    thread_id: str
    replies: list[ReplyModel]
    search: list[SearchHitModel]
    conversation: ConversationModel


DOCUMENTS: dict[str, Any] = {
    "query-module": RootModel[ReplyModel | JobStarted | PreviewDocument],
    "continue-conversation": RootModel[ReplyModel | PreviewDocument],
    "query-instance": ReplyModel,
    "register-module": ModuleDocument,
    "list-modules": RootModel[list[ModuleEntry]],
    "show-module": RootModel[ModuleDocument | AgentCard | DescriptorFormat],
    "find-module": RootModel[list[ModuleMatch]],
    "unregister-module": Unregistered,
    "list-conversations": RootModel[list[Heading]],
    "show-conversation": ConversationModel,
    "search-conversations": RootModel[list[SearchHitModel]],
    "export-conversation": RootModel[Exported | ConversationModel],
    "archive-conversation": Heading,
    "start-instance": InstanceInfoModel,
    "list-instances": RootModel[list[InstanceInfoModel]],
    "monitor-instance": EventModel,
    "pause-instance": InstanceInfoModel,
    "resume-instance": InstanceInfoModel,
    "interrupt-instance": InstanceInfoModel,
    "stop-instance": InstanceInfoModel,
    "listen-module": EventModel,
    "list-jobs": RootModel[list[JobDocument]],
    "show-job": JobDocument,
    "wait-job": JobDocument,
    "cancel-job": JobDocument,
    "daemon start": DaemonStatus,
    "daemon stop": DaemonStopped,
    "daemon restart": DaemonStatus,
    "daemon status": DaemonStatus,
    "daemon logs": RootModel[list[LogLine] | LogLine],
    "daemon run": DaemonStopped,
    "daemon install": UnitFile,
    "daemon uninstall": UnitRemoved,
    "install": RootModel[PluginInstalled | BridgeInstalled],
    "usage": RootModel[list[UsageRowModel]],
    "doctor": RootModel[list[CheckModel]],
    "config show": RootModel[list[Setting]],
    "demo": Demo,
    "error": ErrorDocument,
}
"""What each command prints."""
