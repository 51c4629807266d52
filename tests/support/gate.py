"""A gate in front of the sandbox that can refuse connections, so that a submission is held before it is sent."""

import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit

from typing_extensions import override

_TIMEOUT_S = 30
_KEEP_ALIVE = re.compile(rb"connection: keep-alive", re.IGNORECASE)


class Gate:
    """Passes requests on to the server at *base_url*, each over a connection of its own."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        self._target = (parts.hostname or "", parts.port or 0)
        self._closes_at: bytes | None = None
        self._listener = self._listen(0)
        self.base_url = f"http://127.0.0.1:{self._listener.server_address[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close_after(self, start: str) -> None:
        """Refuse every connection after the next request whose first line begins with *start*; that one is served."""
        self._closes_at = start.encode()

    def close(self) -> None:
        """Refuse connections from now on."""
        self._listener.shutdown()
        self._listener.server_close()

    def open(self) -> None:
        """Accept connections again, at the same address."""
        self._closes_at = None
        self._listener = self._listen(self._listener.server_address[1])

    def _listen(self, port: int) -> "_Listener":
        listener = _Listener(("127.0.0.1", port), self._relay)
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return listener

    def _relay(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            block = client.recv(65536)
            if not block:
                return
            head += block
        if self._closes_at is not None and head.startswith(self._closes_at):
            self.close()
        with socket.create_connection(self._target, timeout=_TIMEOUT_S) as server:
            # The next request needs a new connection, which the gate can refuse.
            server.sendall(_KEEP_ALIVE.sub(b"connection: close", head, count=1))
            threading.Thread(target=_pump, args=(client, server), daemon=True).start()
            _pump(server, client)


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], relay: Callable[[socket.socket], None]) -> None:
        class Handler(socketserver.BaseRequestHandler):
            @override
            def handle(self) -> None:
                with contextlib.suppress(OSError):  # either side went away
                    relay(self.request)

        super().__init__(address, Handler)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while block := source.recv(65536):
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)  # so that the other side, too, sees a request that was broken off
