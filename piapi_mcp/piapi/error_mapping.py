"""What went wrong with a request, put into one of our errors: PiAPI's refusals, and httpx's failures.

PiAPI's statuses and bodies for refusals are mostly undocumented, so words count as much as the status.
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
from piapi_mcp.piapi.response import Reply

# The request provably never left: no connection came about. Only then may a submission be tried again.
NEVER_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.InvalidURL,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


def transport_error(error: httpx.HTTPError | httpx.InvalidURL | httpx.StreamError, *, buying: bool) -> PiAPIError:
    """Return our error for a request that httpx could not finish; *buying* tells a submission from a read."""
    if isinstance(error, NEVER_SENT):
        return UnreachableError(
            f"PiAPI could not be reached ({_reason(error)}). Nothing was submitted or charged. "
            "Check the network and PIAPI_BASE_URL, then call again."
        )
    if buying:
        return outcome_unknown(_reason(error))
    return unreachable(_reason(error))


def unreachable(reason: str) -> UnreachableError:
    """Return the error for a read that got no usable answer."""
    return UnreachableError(
        f"PiAPI gave no usable answer ({reason}). This call bought nothing, and tasks that were submitted go on. "
        "Call again in some seconds."
    )


def outcome_unknown(reason: str) -> OutcomeUnknownError:
    """Return the error for a submission that got no usable answer."""
    return OutcomeUnknownError(
        f"PiAPI gave no usable answer to the submission ({reason}). It may have been accepted and charged: "
        "do not submit it again before you have looked at PiAPI's task history.",
        reason=reason,
    )


def unknown_task(task_id: str, error: RefusedError) -> UnknownTaskError:
    """Return the error for a task that PiAPI does not show."""
    return UnknownTaskError(
        f"PiAPI knows no task {quote(task_id)} under this key. Use the task_id exactly as the submission answered it. "
        "This call bought nothing.",
        status=error.status,
    )


def refusal(reply: Reply, *, buying: bool, model: str | None = None) -> PiAPIError:
    """Return our error for a reply that is not a success.

    Args:
        reply: The reply.
        buying: Whether it answers a submission: then a server's failure leaves open what became of it.
        model: PiAPI's name of the submitted product, if any.
    """
    said = _said(reply)
    for matches, make in _RULES:
        if matches(reply.code, said.lower()):
            return make(said, reply)
    if reply.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        reason = f"HTTP {reply.code}, PiAPI said: {quote(said)}"
        return outcome_unknown(reason) if buying else unreachable(reason)
    if model == MIDJOURNEY_UPSCALE.model:
        return _midjourney_refused(said, reply)
    if reply.json is None:
        return RefusedError(
            f"The answer is not PiAPI's (HTTP {reply.code}, it said: {quote(said)}). Nothing was submitted or charged. "
            "Check PIAPI_BASE_URL, then call again.",
            status=reply.code,
        )
    return RefusedError(
        f"PiAPI refused (HTTP {reply.code}, PiAPI said: {quote(said)}). Nothing was submitted or charged. "
        "Change what it names, then call again.",
        status=reply.code,
    )


def _said(reply: Reply) -> str:
    # [C] `message` at the top, sometimes a task inside `data` whose `error` holds the cause
    body = reply.json or {}
    data = body.get("data")
    cause = error_text(cast("Json", data).get("error")) if isinstance(data, dict) else None
    parts = [part for part in (body.get("message"), cause or error_text(body.get("error"))) if part]
    if parts:
        return ": ".join(dict.fromkeys(map(str, parts)))
    return (not reply.is_html and reply.text.strip()) or reply.reason or "nothing"


def _reason(error: Exception) -> str:
    if isinstance(error, NEVER_SENT):
        return f"no connection: {quote(error)}" if str(error) else "no connection"
    return "no answer in time" if isinstance(error, httpx.TimeoutException) else "the connection broke off"


def _unauthorized(said: str, reply: Reply) -> PiAPIError:
    return UnauthorizedError(
        f"PiAPI did not accept the key (PiAPI said: {quote(said)}). Nothing was submitted or charged. "
        "Use a valid key from https://piapi.ai/workspace/key: set PIAPI_API_KEY and restart the server, or over HTTP "
        "send it as x-api-key.",
        status=reply.code,
    )


def _no_credit(said: str, reply: Reply) -> PiAPIError:
    return InsufficientCreditError(
        f"The PiAPI account has too little credit for this task (PiAPI said: {quote(said)}). Nothing was submitted or "
        "charged. Top up at https://piapi.ai/workspace/billing, then call again.",
        status=reply.code,
    )


def _rate_limited(said: str, reply: Reply) -> PiAPIError:
    wait = f"Wait {reply.retry_after_s:.0f} s" if reply.retry_after_s else "Wait until a running task has ended"
    return RateLimitedError(
        f"PiAPI is at the limit of this account (PiAPI said: {quote(said)}). Nothing was submitted or charged. "
        f"{wait}, then call again.",
        status=reply.code,
        retry_after_s=reply.retry_after_s,
    )


def _too_large(said: str, reply: Reply) -> PiAPIError:
    return RefusedError(
        f"PiAPI found the input too large (PiAPI said: {quote(said)}). Nothing was submitted or charged. "
        "Make the file smaller, or pass a URL instead of the file, then call again.",
        status=reply.code,
    )


def _bad_media(said: str, reply: Reply) -> PiAPIError:
    return RefusedError(
        f"PiAPI could not use the file (PiAPI said: {quote(said)}). Nothing was submitted or charged. If it was passed "
        "as a URL, check that the URL opens without a login and is the media file itself, then call again.",
        status=reply.code,
    )


def _midjourney_refused(said: str, reply: Reply) -> PiAPIError:
    # [D] product page, 2026: Midjourney is announced as discontinued on PiAPI; what the API then answers is unknown [?]
    is_withdrawn = reply.code in _WITHDRAWN_CODES or any(word in said.lower() for word in _WITHDRAWN_WORDS)
    return (ServiceWithdrawnError if is_withdrawn else RefusedError)(
        f"PiAPI refused the Midjourney task (HTTP {reply.code}, PiAPI said: {quote(said)}). Nothing was submitted or "
        "charged. PiAPI has announced the end of its Midjourney service and may have withdrawn it: if the arguments "
        "are right, tell the user and do not try again.",
        status=reply.code,
    )


_WITHDRAWN_CODES = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE)
_WITHDRAWN_WORDS = ("discontinu", "withdrawn", "no longer", "deprecated", "not support", "unsupported", "unavailable")

_Rule = tuple[Callable[[int, str], bool], Callable[[str, Reply], PiAPIError]]

_RULES: tuple[_Rule, ...] = (
    # [R] "insufficient credits"
    (lambda status, said: status == HTTPStatus.PAYMENT_REQUIRED or "insufficient" in said, _no_credit),
    # [C] "failed to verify api key" with 401
    (lambda status, said: status == HTTPStatus.UNAUTHORIZED or "api key" in said, _unauthorized),
    # [R] "active task count 2 has reached the plan limit"; [C] error 10001 too many requests
    (
        lambda status, said: (
            status == HTTPStatus.TOO_MANY_REQUESTS or "plan limit" in said or "too many requests" in said
        ),
        _rate_limited,
    ),
    # [C] "task input too large", likely the documented 413
    (lambda status, said: status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or "too large" in said, _too_large),
    # [C] "failed to get valid image", "failed to get valid video"
    (lambda _status, said: "failed to get valid" in said, _bad_media),
)
