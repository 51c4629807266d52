"""Adds one server to the text of a client's configuration file, or removes it, and leaves the rest as it is."""

import contextlib
import json
import re
import tomllib
from typing import Any, cast

from piapi_mcp.commands.clients import Client
from piapi_mcp.commands.launch import KEY_VARIABLE

Table = dict[str, Any]

_OUR_FIELDS = ("type", "command", "args", "env", "url", "required", "default_tools_approval_mode")
"""Fields of an entry that an installation rewrites; the user's other fields stay."""
_BYTE_ORDER_MARK = "\ufeff"


class UneditableError(Exception):
    """The file cannot be edited without loss; the text says why."""


def read_server(text: str, client: Client, name: str) -> Table:
    """Return the entry of the server *name*, empty if there is none.

    Raises:
        UneditableError: The text cannot be edited, or the entry belongs to another program.
    """
    entry = _table(_table(_parse(text, client), client.servers_key), name)
    _table(entry, "env")
    launch = f"{entry.get('command')} {entry.get('args')}"
    if entry and "piapi-mcp" not in launch and "piapi_mcp" not in launch:
        raise UneditableError(f"it already has a server {name} that is not piapi-mcp; choose another --name")
    return entry


def add_server(text: str, client: Client, name: str, entry: Table) -> str:
    """Return *text* with *entry* as the server *name*; what the user added to an earlier entry stays.

    Raises:
        UneditableError: The text cannot be edited without loss.
    """
    entry = _keep_user_fields(read_server(text, client, name), entry)
    before = _parse(text, client)
    after = before | {client.servers_key: _table(before, client.servers_key) | {name: entry}}
    if client.config_format == "toml":
        return _edit_toml(text, client, name, entry, expected=after)
    if client.inputs:
        inputs = before.get("inputs", [])
        known = {item.get("id") for item in inputs}
        needed = [item for item in client.inputs if item["id"] not in known and item["id"] in json.dumps(entry)]
        after["inputs"] = [*inputs, *needed]
    return _render_json(after, like=text)


def remove_server(text: str, client: Client, name: str) -> str:
    """Return *text* without the server *name*; the same text if there is none.

    Raises:
        UneditableError: The text cannot be edited without loss.
    """
    if not read_server(text, client, name):
        return text
    before = _parse(text, client)
    others = {other: entry for other, entry in before[client.servers_key].items() if other != name}
    after = before | {client.servers_key: others}
    if client.config_format == "toml":
        return _edit_toml(text, client, name, None, expected=after)
    if client.inputs and "inputs" in before:
        still_needed = json.dumps(others)
        unused = {item["id"] for item in client.inputs if f"input:{item['id']}" not in still_needed}
        after["inputs"] = [item for item in before["inputs"] if item.get("id") not in unused]
        if not after["inputs"]:
            del after["inputs"]
    return _render_json(after, like=text)


def render_block(client: Client, name: str, entry: Table) -> str:
    """Return what a person would paste into an empty configuration file."""
    return add_server("", client, name, entry)


def _parse(text: str, client: Client) -> Table:
    text = _unix_text(text)
    try:
        document: Any = tomllib.loads(text) if client.config_format == "toml" else json.loads(text or "{}")
    except tomllib.TOMLDecodeError as error:
        raise UneditableError(f"it is not valid TOML ({error})") from None
    except json.JSONDecodeError as error:
        raise UneditableError(f"it has comments or is not valid JSON ({error})") from None
    if not isinstance(document, dict):
        raise UneditableError("it does not hold an object")
    table = cast("Table", document)
    inputs: Any = table.get("inputs", [])
    if client.inputs and not (isinstance(inputs, list) and all(isinstance(item, dict) for item in cast("Any", inputs))):
        raise UneditableError('its "inputs" are not a list of objects')
    return table


def _table(table: Table, name: str) -> Table:
    found = table.get(name, {})
    if not isinstance(found, dict):
        raise UneditableError(f'its "{name}" is not an object')
    return cast("Table", found)


