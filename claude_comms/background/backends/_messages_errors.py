"""What went wrong with the Messages API, in our errors.

The server's words go into them shortened and without control characters; the key never does, even when a
server repeats it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit, urlunsplit

from claude_comms.errors import BackendError, BackendProtocolError, BackendUnavailableError, TurnFailedError
from claude_comms.text import shorten

__all__ = ["Problem", "Wording", "retry_after_s"]

_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_LOST = "Ask again; if it stays so, check the network and the base URL."


@dataclass(frozen=True, slots=True)
class Problem:
    """A failure of one try: the error for the caller, and what a retry needs to know."""

    error: BackendError
    status: int | None = None
    """The HTTP status, or the one that the type of an `error` event stands for; None for lost connections."""
    retry_after_s: float | None = None
    passing: bool = False
    """Whether another try may well succeed."""

    @property
    def reason(self) -> str:
        """A short word for the record."""
        return self.error.reason if isinstance(self.error, TurnFailedError) else "unreachable"


class Wording:
    """Makes problems for one address and one key."""

    def __init__(self, base_url: str, key: str) -> None:
        self.address = _without_password(base_url)
        self._key = key

    def clean(self, text: object) -> str:
        """Foreign words, safe to show: one line, at most 300 characters, no key."""
        words = str(text)
        return shorten(words.replace(self._key, "[API key]") if self._key else words, 300)

    def tells_key(self, error: BaseException) -> bool:
        """Whether a traceback of `error` would print the key."""
        link: BaseException | None = error
        while link is not None:
            if self._key and self._key in f"{link}{link!r}":
                return True
            link = link.__cause__ or link.__context__
        return False

    def status(
        self, status: int, kind: str | None, message: object, *, model: str, retry_after: str | None = None
    ) -> Problem:
        """An HTTP error, or an ``error`` event (`status` below 300), of type `kind`."""
        if status < 300:
            status = _STATUS_OF_TYPE.get(kind or "", 500)
        said = f"({self.clean(f'{status} {kind}: {message}' if kind else f'{status}: {message}')})"
        error = self._fatal(status, kind, said, model)
        if error is not None:
            return Problem(error, status)
        return self._failed(status, said, retry_after_s(retry_after))

    def _fatal(self, status: int, kind: str | None, said: str, model: str) -> BackendError | None:
        match status:
            case 300 | 301 | 302 | 303 | 307 | 308:
                text = (
                    f"{self.address} redirects; that is not followed, as the key would go there. Correct the base URL."
                )
            case 401:
                text = f"{self.address} refuses the API key {said}. Check ANTHROPIC_API_KEY."
            case 402:
                text = f"the account of this API key cannot pay {said}. Check its billing."
            case 403:
                text = f"{self.address} does not let this API key do that {said}. Use another key or model."
            case 404 if kind == "not_found_error":
                text = f"the Messages API does not know the model {model!r} {said}. Set another one."
            case 404:
                text = (
                    f"{self.address} has no Messages API, or not the model {model!r} {said}. Check ANTHROPIC_BASE_URL."
                )
            case _:
                return None
        return BackendUnavailableError(text, backend="api")

    def _failed(self, status: int, said: str, after_s: float | None) -> Problem:
        match status:
            case 413:
                return self._turn(f"the question is too large to be sent {said}. Send less data.", "too_large", status)
            case 429:
                text, reason = f"the Messages API limits the rate {said}. Ask again later.", "rate_limited"
            case 529:
                text, reason = f"the Messages API is overloaded {said}. Ask again later.", "overloaded"
            case 408 | 409 | _ if status in (408, 409) or status >= 500:
                text, reason = f"the Messages API failed {said}. Ask again later.", "server_error"
            case _:
                text = f"the Messages API refuses the request {said}. Correct what it names."
                return self._turn(text, "invalid_request", status)
        return self._turn(text, reason, status, passing=True, after_s=after_s)

    def _turn(
        self, text: str, reason: str, status: int | None, *, passing: bool = False, after_s: float | None = None
    ) -> Problem:
        error = TurnFailedError(text, reason=reason, backend="api", retryable=passing)
        return Problem(error, status, after_s, passing)

    def unreachable(self, why: object) -> Problem:
        """No connection."""
        text = f"{self.address} cannot be reached ({self.clean(why)}). Check the network and ANTHROPIC_BASE_URL."
        return Problem(BackendUnavailableError(text, backend="api", retryable=True), passing=True)

    def stalled(self, idle_s: float) -> Problem:
        """Nothing came for `idle_s`."""
        return self._turn(f"the Messages API sent nothing for {idle_s:g} s. {_LOST}", "stalled", None, passing=True)

    def cut(self, why: object) -> Problem:
        """The answer ended before its end."""
        return self._turn(f"the answer was cut off ({self.clean(why)}). {_LOST}", "cut", None, passing=True)

    def nonsense(self, why: object, line: object = "") -> Problem:
        """Something that the protocol does not allow."""
        text = f"the Messages API said what makes no sense ({self.clean(why)}). Check what answers at {self.address}."
        return Problem(BackendProtocolError(text, line=self.clean(line), backend="api"))

    def too_late(self, problem: Problem, left_s: float | None) -> BackendError:
        """`problem`, whose ``retry-after`` lies beyond what may be waited."""
        wait = f"{problem.retry_after_s or 0:g} s"
        bound = "the policy allows no such wait" if left_s is None else f"the deadline comes in {left_s:.0f} s"
        text = f"{problem.error.message} It asks to wait {wait}, and {bound}."
        return TurnFailedError(text, reason=problem.reason, backend="api", retryable=True)


def retry_after_s(header: str | None) -> float | None:
    """The seconds that a ``retry-after`` asks for, given as seconds or as an HTTP date; None for nonsense."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(header).astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _without_password(url: str) -> str:
    try:
        parts = urlsplit(url)
        return shorten(urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="")), 200)
    except ValueError:
        return "the base URL"
