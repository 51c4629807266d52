"""Maps failed requests to the errors of this project: PiAPI's refusals, and httpx's exceptions.

Most of the statuses and bodies of PiAPI's refusals are undocumented, so the rules match on words as well as on status.
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
from piapi_mcp.formatting import quote
from piapi_mcp.piapi.catalog import MIDJOURNEY_UPSCALE
from piapi_mcp.piapi.models import Json, error_text
from piapi_mcp.piapi.response import ApiResponse

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
    error: httpx.HTTPError | httpx.InvalidURL | httpx.StreamError, *, is_submission: bool
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


def map_refusal(response: ApiResponse, *, is_submission: bool, model: str | None = None) -> PiAPIError:
    """Return our error for a response that is not a success.

    Args:
        response: The response.
        is_submission: Whether it answers a submission. A server error then leaves open whether the task was bought.
        model: PiAPI's name of the submitted product; None for a read.
    """
    message = _find_message(response)
    for matches, make_error in _RULES:
        if matches(response.code, message.lower()):
            return make_error(message, response)
    if response.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        reason = f"HTTP {response.code}, PiAPI said: {quote(message)}"
        if is_submission:
            return outcome_unknown_error(reason)
        return unreachable_error(reason, retry_after_s=response.retry_after_s)
    if model == MIDJOURNEY_UPSCALE.model:
        return _midjourney_refused(message, response)
    if response.json is None:
        return RefusedError(
            f"The answer did not come from PiAPI (HTTP {response.code}, the server said: {quote(message)}). Nothing "
            "was submitted or charged. Check PIAPI_BASE_URL, then call again.",
            status=response.code,
        )
    return RefusedError(
        f"PiAPI refused the request (HTTP {response.code}, PiAPI said: {quote(message)}). Nothing was submitted or "
        "charged. Correct what PiAPI names, then call again.",
        status=response.code,
    )


def _find_message(response: ApiResponse) -> str:
    """Return PiAPI's own words on what went wrong."""
    # [C 2026-11] `message` at the top; sometimes a task inside `data` whose `error` holds the cause
    body = response.json or {}
    data = body.get("data")
    cause = error_text(cast("Json", data).get("error")) if isinstance(data, dict) else None
    parts = [part for part in (body.get("message"), cause or error_text(body.get("error"))) if part]
    if parts:
        return ": ".join(dict.fromkeys(map(str, parts)))
    return (not response.is_html and response.text.strip()) or response.reason or "nothing"


def _describe_transport_error(error: Exception) -> str:
    if isinstance(error, NEVER_SENT):
        return f"no connection: {quote(error)}" if str(error) else "no connection"
    return "no answer in time" if isinstance(error, httpx.TimeoutException) else "the connection broke off"


def _unauthorized(message: str, response: ApiResponse) -> PiAPIError:
    return UnauthorizedError(
        f"PiAPI did not accept the key (PiAPI said: {quote(message)}). Nothing was submitted or charged. "
        "Get a valid key at https://piapi.ai/workspace/key. Set it as PIAPI_API_KEY and restart the server or, over "
        "HTTP, send it in the header x-api-key.",
        status=response.code,
    )


def _insufficient_credit(message: str, response: ApiResponse) -> PiAPIError:
    return InsufficientCreditError(
        f"The PiAPI account has too little credit for this task (PiAPI said: {quote(message)}). Nothing was submitted "
        "or charged. Top up at https://piapi.ai/workspace/billing, then call again.",
        status=response.code,
    )


def _rate_limited(message: str, response: ApiResponse) -> PiAPIError:
    wait = f"Wait {response.retry_after_s:.0f} s" if response.retry_after_s else "Wait until a running task has ended"
    return RateLimitedError(
        f"The PiAPI account has reached one of its limits (PiAPI said: {quote(message)}). Nothing was submitted or "
        f"charged. {wait}, then call again.",
        status=response.code,
        retry_after_s=response.retry_after_s,
    )


def _too_large(message: str, response: ApiResponse) -> PiAPIError:
    return RefusedError(
        f"The input is too large for PiAPI (PiAPI said: {quote(message)}). Nothing was submitted or charged. "
        "Make the file smaller, or pass a URL instead of the file, then call again.",
        status=response.code,
    )


def _invalid_media(message: str, response: ApiResponse) -> PiAPIError:
    return RefusedError(
        f"PiAPI could not use the file (PiAPI said: {quote(message)}). Nothing was submitted or charged. If you passed "
        "a URL, check that it opens without a login and leads to the media file itself, then call again.",
        status=response.code,
    )


def _midjourney_refused(message: str, response: ApiResponse) -> PiAPIError:
    # [D 2026-11] product page: Midjourney is announced as discontinued on PiAPI
    # [? 2026-11] what the API answers to Midjourney tasks since then
    is_withdrawn = response.code in _WITHDRAWN_CODES or any(word in message.lower() for word in _WITHDRAWN_WORDS)
    return (ServiceWithdrawnError if is_withdrawn else RefusedError)(
        f"PiAPI refused the Midjourney task (HTTP {response.code}, PiAPI said: {quote(message)}). Nothing was "
        "submitted or charged. PiAPI has announced the end of its Midjourney service and may have withdrawn it: if the "
        "arguments are correct, tell the user and do not try again.",
        status=response.code,
    )


_WITHDRAWN_CODES = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_WITHDRAWN_WORDS = ("discontinu", "withdrawn", "no longer", "deprecated", "not support", "unsupported", "unavailable")

_Rule = tuple[Callable[[int, str], bool], Callable[[str, ApiResponse], PiAPIError]]

# Each rule: which status and message (in lower case) it matches, and which error it makes. The first match counts.
_RULES: tuple[_Rule, ...] = (
    # [R 2026-11] "insufficient credits"
    (
        lambda status, message: status == HTTPStatus.PAYMENT_REQUIRED or "insufficient" in message,
        _insufficient_credit,
    ),
    # [C 2026-11] "failed to verify api key" with 401
    (lambda status, message: status == HTTPStatus.UNAUTHORIZED or "api key" in message, _unauthorized),
    # [R 2026-11] "active task count 2 has reached the plan limit"; [C 2026-11] error 10001 too many requests
    (
        lambda status, message: (
            status == HTTPStatus.TOO_MANY_REQUESTS or "plan limit" in message or "too many requests" in message
        ),
        _rate_limited,
    ),
    # [C 2026-11] "task input too large"; [I 2026-11] with the 413 that is documented [D 2025-02] on the video page
    (lambda status, message: status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or "too large" in message, _too_large),
    # [C 2026-11] "failed to get valid image", "failed to get valid video"
    (lambda _status, message: "failed to get valid" in message, _invalid_media),
)
