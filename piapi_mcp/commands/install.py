"""`piapi-mcp install`: puts this server into a client's configuration, or takes it out again."""

import contextlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from piapi_mcp.commands.clients import Client
from piapi_mcp.commands.config_files import UneditableError, block, put, remove
from piapi_mcp.commands.launch import KEY_PAGE
from piapi_mcp.errors import SettingsError
from piapi_mcp.settings import Settings


@dataclass(frozen=True)
class Wish:
    """What the user asked for."""

    client: Client
    name: str = "piapi"
    """Under which the server stands in the configuration."""
    config: Path | None = None
    """The configuration; None for where the client looks for it."""
    with_key: bool = False
    """Whether the key of the environment is written into the file."""
    sandbox: bool = False
    """Whether the server uses the sandbox, and needs no key."""


def install(wish: Wish, settings: Settings, *, only_print: bool) -> int:
    """Put the server into the client's configuration, and return the exit status.

    Raises:
        SettingsError: It cannot be done; nothing was changed.
    """
    client = wish.client
    key = settings.api_key.get_secret_value() if wish.with_key and settings.api_key else ""
    if wish.with_key and only_print:
        raise SettingsError("--print shows no key: leave --with-key out, and write it where the block says.")
    if wish.with_key and not key:
        raise SettingsError("--with-key writes the PIAPI_API_KEY of the environment, and there is none.")
    entry = client.entry(key, arguments=("--sandbox",) if wish.sandbox else ())
    path = _path(wish)
    if only_print:
        print(block(client, wish.name, entry), end="")
        return 0
    before = _read(path)
    try:
        after = put(before or "", client, wish.name, entry)
    except UneditableError as error:
        raise SettingsError(
            f"{path} is left as it is: {error}. Put this into it yourself:\n\n{block(client, wish.name, entry)}"
        ) from None
    _replace(path, before, after)
    print(f"{client.title}: the server {wish.name} stands in {path}.")
    _tell_about_key(wish, after)
    print(client.after)
    return 0


def uninstall(wish: Wish) -> int:
    """Take the server out of the client's configuration, and return the exit status.

    Raises:
        SettingsError: It cannot be done; nothing was changed.
    """
    path = _path(wish)
    before = _read(path)
    try:
        after = remove(before or "", wish.client, wish.name)
    except UneditableError as error:
        raise SettingsError(f"{path} is left as it is: {error}. Take {wish.name} out of it yourself.") from None
    if before is None or after == before:
        print(f"{wish.client.title}: there is no server {wish.name} in {path}.")
        return 0
    _replace(path, before, after)
    print(f"{wish.client.title}: the server {wish.name} is gone from {path}.")
    return 0


def _tell_about_key(wish: Wish, written: str) -> None:
    if wish.with_key:
        print("Your PiAPI key stands in it too: keep the file to yourself.")
    elif '"PIAPI_API_KEY": ""' in written or 'PIAPI_API_KEY = ""' in written:
        print(f"Write your PiAPI key between the quotes after PIAPI_API_KEY; it is shown at {KEY_PAGE}.")
    elif "${PIAPI_API_KEY}" in written or "${env:PIAPI_API_KEY}" in written:
        print(f"It takes your PiAPI key from the environment: set PIAPI_API_KEY. It is shown at {KEY_PAGE}.")


def _path(wish: Wish) -> Path:
    try:
        # Who keeps such files elsewhere and links to them wants the file changed, not the link replaced.
        return (wish.config or wish.client.locate()).expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise SettingsError(f"The configuration of {wish.client.title} cannot be found: {error}.") from None


def _read(path: Path) -> str | None:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}. Nothing was changed.") from None


def _replace(path: Path, before: str | None, after: str) -> None:
    """Write *after* into *path* in one step, and keep what was there beside it."""
    if after == before:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode) if before is not None else 0o600
        if not mode & stat.S_IWUSR:
            raise SettingsError(f"{path} is read-only. Nothing was changed; make it writable, or use --print.")
        if before is not None:
            print(f"What was there before: {_back_up(path)}")
        _write(path, after, mode=mode)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error}. Nothing was changed.") from None


def _back_up(path: Path) -> Path:
    """Copy *path* to a free name beside it, and return that."""
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