def _keep_user_fields(earlier: Table, entry: Table) -> Table:
    """Return *entry* with the fields and variables that the user added to *earlier*, and the key filled in there."""
    env = _table(entry, "env")
    kept = {name: value for name, value in _table(earlier, "env").items() if name != KEY_VARIABLE or _is_key(value)}
    if kept:
        entry = entry | {"env": env | kept | {name: value for name, value in env.items() if _is_key(value)}}
    return {field: value for field, value in earlier.items() if field not in _OUR_FIELDS} | entry


def _is_key(value: object) -> bool:
    """Say whether *value* is a key, not a blank to fill in or a reference that the client resolves."""
    return bool(value) and not str(value).startswith("${")


def _unix_text(text: str) -> str:
    return text.removeprefix(_BYTE_ORDER_MARK).replace("\r\n", "\n")


def _restore_form(text: str, *, like: str) -> str:
    """Return *text* with the byte order mark and the line ends of *like*."""
    mark = _BYTE_ORDER_MARK if like.startswith(_BYTE_ORDER_MARK) else ""
    return mark + (text.replace("\n", "\r\n") if "\r\n" in like else text)


def _render_json(document: Table, *, like: str) -> str:
    indent = re.search(r"^([ \t]+)\"", like, re.MULTILINE)
    text = json.dumps(document, indent=indent[1] if indent else 2, ensure_ascii=False) + "\n"
    return _restore_form(text, like=like)


def _edit_toml(text: str, client: Client, name: str, entry: Table | None, *, expected: Table) -> str:
    """Return *text* with the tables of the server *name* changed to *entry*, or removed if that is None."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    with contextlib.suppress(TOMLKitError, tomllib.TOMLDecodeError):
        before, tables, after = _split_toml(_unix_text(text), client.servers_key, name)
        if entry is None:
            edited = before.removesuffix("\n") + after if before.endswith("\n\n") else before + after
        else:
            document = cast("Table", tomlkit.parse(tables))
            # Keys below a [mcp_servers] header do not name that table.
            _update(document.get(client.servers_key, document)[name], entry)
            # A field that was removed may leave a blank line at the end.
            edited = before + tomlkit.dumps(document).rstrip("\n") + "\n" + after
        # tomllib checks what tomlkit wrote. It does not see a table that was only implied by the removed one.
        if {client.servers_key: {}} | tomllib.loads(edited) == {client.servers_key: {}} | expected:
            return _restore_form(edited, like=text)
    raise UneditableError("it is written in a form of TOML that cannot be edited here")


def _split_toml(text: str, servers_key: str, name: str) -> tuple[str, str, str]:
    """Return the text before the tables of the server *name*, the tables, and the text after them.

    A missing server gets an empty table after a blank line at the end. Comments and blank lines that follow the tables
    are not part of them.
    """
    import tomlkit

    if text and not text.endswith("\n"):
        text += "\n"
    document = cast("Table", tomlkit.parse(text))
    if name not in document.get(servers_key, {}):
        return (f"{text}\n" if text else ""), f"[{servers_key}.{name}]\n", ""
    del document[servers_key][name]
    lines, others = text.splitlines(keepends=True), tomlkit.dumps(document).splitlines(keepends=True)
    pairs = enumerate(zip(lines, others, strict=False))
    start = next((number for number, (line, other) in pairs if line != other), len(others))
    end = len(lines) - (len(others) - start)
    if lines[end:] != others[start:]:
        raise UneditableError(f"the tables of the server {name} are not next to each other")
    while start < end - 1 and name not in lines[start]:
        start += 1  # tomlkit removes a bare [mcp_servers] before the table too
    while not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#"):
        end -= 1
    return "".join(lines[:start]), "".join(lines[start:end]), "".join(lines[end:])


def _update(table: Table, wanted: Table) -> None:
    """Make *table* equal to *wanted*; the form and the comments of unchanged fields stay."""
    for field in table.keys() - wanted.keys():
        del table[field]
    for field, value in wanted.items():
        if isinstance(value, dict) and isinstance(table.get(field), dict):
            _update(table[field], cast("Table", value))
        elif table.get(field) != value:
            table[field] = value
