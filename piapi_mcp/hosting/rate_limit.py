"""How much one caller may ask of a server that many share."""

import math
import time
from collections import OrderedDict

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

MAX_BODY_BYTES = 15 << 20
"""A video of PiAPI's longest size, 10 MB, as base64, and room for what stands around it."""

WATCHED_PATHS = ("/healthz", "/readyz")

_BURST_S = 3.0
"""How many seconds' worth of requests may come at once."""
_MAX_CALLERS = 10_000


class Bounds:
    """ASGI middleware that bounds the size of requests, and how often each caller may ask.

    Callers are told apart by the key or token they bring, or else by their address; whoever asks how the server does
    (`/healthz`, `/readyz`) is not counted.
    """

    def __init__(self, app: ASGIApp, *, per_second: float) -> None:
        self._app = app
        self._per_second = per_second
        self._burst = max(1.0, per_second * _BURST_S)
        # Of each caller the requests left, and when that was counted; the one not heard of for longest comes first.
        self._callers = OrderedDict[str, tuple[float, float]]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 413 or 429."""
        refusal = self._refuse(Request(scope)) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refuse(self, request: Request) -> JSONResponse | None:
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > MAX_BODY_BYTES:  # the SDK counts those that do not tell theirs
            text = f"The request is larger than {MAX_BODY_BYTES >> 20} MB. Nothing was done. Give large files as URLs."
            return JSONResponse({"error": text}, 413)
        is_counted = self._per_second and request.url.path not in WATCHED_PATHS
        if is_counted and (wait_s := self._count(_caller(request))):
            text = f"More than {self._per_second:g} requests a second came with this key. Nothing was done; slow down."
            return JSONResponse({"error": text}, 429, {"retry-after": str(math.ceil(wait_s))})
        return None

    def _count(self, caller: str) -> float:
        """Count a request of *caller* and return 0.0, or the seconds after which it may come again."""
        now_s = time.monotonic()
        left, counted_at_s = self._callers.pop(caller, (self._burst, now_s))
        left = min(self._burst, left + (now_s - counted_at_s) * self._per_second)
        is_allowed = left >= 1
        self._callers[caller] = (left - 1 if is_allowed else left, now_s)
        if len(self._callers) > _MAX_CALLERS:
            self._callers.popitem(last=False)
        return 0.0 if is_allowed else (1 - left) / self._per_second


def _caller(request: Request) -> str:
    brought = [value for name in ("authorization", "x-api-key") if (value := request.headers.get(name))]
    return " ".join(brought) or (request.client.host if request.client else "")
