"""`piapi-mcp install`: adds this server to a client's configuration, or removes it again."""

import contextlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from piapi_mcp.commands.clients import Client
from piapi_mcp.commands.config_files import UneditableError, add_server, read_server, remove_server, render_block
from piapi_mcp.commands.launch import KEY_PAGE, KEY_VARIABLE
from piapi_mcp.errors import SettingsError
from piapi_mcp.settings import Settings


@dataclass(frozen=True)
class InstallRequest:
    """The options of one call of `piapi-mcp install`."""

    client: Client
    name: str = "piapi"
    """Name of the server in the configuration."""
    config_file: Path | None = None
    """The configuration file; None for the one that the client reads."""
    with_key: bool = False
    """Whether to write the environment's key into the file."""
    sandbox: bool = False
    """Whether the server uses the sandbox, and so needs no key."""


def install(request: InstallRequest, settings: Settings, *, only_print: bool) -> int:
    """Add the server to the client's configuration, and return the exit status.

    Raises:
        SettingsError: The server cannot be added; nothing was changed.
    """
    client, name = request.client, request.name
    key = settings.api_key.get_secret_value() if request.with_key and settings.api_key else ""
    if request.with_key and only_print:
        raise SettingsError(
            "--print never prints a key. Leave out --with-key, and put your key into the printed block."
        )
    if request.with_key and not key:
        raise SettingsError(
            "--with-key needs PIAPI_API_KEY in the environment, but it is not set. Nothing was changed."
        )
    entry = client.build_entry(key, arguments=("--sandbox",) if request.sandbox else ())
    path = _config_path(request)
    if only_print:
        print(render_block(client, name, entry), end="")
        return 0
    before = _read(path)
    try:
        after = add_server(before or "", client, name, entry)
    except UneditableError as error:
        raise SettingsError(
            f"{path} was not changed: {error}. Add this to it yourself:\n\n{render_block(client, name, entry)}"
        ) from None
    _replace(path, before, after)
    print(f"{client.title}: the server {name} is set up in {path}.")
    _print_key_instructions(request, after)
    print(client.next_step or f"Restart {client.title}.")
    return 0


def uninstall(request: InstallRequest) -> int:
    """Remove the server from the client's configuration, and return the exit status.

    Raises:
        SettingsError: The server cannot be removed; nothing was changed.
    """
    client, name = request.client, request.name
    path = _config_path(request)
    before = _read(path)
    try:
        after = remove_server(before or "", client, name)
    except UneditableError as error:
        raise SettingsError(f"{path} was not changed: {error}. Remove the server {name} yourself.") from None
    if before is None or after == before:
        print(f"{client.title}: there is no server {name} in {path}, so nothing was changed.")
        return 0
    _replace(path, before, after)
    print(f"{client.title}: the server {name} was removed from {path}.")
    return 0


def _print_key_instructions(request: InstallRequest, written: str) -> None:
    if request.with_key:
        print("The file now holds your PiAPI key: do not share it.")
        return
    key = read_server(written, request.client, request.name).get("env", {}).get(KEY_VARIABLE)
    if key == "":
        print(f"Write your PiAPI key between the quotes after {KEY_VARIABLE} in that file. Your key: {KEY_PAGE}")
    elif key is not None and key == request.client.key_reference and not request.client.inputs:
        print(f"The server takes your PiAPI key from the environment: set {KEY_VARIABLE}. Your key: {KEY_PAGE}")


def _config_path(request: InstallRequest) -> Path:
    try:
        # Resolved, because a symbolic link (to a dotfiles folder, for example) must stay a link.
        return (request.config_file or request.client.find_config()).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise SettingsError(
            f"The configuration of {request.client.title} cannot be found ({error}). Name the file with --config."
        ) from None


def _read(path: Path) -> str | None:
    """Return the text of *path*, None if there is no such file."""
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}. Nothing was changed.") from None


def _replace(path: Path, before: str | None, after: str) -> None:
    """Write *after* to *path* in one step, and keep a copy of what it held."""
    if after == before:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode) if before is not None else 0o600
        if not mode & stat.S_IWUSR:
            raise SettingsError(f"{path} is read-only. Nothing was changed; make it writable, or use --print.")
        if before is not None:
            print(f"Backup of the file as it was: {_back_up(path)}")
        _write(path, after, mode=mode)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error}. Nothing was changed.") from None


def _back_up(path: Path) -> Path:
    """Copy *path* to an unused name in the same folder, and return the copy's path."""
    content, mode = path.read_bytes(), stat.S_IMODE(path.stat().st_mode)
    number = 1
    while True:
        backup = path.with_name(f"{path.name}.bak{'' if number == 1 else number}")
        with contextlib.suppress(FileExistsError):
            with os.fdopen(os.open(backup, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
                file.write(content)
            return backup
        number += 1


def _write(path: Path, text: str, *, mode: int) -> None:
    """Write *text* to *path* through a temporary file, so that the file is never half written."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
