"""Starts and stops a sandbox: a real HTTP server on a loopback address, in a thread of its own."""

import asyncio
import ipaddress
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from types import FrameType
from typing import Self

import uvicorn
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from piapi_mcp.sandbox.routes import SandboxApp
from piapi_mcp.sandbox.state import Settings


class _TransportProtocol(H11Protocol):
    """Exposes the transport to the routes, so that they can close the connection; ASGI has no message for that."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Store the transport in the scope of the connection's requests."""
        # asyncio sets this option only on sockets that it created itself; without it, every reply is delayed by 40 ms.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class _DateHeader:
    """Adds the header `Date` to the replies of *app*, by the clock of the sandbox instead of the machine's."""

    def __init__(self, app: ASGIApp, read_clock: Callable[[], datetime]) -> None:
        self._app = app
        self._read_clock = read_clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; complete the headers of its reply, unless a fault has set the header itself."""

        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = format_datetime(self._read_clock().astimezone(UTC), usegmt=True)
                MutableHeaders(scope=message).setdefault("date", date)
            await send(message)

        await self._app(scope, receive, send_dated)


class SandboxServer:
    """A sandbox that serves `base_url` from `start` to `stop`; as a context manager it does both."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: Settings | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Prepare a server.

        Args:
            host: A loopback address.
            port: The port to listen on; 0 means any free port.
            settings: The settings after every reset.
            clock: The source of the times that tasks and replies show.

        Raises:
            ValueError: *host* is not a loopback address.
        """
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"The sandbox serves loopback addresses only, not {host}.")
        self._address = (host, port)
        self._settings = settings or Settings()
        self._clock = clock
        self._running: tuple[uvicorn.Server, threading.Thread] | None = None
        self.base_url = ""
        """The address of the sandbox; empty before `start`."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start to serve; connections are accepted when this returns.

        Raises:
            OSError: The port is in use.
        """
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        listener = socket.create_server(self._address, family=family)
        host, port = listener.getsockname()[:2]
        self.base_url = f"http://[{host}]:{port}" if family == socket.AF_INET6 else f"http://{host}:{port}"
        folder = tempfile.TemporaryDirectory(prefix="piapi-sandbox-", ignore_cleanup_errors=True)
        sandbox = SandboxApp(Path(folder.name) / "results", self._settings, self._clock)
        app = sandbox.build(self.base_url)
        server = uvicorn.Server(
            uvicorn.Config(
                _DateHeader(app, sandbox.read_clock),
                http=_TransportProtocol,
                date_header=False,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=1,
                lifespan="on",
            )
        )

        def serve() -> None:
            with folder, listener:
                server.run(sockets=[listener])

        thread = threading.Thread(target=serve, name="sandbox", daemon=True)
        thread.start()
        self._running = (server, thread)

    def wait(self) -> None:
        """Block until the process receives SIGTERM and the server has stopped. For the main thread only."""
        if self._running:
            server, _ = self._running

            def request_exit(_signal: int, _frame: FrameType | None) -> None:
                server.should_exit = True

            previous_handler = signal.signal(signal.SIGTERM, request_exit)
            self._join()
            signal.signal(signal.SIGTERM, previous_handler)

    def stop(self) -> None:
        """Stop the server, cancel its tasks and delete its results."""
        if self._running:
            server, _ = self._running
            server.should_exit = True
            self._join()
            self._running = None

    def _join(self) -> None:
        if self._running:
            _, thread = self._running
            while thread.is_alive():
                thread.join(timeout=1)  # on Windows, a join without a timeout cannot be interrupted
