"""Configuration files of clients: one server put in or taken out, everything else left as it is."""

import json
import re
import tomllib
from typing import Any, cast

from piapi_mcp.commands.clients import Client

Table = dict[str, Any]

_OURS = ("type", "command", "args", "env", "url", "required", "default_tools_approval_mode")
"""What of an entry is written anew; the rest is its user's."""


class UneditableError(Exception):
    """The file is not of a form that can be changed without loss; the text says why."""


def put(text: str, client: Client, name: str, entry: Table) -> str:
    """Return *text* with *entry* as the server *name*; what its user filled into an earlier one stays.

    Raises:
        UneditableError: The text cannot be changed without loss.
    """
    before = _parse(text, client)
    earlier = _earlier(before, client, name)
    if filled_in := _filled_in(earlier):
        entry = entry | {"env": _table(entry, "env") | filled_in | _filled_in(entry)}
    entry = {key: value for key, value in earlier.items() if key not in _OURS} | entry
    if client.name == "codex":
        return _put_toml(text, client, name, entry)
    servers = _table(before, client.servers) | {name: entry}
    after = before | {client.servers: servers}
    if client.inputs:
        known = {given.get("id") for given in before.get("inputs", [])}
        needed = [given for given in client.inputs if given["id"] not in known and given["id"] in json.dumps(entry)]
        after["inputs"] = [*before.get("inputs", []), *needed]
    return _json(after, like=text)


def remove(text: str, client: Client, name: str) -> str:
    """Return *text* without the server *name*; the same text where there is none.

    Raises:
        UneditableError: The text cannot be changed without loss.
    """
    before = _parse(text, client)
    if not _earlier(before, client, name):
        return text
    if client.name == "codex":
        return _remove_toml(text, client, name)
    others = {other: entry for other, entry in before[client.servers].items() if other != name}
    after = before | {client.servers: others}
    if client.inputs and "inputs" in before:
        still_needed = json.dumps(others)
        ours = {given["id"] for given in client.inputs if f"input:{given['id']}" not in still_needed}
        kept = [given for given in before["inputs"] if given.get("id") not in ours]
        after = {key: value for key, value in after.items() if key != "inputs"} | ({"inputs": kept} if kept else {})
    return _json(after, like=text)


def block(client: Client, name: str, entry: Table) -> str:
    """Return what a person would paste into an empty file."""
    return put("", client, name, entry)


def _parse(text: str, client: Client) -> Table:
    try:
        parsed: Any = tomllib.loads(text) if client.name == "codex" else json.loads(text.lstrip("\ufeff") or "{}")
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise UneditableError(f"it has comments or is broken ({error})") from None
    if not isinstance(parsed, dict):
        raise UneditableError("it does not have the form that is expected")
    document = cast("Table", parsed)
    _table(document, client.servers)
    inputs: Any = document.get("inputs", [])
    if client.inputs and not (
        isinstance(inputs, list) and all(isinstance(it, dict) for it in cast("list[Any]", inputs))
    ):
        raise UneditableError("its inputs do not have the form that is expected")
    return document


def _earlier(document: Table, client: Client, name: str) -> Table:
    """Return the entry of that name; an empty one where there is none.

    Raises:
        UneditableError: It is another program's.
    """
    entry = _table(_table(document, client.servers), name)
    _table(entry, "env")
    words = f"{entry.get('command')} {entry.get('args')}"
    if entry and "piapi-mcp" not in words and "piapi_mcp" not in words:
        raise UneditableError(f"another server stands there as {name}; choose another --name")
    return entry


def _table(table: Table, name: str) -> Table:
    found = table.get(name, {})
    if not isinstance(found, dict):
        raise UneditableError(f"its {name} does not have the form that is expected")
    return cast("Table", found)


def _filled_in(entry: Table) -> Table:
    """Return the settings of an entry that hold a value."""
    return {key: value for key, value in _table(entry, "env").items() if value and not _is_reference(value)}


