"""Runs the HTTP server and shuts it down gracefully: it accepts no new calls, and answers those that are running."""

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
"""Time in which running calls may still be answered after the process was asked to stop."""
_FLUSH_S = 0.2
"""Time for the last response to be written to its client's connection."""


class CallsInFlight:
    """MCP middleware that counts the tool calls that are not yet answered."""

    def __init__(self) -> None:
        self._count = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Handle a request, and count it while it runs if it is a tool call."""
        if ctx.method != "tools/call":
            return await call_next(ctx)
        self._count += 1
        self._is_idle.clear()
        try:
            return await call_next(ctx)
        finally:
            self._count -= 1
            if not self._count:
                self._is_idle.set()

    async def wait_until_idle(self) -> None:
        """Return as soon as no call is running."""
        await self._is_idle.wait()


def serve(app: Starlette, host: str, port: int, *, on_listening: Callable[[int], None]) -> None:
    """Serve *app* until the process is asked to stop; *on_listening* is called with the port once it is open.

    Raises:
        SettingsError: If the server cannot listen on *host* and *port*.
    """
    # By default, sse-starlette cuts off every open response as soon as the process is asked to stop.
    AppStatus.disable_automatic_graceful_drain()
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=_SHUTDOWN_S)
    with _open_socket(host, port) as listener:
        on_listening(listener.getsockname()[1])
        _GracefulServer(config, app).run(sockets=[listener])


class _GracefulServer(uvicorn.Server):
    """Lets running calls be answered before it closes the event streams, which would stay open for ever."""

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
        await self._app.state.calls.wait_until_idle()
        await asyncio.sleep(_FLUSH_S)
        AppStatus.should_exit = True


def _open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens on *host* and *port*; port 0 means any free port.

    Raises:
        SettingsError: If the server cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is stated explicitly: asyncio sets TCP_NODELAY only on sockets that are declared as TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()  # before the address is announced, so that a client can connect as soon as it knows it
    except (OSError, OverflowError) as error:
        listener.close()
        raise SettingsError(
            f"The server cannot listen on {host}:{port} ({error}). Choose another --host or --port."
        ) from None
    return listener
