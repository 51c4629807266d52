"""Maps failed requests to the errors of this project: PiAPI's refusals, and httpx's exceptions.

A submission and a read are two different things: what a submission was answered decides about money. Most of the
statuses and bodies of PiAPI's refusals are undocumented, so the rules match on words as well as on status.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import cast

import httpx

from piapi_mcp.errors import (
    InsufficientCreditError,
    OutcomeUnknownError,
    PiAPIError,
    RateLimitedError,
    RefusedError,
    ServiceWithdrawnError,
    UnauthorizedError,
    UnknownTaskError,
    UnreachableError,
)
from piapi_mcp.formatting import quote, safe_text
from piapi_mcp.piapi.catalog import MIDJOURNEY_UPSCALE
from piapi_mcp.piapi.models import Json, error_text
from piapi_mcp.piapi.response import ApiResponse

_MAX_MESSAGE_CHARS = 500

# No connection was made, so the request provably never left. Only then may a submission be sent again.
NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.InvalidURL,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


def map_transport_error(
    error: httpx.HTTPError | httpx.InvalidURL | httpx.StreamError | OSError, *, is_submission: bool
) -> PiAPIError:
    """Return our error for a request that httpx could not complete."""
    reason = _describe_transport_error(error)
    if isinstance(error, NEVER_SENT):
        return UnreachableError(
            f"PiAPI could not be reached ({reason}). Nothing was submitted or charged. "
            "Check the network and PIAPI_BASE_URL, then call again."
        )
    return outcome_unknown_error(reason) if is_submission else unreachable_error(reason)


def unreachable_error(reason: str, *, retry_after_s: float | None = None) -> UnreachableError:
    """Return the error for a read that got no usable answer."""
    return UnreachableError(
        f"PiAPI gave no usable answer ({reason}). This call bought nothing, and tasks that were already submitted "
        "keep running. Call again in a few seconds.",
        retry_after_s=retry_after_s,
    )


def outcome_unknown_error(reason: str) -> OutcomeUnknownError:
    """Return the error for a submission that got no usable answer."""
    return OutcomeUnknownError(
        f"PiAPI gave no usable answer to the submission ({reason}). It may have been accepted and charged: "
        "do not submit it again before you have checked PiAPI's task history.",
        reason=reason,
    )


def unknown_task_error(task_id: str, error: RefusedError) -> UnknownTaskError:
    """Return the error for a task that PiAPI does not show to this key."""
    return UnknownTaskError(
        f"PiAPI shows no task {quote(task_id)} to this key. Pass the task_id exactly as the submission returned it. "
        "This call bought nothing.",
        status=error.status,
    )


def map_submission_error(response: ApiResponse, *, model: str) -> PiAPIError:
    """Return our error for the response to a submission that is not a success.

    Only a certain refusal is a refusal; after anything else the task may exist. Certain is a 4xx in PiAPI's own
    envelope, without a task id, with a documented status or with words that PiAPI was seen to refuse submissions with.
    """
    message = _find_message(response)
    if not _is_certain_refusal(response, message.lower()):
        return outcome_unknown_error(f"HTTP {response.status}, PiAPI said: {quote(message)}")
    for matches, make_error in _RULES:
        if matches(response.status, message.lower()):
            return make_error(message, response, _NOT_SUBMITTED)
    if model == MIDJOURNEY_UPSCALE.model:
        return _midjourney_refused(message, response)
    return _refused(message, response, _NOT_SUBMITTED)


def map_read_error(response: ApiResponse) -> PiAPIError:
    """Return our error for the response to a read or a cancellation that is not a success.

    A read never says that nothing was charged: what it asked about may have been.
    """
    message = _find_message(response)
    if response.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        reason = f"HTTP {response.code}, PiAPI said: {quote(message)}"
        return unreachable_error(reason, retry_after_s=response.retry_after_s)
    if response.code == HTTPStatus.UNAUTHORIZED or _BAD_KEY in message.lower():
        return _unauthorized(message, response, _BOUGHT_NOTHING)
    if response.code == HTTPStatus.TOO_MANY_REQUESTS:
        return _rate_limited(message, response, _BOUGHT_NOTHING)
    if response.json is None:
        return RefusedError(
            f"The answer did not come from PiAPI (HTTP {response.code}, the server said: {quote(message)}). "
            f"{_BOUGHT_NOTHING} Check PIAPI_BASE_URL, then call again.",
            status=response.code,
        )
    return _refused(message, response, _BOUGHT_NOTHING)


_NOT_SUBMITTED = "Nothing was submitted or charged."
_BOUGHT_NOTHING = "This call bought nothing; tasks that were submitted before are not affected."

# [D 2025-02] video upscale page: 400, 401, 413; [D 2024-10] Midjourney upscale page: 400, 401
_DOCUMENTED_REFUSALS = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
_NO_CREDIT = "insufficient credits"  # [R 2026-11]
_PLAN_LIMIT = "has reached the plan limit"  # [R 2026-11] "active task count 2 has reached the plan limit"
_BAD_KEY = "failed to verify api key"  # [C 2026-11]
_TOO_LARGE = "task input too large"  # [C 2026-11]
_INVALID_MEDIA = ("failed to get valid image", "failed to get valid video")  # [C 2026-11]
_SEEN_WORDS = (_NO_CREDIT, _PLAN_LIMIT, _BAD_KEY, _TOO_LARGE, *_INVALID_MEDIA)
# These may come from a gateway that has already passed the request on.
_NEVER_CERTAIN = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY)


def _is_certain_refusal(response: ApiResponse, message: str) -> bool:
    is_client_error = HTTPStatus.BAD_REQUEST <= response.status < HTTPStatus.INTERNAL_SERVER_ERROR
    if not is_client_error or response.status in _NEVER_CERTAIN or response.task_id is not None:
        return False
    if (response.json or {}).get("code") != response.status:  # [C 2026-11] `code` in the body follows HTTP
        return False
    return response.status in _DOCUMENTED_REFUSALS or any(words in message for words in _SEEN_WORDS)


def _find_message(response: ApiResponse) -> str:
    """Return PiAPI's own words on what went wrong."""
    # [C 2026-11] `message` at the top; sometimes a task inside `data` whose `error` holds the cause
    body = response.json or {}
    data = body.get("data")
    cause = error_text(cast("Json", data).get("error")) if isinstance(data, dict) else None
    parts = [part for part in (body.get("message"), cause or error_text(body.get("error"))) if part]
    if parts:
        return safe_text(": ".join(dict.fromkeys(map(str, parts))), max_chars=_MAX_MESSAGE_CHARS)
    text = "" if response.is_html else safe_text(response.text, max_chars=_MAX_MESSAGE_CHARS).strip()
    return text or response.reason or "nothing"


