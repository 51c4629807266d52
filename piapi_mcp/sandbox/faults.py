"""Injects faults into replies: delays, replaced answers, and connections that close early."""

import asyncio
from collections.abc import Iterable
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from piapi_mcp.sandbox.state import Fault


async def apply_faults(request: Request, faults: Iterable[Fault], when: Literal["before", "after"]) -> Response | None:
    """Apply the *faults* for this moment; return the reply to send instead of the real one, if any."""
    for fault in faults:
        if fault.when != when:
            continue
        if fault.kind == "delay":
            await asyncio.sleep(fault.delay_s)
        if fault.kind == "cut":
            await _abort_connection(request)
            return Response()
        if fault.kind == "answer":
            return Response(fault.body, fault.status, fault.headers)
    return None


async def _abort_connection(request: Request) -> None:
    """Close the connection without a reply."""
    _get_transport(request.scope).abort()
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _get_transport(scope: Scope) -> asyncio.Transport:
    """Return the request's connection, which the server's protocol class stored in the scope."""
    return scope["state"]["transport"]


class TruncatedResponse(Response):
    """A reply whose connection closes in the middle of the body."""

    def __init__(self, whole: Response) -> None:
        super().__init__(status_code=whole.status_code)
        self._whole = whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the headers and half of the first chunk of the body, then close the connection."""
        is_cut = False

        async def send_half(message: Message) -> None:
            nonlocal is_cut
            if is_cut:
                return
            if message["type"] == "http.response.body":
                is_cut = True
                body = bytes(message["body"])
                message = {**message, "body": body[: len(body) // 2], "more_body": True}
            await send(message)
            if is_cut:
                _get_transport(scope).close()

        await self._whole(scope, receive, send_half)
