"""A web server on loopback whose pages a test defines."""

import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Page = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Website:
    """Its pages, and the requests that it received."""

    origin: str
    pages: dict[str, Page] = field(default_factory=dict[str, Page])
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list[tuple[str, dict[str, str]]])
    """Path and headers (names in lower case) of each request."""
    over: threading.Event = field(default_factory=threading.Event)
    """Set at the end of the test; pages that keep a client waiting wait for it."""

    def serve(self, path: str, data: bytes, *, content_type: str = "video/mp4", ranges: bool = True) -> str:
        """Serve a file, by default with range requests, and return its URL."""

        def page(request: BaseHTTPRequestHandler) -> None:
            requested = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
            part = data[int(requested[1]) : int(requested[2]) + 1] if requested and ranges else data
            headers = {"Content-Type": content_type, "Content-Length": str(len(part))}
            if requested and ranges:
                headers["Content-Range"] = f"bytes {requested[1]}-{int(requested[1]) + len(part) - 1}/{len(data)}"
            answer(request, 206 if requested and ranges else 200, headers, part)

        self.pages[path] = page
        return self.origin + path

    def reply(self, path: str, status: int, headers: dict[str, str], body: bytes = b"") -> str:
        """Serve one response to every request, and return its URL."""
        self.pages[path] = lambda request: answer(request, status, headers, body)
        return self.origin + path


def answer(request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes = b"") -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(body)


@contextmanager
def open_website() -> Generator[Website]:
    """Serve until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
            try:
                here.pages[self.path](self)
            except ConnectionError:
                return  # the client closed the connection early

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- as above
            del format, args

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        here = Website(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield here
        here.over.set()
        server.shutdown()
        thread.join()
