"""Limits on the size of requests and on the rate at which each caller may send them."""

import math
import time
from collections import OrderedDict

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

# [D 2025-02] video upscale page: a video may have 10 MB
MAX_BODY_BYTES = 15 << 20
"""Room for the largest video that PiAPI accepts, as base64, and for the JSON around it."""

_UNLIMITED_PATHS = ("/healthz", "/readyz")

_BURST_S = 3.0
"""A caller may send the requests of this many seconds at once."""
_MAX_CALLERS = 10_000


class RequestLimits:
    """ASGI middleware that limits the size of requests, and the rate of each caller with a token bucket.

    A caller is identified by the key or token that it sends, or else by its address. Health checks are not counted.
    """

    def __init__(self, app: ASGIApp, *, per_second: float) -> None:
        self._app = app
        self._per_second = per_second
        self._burst = max(1.0, per_second * _BURST_S)
        # For each caller, the requests left and when they were counted; the caller not seen for longest comes first.
        self._buckets = OrderedDict[str, tuple[float, float]]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 413 or 429."""
        refusal = self._refuse(Request(scope)) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refuse(self, request: Request) -> JSONResponse | None:
        """Return the response to a request that is over a limit; None for one that is not."""
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > MAX_BODY_BYTES:  # the SDK counts bodies without a content-length
            text = (
                f"The request is larger than {MAX_BODY_BYTES >> 20} MB. Nothing was submitted. Pass large files as "
                "URLs."
            )
            return JSONResponse({"error": text}, 413)
        is_counted = self._per_second and request.url.path not in _UNLIMITED_PATHS
        if is_counted and (wait_s := self._take_request(_caller_of(request))):
            retry_after_s = math.ceil(wait_s)
            text = (
                f"This caller sent more than {self._per_second:g} requests a second. Nothing was submitted. Wait "
                f"{retry_after_s} s, then call again."
            )
            return JSONResponse({"error": text}, 429, {"retry-after": str(retry_after_s)})
        return None

    def _take_request(self, caller: str) -> float:
        """Count a request of *caller* and return 0.0, or the seconds after which *caller* may send one."""
        now_s = time.monotonic()
        left, counted_at_s = self._buckets.pop(caller, (self._burst, now_s))
        left = min(self._burst, left + (now_s - counted_at_s) * self._per_second)
        is_allowed = left >= 1
        self._buckets[caller] = (left - 1 if is_allowed else left, now_s)
        if len(self._buckets) > _MAX_CALLERS:
            self._buckets.popitem(last=False)
        return 0.0 if is_allowed else (1 - left) / self._per_second


def _caller_of(request: Request) -> str:
    credentials = [value for name in ("authorization", "x-api-key") if (value := request.headers.get(name))]
    return " ".join(credentials) or (request.client.host if request.client else "")