def _describe_transport_error(error: Exception) -> str:
    if isinstance(error, NEVER_SENT):
        return f"no connection: {quote(error)}" if str(error) else "no connection"
    return "no answer in time" if isinstance(error, httpx.TimeoutException) else "the connection broke off"


def _refused(message: str, response: ApiResponse, money: str) -> PiAPIError:
    return RefusedError(
        f"PiAPI refused the request (HTTP {response.code}, PiAPI said: {quote(message)}). {money} Correct what PiAPI "
        "names, then call again.",
        status=response.code,
    )


def _unauthorized(message: str, response: ApiResponse, money: str) -> PiAPIError:
    return UnauthorizedError(
        f"PiAPI did not accept the key (PiAPI said: {quote(message)}). {money} Get a valid key at "
        "https://piapi.ai/workspace/key. Set it as PIAPI_API_KEY and restart the server or, over HTTP, send it in the "
        "header x-api-key.",
        status=response.code,
    )


def _insufficient_credit(message: str, response: ApiResponse, money: str) -> PiAPIError:
    return InsufficientCreditError(
        f"The PiAPI account has too little credit for this task (PiAPI said: {quote(message)}). {money} Top up at "
        "https://piapi.ai/workspace/billing, then call again.",
        status=response.code,
    )


def _rate_limited(message: str, response: ApiResponse, money: str) -> PiAPIError:
    wait = f"Wait {response.retry_after_s:.0f} s" if response.retry_after_s else "Wait until a running task has ended"
    return RateLimitedError(
        f"The PiAPI account has reached one of its limits (PiAPI said: {quote(message)}). {money} {wait}, then call "
        "again.",
        status=response.code,
        retry_after_s=response.retry_after_s,
    )


def _too_large(message: str, response: ApiResponse, money: str) -> PiAPIError:
    return RefusedError(
        f"The input is too large for PiAPI (PiAPI said: {quote(message)}). {money} Make the file smaller, or pass a "
        "URL instead of the file, then call again.",
        status=response.code,
    )


def _invalid_media(message: str, response: ApiResponse, money: str) -> PiAPIError:
    return RefusedError(
        f"PiAPI could not use the file (PiAPI said: {quote(message)}). {money} If you passed a URL, check that it "
        "opens without a login and leads to the media file itself, then call again.",
        status=response.code,
    )


def _midjourney_refused(message: str, response: ApiResponse) -> PiAPIError:
    # [D 2026-11] product page: Midjourney is announced as discontinued on PiAPI
    # [? 2026-11] what the API answers to Midjourney tasks since then
    is_withdrawn = any(word in message.lower() for word in _WITHDRAWN_WORDS)
    return (ServiceWithdrawnError if is_withdrawn else RefusedError)(
        f"PiAPI refused the Midjourney task (HTTP {response.code}, PiAPI said: {quote(message)}). Nothing was "
        "submitted or charged. PiAPI has announced the end of its Midjourney service and may have withdrawn it: if the "
        "arguments are correct, tell the user and do not try again.",
        status=response.code,
    )


_WITHDRAWN_WORDS = ("discontinu", "withdrawn", "no longer", "deprecated", "not support", "unsupported", "unavailable")

_Rule = tuple[Callable[[int, str], bool], Callable[[str, ApiResponse, str], PiAPIError]]

# Which certain refusals, by status and message in lower case, are which error. The first match counts.
_RULES: tuple[_Rule, ...] = (
    (lambda _status, message: _NO_CREDIT in message, _insufficient_credit),
    (lambda status, message: status == HTTPStatus.UNAUTHORIZED or _BAD_KEY in message, _unauthorized),
    (lambda _status, message: _PLAN_LIMIT in message, _rate_limited),
    (lambda status, message: status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or _TOO_LARGE in message, _too_large),
    (lambda _status, message: any(words in message for words in _INVALID_MEDIA), _invalid_media),
)
