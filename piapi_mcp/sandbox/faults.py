"""Injects faults into replies: delays, replaced or endless answers, and connections that close early."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from piapi_mcp.sandbox.state import Fault

_STREAM_CHUNK_BYTES = 256 * 2**10


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
        if fault.kind in ("answer", "stream"):
            return _build_answer(fault, request.state.created_task_id)
    return None


def _build_answer(fault: Fault, created_task_id: str | None) -> Response:
    text = fault.body if created_task_id is None else fault.body.replace("{task_id}", created_task_id)
    if fault.kind == "stream":
        return StreamingResponse(_repeat(text.encode(), fault.bytes), fault.status, fault.headers)
    return Response(text, fault.status, fault.headers)


async def _repeat(body: bytes, total_bytes: int) -> AsyncGenerator[bytes]:
    """Yield *body* again and again, *total_bytes* bytes in all, in large chunks."""
    chunk = body * max(1, _STREAM_CHUNK_BYTES // len(body))
    for start in range(0, total_bytes, len(chunk)):
        yield chunk[: total_bytes - start]
        # Once the client has left, sending no longer waits. Without this pause, every other request would have to wait
        # until the rest of the stream had been produced.
        await asyncio.sleep(0)


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
