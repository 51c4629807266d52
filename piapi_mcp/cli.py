"""The command line: parses the arguments, then serves (the default) or runs a command.

Only this module and `commands/` print.
"""

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
    ("--allowed-host", "PIAPI_MCP_ALLOWED_HOSTS", "NAME", "host name that clients use for this server; repeatable"),
    ("--allowed-origin", "PIAPI_MCP_ALLOWED_ORIGINS", "ORIGIN", "origin of web pages that may call it; repeatable"),
    ("--oauth-issuer", "PIAPI_MCP_OAUTH_ISSUER", "URL", "authorization server whose tokens are accepted"),
    ("--oauth-audience", "PIAPI_MCP_OAUTH_AUDIENCE", "URL", "public URL of this server, which tokens must name"),
)
"""Options that override settings: option, environment variable, metavar, description."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* (default: the process's own) and return the exit status."""
    _replace_unprintable_characters()
    arguments = build_parser().parse_args(argv)
    # Over stdio, stdout belongs to the protocol, so logs go to stderr.
    logging.basicConfig(level=arguments.log_level, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs a line for each poll of a task
    try:
        return arguments.run(arguments)
    except SettingsError as error:
        print(f"piapi-mcp: {error}", file=sys.stderr)
        return _EXIT_SETTINGS
    except PiAPIError as error:
        print(f"piapi-mcp: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _replace_unprintable_characters() -> None:
    """Print "?" for a character that the terminal's encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="piapi-mcp",
        description="MCP server that upscales Midjourney images, videos and other images with PiAPI. "
        "Without a command, it runs the server.",
        epilog="Settings are environment variables such as PIAPI_API_KEY; the README lists them.",
    )
    parser.add_argument("--version", action="version", version=f"piapi-mcp {piapi_mcp.__version__}")
    parser.add_argument(
        "--transport",
        choices=["stdio", "sse", "streamable-http"],
        default="stdio",
        help="how clients connect (default: stdio); sse and streamable-http are the same: both serve /mcp and /sse",
    )
    parser.add_argument("--host", default="127.0.0.1", help="with HTTP: address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="with HTTP: port to listen on (default: %(default)s)")
    for option, setting, metavar, description in _HTTP_OPTIONS:
        parser.add_argument(option, dest=setting, action="append", metavar=metavar, help=f"with HTTP: {description}")
    _add_sandbox_option(parser)
    parser.add_argument(
        "--log-level",
        choices=get_args(LogLevel),
        default="WARNING",
        help="least severe messages to log to stderr (default: %(default)s)",
    )
    parser.set_defaults(run=_serve, sandbox=False)
    _add_commands(parser)
    return parser


def _add_commands(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    demo = commands.add_parser("demo", help="upscale a video and an image in the sandbox, step by step; needs no key")
    demo.add_argument(
        "video", nargs="?", type=Path, metavar="VIDEO", help="MP4 file to upscale (default: a generated clip)"
    )
    demo.add_argument(
        "--output",
        type=Path,
        default=Path("piapi-mcp-demo"),
        metavar="DIR",
        help="folder for the results (default: %(default)s)",
    )
    demo.set_defaults(run=_demo)

    doctor = commands.add_parser("doctor", help="check the setup, and say how to fix what is wrong")
    doctor.add_argument("--json", action="store_true", help="print the report as one JSON object")
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
        help="add this server to a client's configuration file, or remove it again",
        epilog="A backup is saved next to the file. Your PiAPI key is written only with --with-key.",
    )
    install.add_argument("--client", required=True, choices=_CLIENTS, help="client to configure")
    install.add_argument(
        "--name", type=_server_name, default="piapi", help="name for the server in the file (default: %(default)s)"
    )
    install.add_argument(
        "--config", type=Path, metavar="FILE", help="configuration file (default: the one that the client reads)"
    )
    install.add_argument("--with-key", action="store_true", help="write the value of PIAPI_API_KEY into the file")
    action = install.add_mutually_exclusive_group()
    action.add_argument("--print", action="store_true", help="print the block to add, and change nothing")
    action.add_argument("--undo", action="store_true", help="remove the server from the file")
    _add_sandbox_option(install)
    install.set_defaults(run=_install)

    sandbox = commands.add_parser(
        "sandbox",
        help="run the sandbox, a local imitation of PiAPI that really upscales, and print its base URL",
        epilog="To use it, set PIAPI_BASE_URL to the printed URL, and PIAPI_API_KEY to any key that begins with "
        "sandbox: each key is an account of its own.",
    )
    sandbox.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default: %(default)s)")
    sandbox.add_argument("--port", type=int, default=0, help="port to listen on (default: any free port)")
    sandbox.set_defaults(run=_sandbox)


def _add_sandbox_option(parser: argparse.ArgumentParser) -> None:
    # Without a default, so that a command does not reset the option given before the command's name.
    text = "use the built-in sandbox, a local imitation of PiAPI: needs no key, costs nothing"
    parser.add_argument("--sandbox", action="store_true", default=argparse.SUPPRESS, help=text)


def _server_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", text):
        raise argparse.ArgumentTypeError("use 1 to 64 letters, digits, - or _")
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
    settings = Settings.from_env(os.environ | _settings_from_options(arguments))
    # Imported here because the other commands, --help and --version do not need the MCP SDK.
    from piapi_mcp.server.build import build_server

    with contextlib.ExitStack() as stack:
        if arguments.sandbox:
            from piapi_mcp.sandbox.server import SandboxServer

            # On SIGTERM, exit normally, so that the sandbox removes its files.
            signal.signal(signal.SIGTERM, _exit_normally)
            settings = settings.for_sandbox(stack.enter_context(SandboxServer()).base_url)
        if arguments.transport != "stdio":
            _serve_http(settings, arguments)
            return 0
        try:
            build_server(settings, log_level=arguments.log_level).run("stdio")
        except* BrokenPipeError:
            pass  # many clients end a session by closing the pipe
    return 0


def _settings_from_options(arguments: argparse.Namespace) -> dict[str, str]:
    """Return the settings that were given as options; they take precedence over the environment."""
    given = {setting: getattr(arguments, setting) for _, setting, _, _ in _HTTP_OPTIONS}
    return {setting: ",".join(values) for setting, values in given.items() if values}


def _exit_normally(_signal: int, _frame: object) -> None:
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
    from piapi_mcp.commands.doctor import run_doctor

    with contextlib.ExitStack() as stack:
        base_url = None
        if arguments.sandbox:
            from piapi_mcp.sandbox.server import SandboxServer

            base_url = stack.enter_context(SandboxServer()).base_url
        logging.getLogger("piapi_mcp.settings").setLevel(logging.ERROR)  # the report says the same
        return run_doctor(os.environ, base_url=base_url, as_json=arguments.json)


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
    from piapi_mcp.commands.install import InstallRequest, install, uninstall

    request = InstallRequest(
        find_client(arguments.client),
        name=arguments.name,
        config_file=arguments.config,
        with_key=arguments.with_key,
        sandbox=arguments.sandbox,
    )
    if arguments.undo:
        return uninstall(request)
    return install(request, Settings.from_env(os.environ), only_print=arguments.print)


def _sandbox(arguments: argparse.Namespace) -> int:
    from piapi_mcp.sandbox.server import SandboxServer

    try:
        sandbox = SandboxServer(host=arguments.host, port=arguments.port)
        sandbox.start()
    except (OSError, OverflowError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise SettingsError(
            f"The sandbox cannot listen on {arguments.host}:{arguments.port} ({reason}). Set another --host or --port."
        ) from None
    try:
        print(sandbox.base_url, flush=True)
        sandbox.wait()
    finally:
        sandbox.stop()
    return 0
