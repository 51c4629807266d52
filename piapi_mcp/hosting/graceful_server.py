"""The socket that the HTTP server listens on, and an end without loss: no new work, running calls answered."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from sse_starlette.sse import AppStatus
from starlette.applications import Starlette
from typing_extensions import override

from piapi_mcp.errors import SettingsError

_SHUTDOWN_S = 8
"""How long running calls may still be answered when the server is told to end, in seconds."""
_FLUSH_S = 0.2
"""How long an answer may take to its client's connection, in seconds."""


class CallsInFlight:
    """Middleware that knows whether a call is still to be answered."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Answer a request, and count it meanwhile."""
        if ctx.method != "tools/call":
            return await call_next(ctx)
        self._count += 1
        self._none.clear()
        try:
            return await call_next(ctx)
        finally:
            self._count -= 1
            if not self._count:
                self._none.set()

    async def answered(self) -> None:
        """Return as soon as no call is left."""
        await self._none.wait()


def serve(app: Starlette, host: str, port: int, *, on_listening: Callable[[int], None]) -> None:
    """Serve *app* until the process is told to end; *on_listening* hears the port.

    Raises:
        SettingsError: If *host* and *port* cannot be listened on.
    """
    # By itself it would cut off every answer that is under way as soon as the process is told to end.
    AppStatus.disable_automatic_graceful_drain()
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=_SHUTDOWN_S)
    with _bind(host, port) as listening:
        on_listening(listening.getsockname()[1])
        _Server(config, app).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Lets running calls be answered before it ends the streams that stay open for ever."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        draining = asyncio.create_task(self._drain())
        await super().shutdown(sockets)
        draining.cancel()

    async def _drain(self) -> None:
        self._app.state.pool.end_waits()
        await self._app.state.calls.answered()
        await asyncio.sleep(_FLUSH_S)
        AppStatus.should_exit = True


def _bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on *host* and *port*, 0 for any that is free.

    Raises:
        SettingsError: If that cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, for asyncio sends at once only on sockets that say they are TCP.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # who connects as soon as the address is told is not turned away
    except (OSError, OverflowError) as error:
        listening.close()
        raise SettingsError(
            f"{host}:{port} cannot be listened on ({error}). Choose another --host or --port."
        ) from None
    return listening
