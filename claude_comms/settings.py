"""Settings: from arguments, the environment, and `config.toml` in the home, in that order of precedence."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, cast, get_origin

from pydantic import Field, SecretStr, ValidationError, ValidatorFunctionWrapHandler, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from claude_comms.errors import ConfigError
from claude_comms.mcp_servers import McpServer, McpServerName
from claude_comms.types import RetryPolicy

__all__ = ["Settings"]

_PREFIX = "CLAUDE_COMMS_"
_DEFAULT_MODEL = "claude-sonnet-5-5"
_BRIDGE_SERVERS = ("claude-comms-bridge", "claude-code-mcp")


class Settings(BaseSettings):
    """All that can be set. Use `Settings.load()`: it reads every source and remembers what came from where.

    The docstrings under the fields are for readers: pydantic would parse this file for them in every process.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="__",
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    home: Path = Field(default_factory=lambda: Path.home() / ".claude-comms")
    """Where the state lives: database, registered modules, `config.toml`. Private to its owner."""

    backend: str = "auto"
    """`auto`, `offline`, `api`, `claude-code` or `bridge`; `auto` decides for each new conversation."""

    model: str = _DEFAULT_MODEL
    """The model that new conversations use."""

    database_url: str | None = None
    """SQLAlchemy URL of the store; a SQLite file in the home when unset."""

    descriptors: tuple[Path, ...] = ()
    """More directories with descriptors. In the environment separated as PATH is."""

    daemon: Literal["auto", "off"] = "auto"
    """`off` keeps everything in the calling process."""

    anthropic_api_key: SecretStr | None = Field(default=None, validation_alias="ANTHROPIC_API_KEY")
    """The key for the Messages API. Only from the environment: never written to a file of ours."""

    anthropic_base_url: str | None = Field(default=None, validation_alias="ANTHROPIC_BASE_URL")
    """Where the Messages API is, when not at its usual address."""

    claude_code_binary: Path | None = None
    """The Claude Code to run, where it is not to be the one that comes with the Agent SDK, or the one on PATH."""

    claude_code_warm: int = Field(default=8, ge=1)
    """Most Claude Code processes that stay warm without anything to do, at 100 to 200 MB each. Beyond that, the one
    idle longest ends; its next question resumes its session on a new one."""

    bridge_server: str = "claude-comms-bridge"
    """What the backend `bridge` talks to: our own bridge, or a stock `claude-code-mcp`."""

    bridge_command: tuple[str, ...] = ()
    """Program and arguments that start that server, where it is not to be the one that is found. In the environment
    a JSON array."""

    node_binary: Path | None = None
    """The Node that runs it, where it is not to be the one on PATH or that of the extra `bridge`."""

    allow_permission_bypass: tuple[str, ...] = ()
    """Servers, by name, that may run Claude Code with its permission bypass: `claude-code-mcp` cannot do without."""

    mcp_servers: dict[McpServerName, McpServer] = Field(default_factory=dict[McpServerName, McpServer])
    """MCP servers by name, which a descriptor's `mcp:NAME` then lets an instance use. A table for each in the file:
    `[mcp_servers.NAME]` with `command`, `args` and `env`, or `url` and `headers`."""

    deadline_s: float = Field(default=600.0, gt=0)
    """Seconds that a question may take in all, when the caller gives no deadline."""

    max_cost_usd: float | None = Field(default=None, gt=0)
    """Most that one question may cost, repair included, when the caller gives no limit."""

    max_hops: int = Field(default=5, ge=1, le=100)
    """Most questions in a chain, where a module that is asked asks another in turn; beyond it they are refused."""

    max_output_tokens: int = Field(default=8192, gt=0)
    """Longest answer."""

    context_budget_tokens: int = Field(default=100_000, ge=1_000)
    """Longest prompt; history and details are cut to fit."""

    max_instances: int = Field(default=64, gt=0)
    """Most instances at once in one process; the least recently used idle one makes room."""

    max_waiting: int = Field(default=256, ge=0)
    """Most questions that may wait for an instance; beyond that they are refused at once."""

    queue_wait_s: float = Field(default=60.0, gt=0)
    """Longest that a question waits for an instance or its conversation."""

    max_waiting_per_pair: int = Field(default=64, ge=0)
    """Most questions of one pair that may wait; beyond that they are refused at once."""

    max_idle_s: float = Field(default=900.0, gt=0)
    """An instance idle for longer gives up its process and keeps its session: it hibernates."""

    max_age_s: float = Field(default=86_400.0, gt=0)
    """A process older than this is replaced when its instance is idle."""

    max_warm: int | None = Field(default=None, gt=0)
    """Most instances that keep their sessions without anything to do; beyond it those idle longest hibernate. For
    Claude Code, `claude_code_warm` is the limit."""

    max_memory_mb: int | None = Field(default=None, gt=0)
    """Resident memory of all instances' processes together, in MiB; beyond it those idle longest hibernate."""

    stall_s: float = Field(default=300.0, gt=0)
    """A turn in which nothing has come for so long is stalled: it is interrupted, then its process is killed."""

    prewarm: dict[str, int] = Field(default_factory=dict[str, int])
    """How many instances of a pair the daemon keeps ready: `"marker/arangodb" = 1` in a table `[prewarm]`."""

    drain_s: float = Field(default=30.0, ge=0)
    """How long a daemon that stops lets running turns finish before it interrupts them."""

    max_jobs_running: int = Field(default=4, gt=0)
    """Most background questions that the daemon asks at once."""

    allow_remote_callbacks: bool = False
    """Whether a job may be reported to a URL that is not on this machine."""

    event_retention_days: float = Field(default=14.0, gt=0)
    """How long events are kept."""

    event_retention_mb: int = Field(default=256, gt=0)
    """How much of them is kept, in MiB; the oldest go first."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """What the daemon's log holds."""

    log_texts: bool = False
    """Whether the daemon's log may hold questions and answers."""

    retry: RetryPolicy = RetryPolicy()
    """When to ask again after a passing fault; in the environment as CLAUDE_COMMS_RETRY__ATTEMPTS and so on."""

    _origins: dict[str, str] = {}

    @field_validator("descriptors", mode="before")
    @classmethod
    def _split_path(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part for part in value.split(os.pathsep) if part)
        return value

    @field_validator("bridge_server")
    @classmethod
    def _known_server(cls, value: str) -> str:
        if value not in _BRIDGE_SERVERS:
            raise ValueError(f"{value!r} is unknown. Set {' or '.join(_BRIDGE_SERVERS)}")
        return value

    @field_validator("home", "descriptors")
    @classmethod
    def _absolute(cls, value: Any) -> Any:
        if isinstance(value, Path):
            return value.expanduser().absolute()
        return tuple(path.expanduser().absolute() for path in value)

    @field_validator("retry", mode="wrap")
    @classmethod
    def _our_error_as_pydantics(cls, value: object, make: ValidatorFunctionWrapHandler) -> Any:
        try:
            return make(value)
        except ConfigError as error:
            raise ValueError(str(error)) from error

    @field_validator("database_url")
    @classmethod
    def _sqlite_only(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("sqlite:///"):
            raise ValueError("only SQLite is supported: sqlite:////absolute/path.db")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only arguments: `load` reads the other sources itself, to know what came from where."""
        return (init_settings,)

    @classmethod
    def load(cls, overrides: Mapping[str, Any] | Settings | None = None) -> Settings:
        """Read every source. `overrides` win over the environment, which wins over `config.toml`.

        ConfigError names the variable, or the file and key, that is wrong.
        """
        if isinstance(overrides, Settings):
            return overrides
        if overrides is not None and not isinstance(overrides, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"settings are of type {type(overrides).__name__}. Pass Settings, or a mapping of them.")
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        given = dict(overrides or {})
        from_environment = _environment(cls)
        home = given.get("home", from_environment.get("home"))
        config = Path(home).expanduser().absolute() if home else Path.home() / ".claude-comms"
        for name, value in _toml(config / "config.toml").items():
            values[name] = value
            origins |= dict.fromkeys(_keys(name, value), str(config / "config.toml"))
        for name, value in from_environment.items():
            values[name] = _merged(values.get(name), value)
            origins |= {key: _variable(key) for key in _keys(name, value)}
        for name, value in given.items():
            if value is not None:
                values[name] = value
                origins |= dict.fromkeys(_keys(name, value), "argument")
        return cls._checked(values, origins)

    @classmethod
    def _checked(cls, values: Mapping[str, Any], origins: dict[str, str]) -> Self:
        try:
            settings = cls(**values)
        except ValidationError as error:
            raise ConfigError(_explain(error, origins)) from error
        return settings._from(origins)

    def origin(self, name: str) -> str:
        """Where the setting `name` came from: ``argument``, a variable, a file, or ``default``."""
        return self._origins.get(name, "default")

    def with_overrides(self, **overrides: Any) -> Self:
        """A copy with some values replaced; None leaves a value as it is. ConfigError where one is wrong."""
        given = {name: value for name, value in overrides.items() if value is not None}
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return self._checked({**values, **given}, {**self._origins, **dict.fromkeys(given, "argument")})

    def _from(self, origins: dict[str, str]) -> Self:
        self._origins = origins
        return self

    @property
    def database_path(self) -> Path:
        """The SQLite file of the store."""
        if self.database_url is None:
            return self.home / "claude-comms.db"
        return Path(self.database_url.removeprefix("sqlite:///").partition("?")[0]).expanduser().absolute()


def _environment(settings: type[BaseSettings]) -> dict[str, Any]:
    source = EnvSettingsSource(settings)
    source.env_vars = {
        name: value for name, value in source.env_vars.items() if name.lower() != f"{_PREFIX}descriptors".lower()
    }
    try:
        found = source()
    except SettingsError as error:
        # Only tables are parsed there; pydantic-settings tells the field in its text alone.
        names = [name for name in settings.model_fields if f'"{name}"' in str(error)]
        where = ", ".join(_variable(name) for name in names) or "environment"
        array = names and get_origin(settings.model_fields[names[0]].annotation) is tuple
        hint = "Set a JSON array." if array else f"Set its fields one by one: {where}__NAME."
        raise ConfigError(f"{where}: not JSON. {hint}") from error
    found = {_field_name(settings, name): value for name, value in found.items()}
    directories = os.environ.get(f"{_PREFIX}DESCRIPTORS")
    if directories:
        found["descriptors"] = directories
    return found


def _field_name(settings: type[BaseSettings], key: str) -> str:
    """The field that an alias such as ``ANTHROPIC_API_KEY`` stands for."""
    for name, field in settings.model_fields.items():
        if key in (name, field.validation_alias):
            return name
    return key


def _toml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes().decode("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}. Correct it or move it away.") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}. Correct it or move it away.") from error
    for name in ("home", "anthropic_api_key"):
        if name in values:
            raise ConfigError(f"{path}: {name} cannot be set in this file. Set it in the environment.")
    return values


def _merged(low: Any, high: Any) -> Any:
    """`high`, and from `low` what `high` does not say, where both are tables."""
    if isinstance(low, Mapping) and isinstance(high, Mapping):
        return {**cast("Mapping[str, Any]", low), **cast("Mapping[str, Any]", high)}
    return high


def _keys(name: str, value: object) -> list[str]:
    """A setting and, where it is a table, each of its keys: ``retry``, ``retry.attempts``."""
    if not isinstance(value, Mapping):
        return [name]
    return [name, *(f"{name}.{key}" for key in cast("Mapping[str, object]", value))]


def _variable(key: str) -> str:
    name = key.upper().replace(".", "__")
    return name if key.startswith("anthropic_") else f"{_PREFIX}{name}"


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    lines: list[str] = []
    for problem in error.errors(include_url=False, include_input=False):
        key = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            known = ", ".join(field for field in Settings.model_fields if not field.startswith("anthropic_"))
            message = f"no such setting. Known settings: {known}"
        if message.startswith(f"{key}."):  # it names the key inside the table itself
            key, _, message = message.partition(": ")
        lines.append(f"{_origin(key, origins)}: {key}: {message}")
    return "\n".join(lines)


def _origin(key: str, origins: Mapping[str, str]) -> str:
    """Where `key`, or the table around it, was set."""
    while key and key not in origins:
        key = key.rpartition(".")[0]
    return origins.get(key, "settings")
