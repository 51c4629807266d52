"""Does what a planned misbehaviour says: waits, answers something else, or closes the connection."""

import asyncio
from collections.abc import Iterable
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from piapi_mcp.sandbox.state import Fault


async def misbehave(request: Request, faults: Iterable[Fault], when: Literal["before", "after"]) -> Response | None:
    """Do what is planned for this moment; return the answer where that is one."""
    for fault in faults:
        if fault.when != when:
            continue
        if fault.kind == "delay":
            await asyncio.sleep(fault.delay_s)
        if fault.kind == "cut":
            await _cut(request)
            return Response()
        if fault.kind == "answer":
            return Response(fault.body, fault.status, fault.headers)
    return None


async def _cut(request: Request) -> None:
    """Close the connection without a word."""
    _transport(request.scope).abort()
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _transport(scope: Scope) -> asyncio.Transport:
    """Return the connection of a request, where the server's protocol has put it."""
    return scope["state"]["transport"]


class BrokenOffResponse(Response):
    """A reply of which only a part arrives."""

    def __init__(self, whole: Response) -> None:
        super().__init__(status_code=whole.status_code)
        self._whole = whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head and half of the first piece of the body, then close."""
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
                _transport(scope).close()

        await self._whole(scope, receive, send_half)