def _is_reference(value: object) -> bool:
    return isinstance(value, str) and value.startswith("${")


def _json(document: Table, *, like: str) -> str:
    """Return *document* with the indentation and the line ends of the text that it was."""
    indent = re.search(r"^([ \t]+)\"", like, re.MULTILINE)
    text = json.dumps(document, indent=indent[1] if indent else 2, ensure_ascii=False) + "\n"
    mark = "\ufeff" if like.startswith("\ufeff") else ""
    return mark + (text.replace("\n", "\r\n") if "\r\n" in like else text)


def _put_toml(text: str, client: Client, name: str, entry: Table) -> str:
    """TOML is edited as text: its comments and its order are its user's."""
    before = _parse(text, client)
    rest = _remove_toml(text, client, name).replace("\r\n", "\n")
    gap = "" if not rest else "\n" if rest.endswith("\n") else "\n\n"
    after = f"{rest}{gap}{_toml(client, name, entry)}"
    expected = before | {client.servers: _table(before, client.servers) | {name: entry}}
    return _verified(after, expected, like=text)


def _remove_toml(text: str, client: Client, name: str) -> str:
    before = _parse(text, client)
    servers = _table(before, client.servers)
    if name not in servers:
        return text
    others = {other: entry for other, entry in servers.items() if other != name}
    expected = {key: value for key, value in before.items() if key != client.servers}
    kept = "\n".join(_without_tables(text.replace("\r\n", "\n").split("\n"), client.servers, name)).rstrip("\n")
    return _verified(f"{kept}\n" if kept else "", expected | ({client.servers: others} if others else {}), like=text)


def _without_tables(lines: list[str], servers: str, name: str) -> list[str]:
    """Return *lines* without the server's tables; comments before the next table belong to that."""
    head = re.compile(rf'\[{servers}\.(?:{re.escape(name)}|"{re.escape(name)}")(?:\..*)?\]')
    kept: list[str] = []
    removed: list[str] | None = None
    for line in [*lines, "["]:
        if removed is not None and not line.startswith("["):
            removed.append(line)
            continue
        is_ours = head.match(line) is not None
        if removed is not None and not is_ours:
            kept += _trailing_remarks(removed)
        if is_ours and removed is None and kept and not kept[-1]:
            kept.pop()  # the gap before it
        removed = [] if is_ours else None
        if not is_ours:
            kept.append(line)
    return kept[:-1]


def _trailing_remarks(lines: list[str]) -> list[str]:
    """Return the comments and gaps at the end of *lines*."""
    count = 0
    while count < len(lines) and (not lines[-1 - count].strip() or lines[-1 - count].startswith("#")):
        count += 1
    return lines[len(lines) - count :]


def _verified(text: str, expected: Table, *, like: str) -> str:
    try:
        is_right = tomllib.loads(text) == expected
    except tomllib.TOMLDecodeError:
        is_right = False
    if not is_right:
        raise UneditableError("the server is written there in a form that cannot be replaced")
    return text.replace("\n", "\r\n") if "\r\n" in like else text


def _toml(client: Client, name: str, entry: Table) -> str:
    head = f"{client.servers}.{name}"
    plain = [f"{key} = {_value(value)}" for key, value in entry.items() if key != "env"]
    env = [f"{key} = {_value(value)}" for key, value in _table(entry, "env").items()]
    tables = [f"[{head}]", *plain, *(["", f"[{head}.env]", *env] if env else [])]
    return "\n".join(tables) + "\n"


def _value(value: object) -> str:
    # Texts, numbers, truth values and lists of them, TOML writes as JSON does.
    plain = (str, int, float, bool)
    if not all(isinstance(part, plain) for part in (cast("list[Any]", value) if isinstance(value, list) else [value])):
        raise UneditableError("the server is written there in a form that cannot be replaced")
    return json.dumps(value, ensure_ascii=False)
