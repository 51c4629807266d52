"""Runs a sandbox: a real HTTP server on a loopback address, in a thread of its own."""

import asyncio
import ipaddress
import signal
import socket
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Self

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from piapi_mcp.sandbox.routes import Sandbox
from piapi_mcp.sandbox.state import Settings


class _OpenProtocol(H11Protocol):
    """Lets a route close its connection, which ASGI has no word for."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Keep the transport where the routes find it."""
        # asyncio does so only for sockets that it made itself; without it every answer waits 40 ms for the client.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.app_state = {**self.app_state, "transport": transport}
        super().connection_made(transport)


class SandboxServer:
    """A sandbox at `base_url`, from `start` to `stop`; a context manager does both."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        settings: Settings | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Use *host*, a loopback address, *port*, 0 for any that is free, and *clock* for the times of tasks.

        Raises:
            ValueError: If *host* is not a loopback address.
        """
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"The sandbox serves loopback addresses only, not {host}.")
        self._address = (host, port)
        self._settings = settings or Settings()
        self._clock = clock
        self._running: tuple[uvicorn.Server, threading.Thread] | None = None
        self.base_url = ""
        """Set by `start`."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Serve; connections are accepted when this returns.

        Raises:
            OSError: If the port is taken.
        """
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        listening = socket.create_server(self._address, family=family)
        host, port = listening.getsockname()[:2]
        self.base_url = f"http://[{host}]:{port}" if family == socket.AF_INET6 else f"http://{host}:{port}"
        folder = tempfile.TemporaryDirectory(prefix="piapi-sandbox-", ignore_cleanup_errors=True)
        app = Sandbox(Path(folder.name) / "results", self._settings, self._clock).app(self.base_url)
        server = uvicorn.Server(
            uvicorn.Config(
                app, http=_OpenProtocol, log_config=None, access_log=False, timeout_graceful_shutdown=1, lifespan="on"
            )
        )

        def serve() -> None:
            with folder, listening:
                server.run(sockets=[listening])

        thread = threading.Thread(target=serve, name="sandbox", daemon=True)
        thread.start()
        self._running = (server, thread)

    def wait(self) -> None:
        """Return when the server has ended, which it does at SIGTERM, and not by itself. For the main thread only."""
        if self._running:
            server, _ = self._running

            def end(_signal: int, _frame: FrameType | None) -> None:
                server.should_exit = True

            before = signal.signal(signal.SIGTERM, end)
            self._join()
            signal.signal(signal.SIGTERM, before)

    def stop(self) -> None:
        """End the server and whatever it works on, and remove its results."""
        if self._running:
            server, _ = self._running
            server.should_exit = True
            self._join()
            self._running = None

    def _join(self) -> None:
        if self._running:
            _, thread = self._running
            while thread.is_alive():
                thread.join(timeout=1)  # on Windows a join without a limit cannot be interrupted
