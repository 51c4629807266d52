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
    earlier = _table(before, client.servers).get(name, {})
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
    if name not in _table(before, client.servers):
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
    if not isinstance(parsed, dict) or not isinstance(_get(parsed, client.servers), dict):
        raise UneditableError("it does not have the form that is expected")
    return cast("Table", parsed)


def _get(table: Any, name: str) -> Any:
    return table.get(name, {})


def _table(table: Table, name: str) -> Table:
    return cast("Table", _get(table, name))


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
    rest = _remove_toml(text, client, name) if name in _table(before, client.servers) else text
    gap = "\n" if rest and not rest.endswith("\n") else ""
    after = f"{rest}{gap}\n{_toml(client, name, entry)}".lstrip("\n")
    expected = before | {client.servers: _table(before, client.servers) | {name: entry}}
    return _verified(after, expected)


def _remove_toml(text: str, client: Client, name: str) -> str:
    before = _parse(text, client)
    quoted = f'(?:{re.escape(name)}|"{re.escape(name)}")'
    head = rf"^\[{client.servers}\.{quoted}(?:\.[^\]\n]*)?\][^\n]*\n"
    after = re.sub(rf"{head}(?:(?!\[)[^\n]*(?:\n|\Z))*", "", text, flags=re.MULTILINE).rstrip("\n")
    others = {other: entry for other, entry in _table(before, client.servers).items() if other != name}
    expected = {key: value for key, value in before.items() if key != client.servers}
    return _verified(f"{after}\n" if after else "", expected | ({client.servers: others} if others else {}))


def _verified(text: str, expected: Table) -> str:
    if tomllib.loads(text) != expected:
        raise UneditableError("the server is written there in a form that cannot be replaced")
    return text


def _toml(client: Client, name: str, entry: Table) -> str:
    head = f"{client.servers}.{name}"
    plain = [f"{key} = {_value(value)}" for key, value in entry.items() if key != "env"]
    env = [f"{key} = {_value(value)}" for key, value in _table(entry, "env").items()]
    tables = [f"[{head}]", *plain, *(["", f"[{head}.env]", *env] if env else [])]
    return "\n".join(tables) + "\n"


def _value(value: object) -> str:
    # What is written here, texts, lists of texts and truth values, TOML writes as JSON does.
    return json.dumps(value, ensure_ascii=False)
