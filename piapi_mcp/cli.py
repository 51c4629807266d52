"""The commands: serve (the default), demo, sandbox. With `demo.py` the only place that prints or exits."""

import argparse
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import piapi_mcp
from piapi_mcp.errors import PiAPIError, SettingsError
from piapi_mcp.settings import LogLevel, Settings

_EXIT_SETTINGS = 2
_SHUTDOWN_S = 10
"""How long running calls may still be answered when an HTTP server stops, in seconds."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* (default: that of the process) and return the exit status."""
    arguments = _parser().parse_args(argv)
    # stdout belongs to the protocol: logs go to stderr.
    logging.basicConfig(level=arguments.log_level, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs a line for each look at a task
    try:
        return arguments.run(arguments)
    except SettingsError as error:
        print(f"piapi-mcp: {error}", file=sys.stderr)
        return _EXIT_SETTINGS
    except PiAPIError as error:
        print(f"piapi-mcp: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="piapi-mcp",
        description="MCP server for upscaling Midjourney images and videos with PiAPI. Without a command it serves.",
        epilog="Settings come from the environment: PIAPI_API_KEY and others, see the README.",
    )
    parser.add_argument("--version", action="version", version=f"piapi-mcp {piapi_mcp.__version__}")
    parser.add_argument(
        "--transport",
        choices=["stdio", "sse", "streamable-http"],
        default="stdio",
        help="how clients connect (default: stdio); either HTTP name serves both /mcp and /sse",
    )
    parser.add_argument("--host", default="127.0.0.1", help="over HTTP: address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="over HTTP: port (default: %(default)s)")
    parser.add_argument(
        "--allowed-host", action="append", default=[], metavar="NAME", help="over HTTP: a name that clients call it by"
    )
    parser.add_argument(
        "--allowed-origin", action="append", default=[], metavar="ORIGIN", help="over HTTP: a web page that may call it"
    )
    parser.add_argument(
        "--sandbox", action="store_true", help="use the built-in sandbox instead of PiAPI: no key, nothing paid"
    )
    parser.add_argument(
        "--log-level", choices=get_args(LogLevel), default="WARNING", help="what to log to stderr (default: WARNING)"
    )
    parser.set_defaults(run=_serve)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    demo = commands.add_parser("demo", help="show the main job from start to end; needs no key")
    demo.add_argument(
        "video", nargs="?", type=Path, metavar="VIDEO", help="MP4 file to upscale (default: a clip it makes)"
    )
    demo.add_argument(
        "--output",
        type=Path,
        default=Path("piapi-mcp-demo"),
        metavar="DIR",
        help="where to save (default: %(default)s)",
    )
    demo.set_defaults(run=_demo)

    sandbox = commands.add_parser(
        "sandbox",
        help="run a PiAPI of our own that really upscales; prints its base URL",
        epilog="Any key that begins with sandbox is an account of its own: PIAPI_BASE_URL=... PIAPI_API_KEY=sandbox-me",
    )
    sandbox.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default: %(default)s)")
    sandbox.add_argument("--port", type=int, default=0, help="port (default: any that is free)")
    sandbox.set_defaults(run=_sandbox)
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    settings = Settings.from_env(os.environ)
    # Imported here: the other commands, --help and --version need no SDK.
    from piapi_mcp.serving.server import build_server

    with contextlib.ExitStack() as stack:
        if arguments.sandbox:
            from piapi_mcp.sandbox.server import SandboxServer

            # Told to end, leave nothing of the sandbox behind.
            signal.signal(signal.SIGTERM, _end)
            settings = settings.for_sandbox(stack.enter_context(SandboxServer()).base_url)
        if arguments.transport != "stdio":
            _serve_http(settings, arguments)
            return 0
        try:
            build_server(settings, log_level=arguments.log_level).run("stdio")
        except* BrokenPipeError:
            pass  # the client is gone, which is how many of them say good-bye
    return 0


def _end(_signal: int, _frame: object) -> None:
    sys.exit(0)


def _serve_http(settings: Settings, arguments: argparse.Namespace) -> None:
    import uvicorn

    from piapi_mcp.serving.http import Listen, build_app

    listen = Listen(arguments.host, tuple(arguments.allowed_host), tuple(arguments.allowed_origin))
    app = build_app(settings, listen, log_level=arguments.log_level)
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=_SHUTDOWN_S)
    with _bind(arguments.host, arguments.port) as listening:
        address = f"http://{arguments.host}:{listening.getsockname()[1]}"
        print(f"piapi-mcp serves {address}/mcp and {address}/sse", file=sys.stderr, flush=True)
        uvicorn.Server(config).run(sockets=[listening])


def _bind(host: str, port: int) -> socket.socket:
    """Return a socket bound to *host* and *port*, 0 for any that is free.

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


def _demo(arguments: argparse.Namespace) -> int:
    from piapi_mcp.demo import run_demo

    return run_demo(arguments.video, arguments.output)


def _sandbox(arguments: argparse.Namespace) -> int:
    from piapi_mcp.sandbox.server import SandboxServer

    try:
        sandbox = SandboxServer(host=arguments.host, port=arguments.port)
        sandbox.start()
    except (OSError, OverflowError, ValueError) as error:
        raise SettingsError(f"{arguments.host}:{arguments.port} cannot be listened on: {error}") from None
    try:
        print(sandbox.base_url, flush=True)
        sandbox.wait()
    finally:
        sandbox.stop()
    return 0
