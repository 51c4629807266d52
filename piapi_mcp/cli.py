"""The command line: serve (the default), or one of the commands. With `commands/` the only place that prints."""

import argparse
import contextlib
import io
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import get_args

import piapi_mcp
from piapi_mcp.errors import PiAPIError, SettingsError
from piapi_mcp.settings import LogLevel, Settings

_EXIT_SETTINGS = 2
_CLIENTS = ("claude-desktop", "claude-code", "cursor", "vscode", "codex", "gemini")
_HTTP_OPTIONS = (
    ("--allowed-host", "PIAPI_MCP_ALLOWED_HOSTS", "NAME", "a name that clients call it by; may be repeated"),
    ("--allowed-origin", "PIAPI_MCP_ALLOWED_ORIGINS", "ORIGIN", "a web page that may call it; may be repeated"),
    ("--oauth-issuer", "PIAPI_MCP_OAUTH_ISSUER", "URL", "authorization server whose tokens let clients in"),
    ("--oauth-audience", "PIAPI_MCP_OAUTH_AUDIENCE", "URL", "URL that clients know it by, which tokens must name"),
)
"""Options that stand for settings: option, setting, what it takes, what it means."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* (default: that of the process) and return the exit status."""
    _speak_anywhere()
    arguments = build_parser().parse_args(argv)
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
    except BrokenPipeError:  # whoever read what was printed has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _speak_anywhere() -> None:
    """Let no sign that a terminal cannot show end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
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
    for option, setting, metavar, meaning in _HTTP_OPTIONS:
        parser.add_argument(option, dest=setting, action="append", metavar=metavar, help=f"over HTTP: {meaning}")
    _add_sandbox_option(parser)
    parser.add_argument(
        "--log-level", choices=get_args(LogLevel), default="WARNING", help="what to log to stderr (default: WARNING)"
    )
    parser.set_defaults(run=_serve, sandbox=False)
    _add_commands(parser)
    return parser


def _add_commands(parser: argparse.ArgumentParser) -> None:
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

    doctor = commands.add_parser("doctor", help="look whether everything is set up; says what to do where it is not")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    _add_sandbox_option(doctor)
    doctor.set_defaults(run=_doctor)

    verify = commands.add_parser("verify", help="compare docs/piapi-facts.md with the real service, with your key")
    verify.add_argument(
        "--spend",
        type=_usd,
        default=Decimal(0),
        metavar="USD",
        help="buy the smallest tasks too, for at most so many US dollars in total: 0.01 or more (default: buy nothing)",
    )
    verify.add_argument("--json", action="store_true", help="print one JSON object")
    _add_sandbox_option(verify)
    verify.set_defaults(run=_verify)

    install = commands.add_parser(
        "install",
        help="put this server into a client's configuration, or take it out again",
        epilog="What was there before is kept beside the file. Without --with-key no key is written.",
    )
    install.add_argument("--client", required=True, choices=_CLIENTS, help="whose configuration")
    install.add_argument("--name", type=_server_name, default="piapi", help="name of the server in it (default: piapi)")
    install.add_argument(
        "--config", type=Path, metavar="FILE", help="the file (default: where the client looks for it)"
    )
    install.add_argument("--with-key", action="store_true", help="write the PIAPI_API_KEY of the environment into it")
    how = install.add_mutually_exclusive_group()
    how.add_argument("--print", action="store_true", help="print what would be written, and change nothing")
    how.add_argument("--undo", action="store_true", help="take the server out again")
    _add_sandbox_option(install)
    install.set_defaults(run=_install)

    sandbox = commands.add_parser(
        "sandbox",
        help="run a PiAPI of our own that really upscales; prints its base URL",
        epilog="Any key that begins with sandbox is an account of its own: PIAPI_BASE_URL=... PIAPI_API_KEY=sandbox-me",
    )
    sandbox.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default: %(default)s)")
    sandbox.add_argument("--port", type=int, default=0, help="port (default: any that is free)")
    sandbox.set_defaults(run=_sandbox)


def _add_sandbox_option(parser: argparse.ArgumentParser) -> None:
    # Suppressed, so that a command's own default does not undo the option before it.
    text = "use the built-in sandbox instead of PiAPI: no key, nothing paid"
    parser.add_argument("--sandbox", action="store_true", default=argparse.SUPPRESS, help=text)


def _server_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise argparse.ArgumentTypeError("it takes 1 to 64 letters, digits, - and _")
    return text


def _usd(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not (amount.is_finite() and amount >= 0):
        raise argparse.ArgumentTypeError("it takes a number of US dollars, such as 0.01")
    return amount


def _serve(arguments: argparse.Namespace) -> int:
    settings = Settings.from_env(os.environ | _given(arguments))
    # Imported here: the other commands, --help and --version need no SDK.
    from piapi_mcp.server.build import build_server

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


def _given(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the settings that were given as options, which count more than the environment."""
    given = {setting: getattr(arguments, setting) for _, setting, _, _ in _HTTP_OPTIONS}
    return {setting: ",".join(values) for setting, values in given.items() if values}


def _end(_signal: int, _frame: object) -> None:
    sys.exit(0)


def _serve_http(settings: Settings, arguments: argparse.Namespace) -> None:
    from piapi_mcp.hosting.app import build_app, check_listen_address
    from piapi_mcp.hosting.graceful_server import serve

    check_listen_address(settings, arguments.host)

    def announce(port: int) -> None:
        host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
        address = f"http://{host}:{port}"
        print(f"piapi-mcp serves {address}/mcp and {address}/sse", file=sys.stderr, flush=True)

    serve(build_app(settings, log_level=arguments.log_level), arguments.host, arguments.port, on_listening=announce)


def _demo(arguments: argparse.Namespace) -> int:
    from piapi_mcp.commands.demo import run_demo

    return run_demo(arguments.video, arguments.output)


def _doctor(arguments: argparse.Namespace) -> int:
    from piapi_mcp.commands.doctor import examine

    with contextlib.ExitStack() as stack:
        base_url = None
        if arguments.sandbox:
            from piapi_mcp.sandbox.server import SandboxServer

            base_url = stack.enter_context(SandboxServer()).base_url
        logging.getLogger("piapi_mcp.settings").setLevel(logging.ERROR)  # what it warns of, is found here too
        return examine(os.environ, base_url=base_url, as_json=arguments.json)


def _verify(arguments: argparse.Namespace) -> int:
    from piapi_mcp.commands.verify import verify

    settings = Settings.from_env(os.environ)
    with contextlib.ExitStack() as stack:
        if arguments.sandbox:
            from piapi_mcp.sandbox.server import SandboxServer

            settings = settings.for_sandbox(stack.enter_context(SandboxServer()).base_url)
        return verify(settings, spend_usd=arguments.spend, as_json=arguments.json)


def _install(arguments: argparse.Namespace) -> int:
    from piapi_mcp.commands.clients import find_client
    from piapi_mcp.commands.install import Wish, install, uninstall

    wish = Wish(
        find_client(arguments.client),
        name=arguments.name,
        config=arguments.config,
        with_key=arguments.with_key,
        sandbox=arguments.sandbox,
    )
    if arguments.undo:
        return uninstall(wish)
    return install(wish, Settings.from_env(os.environ), only_print=arguments.print)


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
