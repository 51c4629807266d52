"""`piapi-mcp install` on the configuration files of every client, as they are found on people's machines."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from piapi_mcp.commands.clients import CLIENTS, find_client
from tests.support.messages import INITIALIZE
from tests.support.stdio_server import KEY, exchange, inherited_environment

NAMES = [client.name for client in CLIENTS]
IN_JSON = [name for name in NAMES if name != "codex"]
OTHERS: dict[str, Any] = {"theme": "dark", "mcpServers": {"other": {"command": "x"}}, "später": [1, 2]}


def run(home: Path, *arguments: str, status: int = 0, **env: str) -> str:
    """Run the command in *home* and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "piapi_mcp", "install", *arguments],
        env=inherited_environment() | {"HOME": str(home)} | env,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def path_of(home: Path, client: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.chdir(home)
    return find_client(client).locate()


def servers(path: Path, client: str) -> dict[str, Any]:
    text = path.read_text()
    return (tomllib.loads(text) if client == "codex" else json.loads(text))[find_client(client).servers]


@pytest.mark.parametrize("client", NAMES)
def test_what_is_written_starts_the_server(tmp_path: Path, client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, "--client", client)
    entry = servers(path_of(tmp_path, client, monkeypatch), client)["piapi"]
    assert Path(entry["command"]).is_absolute()
    with subprocess.Popen(
        [entry["command"], *entry.get("args", [])],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **entry["env"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        hello = exchange(server, INITIALIZE)
        call: dict[str, Any] = {"name": "get_account", "arguments": {}}
        answer = exchange(server, {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call})
        server.communicate(timeout=20)
    assert hello["result"]["serverInfo"]["name"] == "piapi-mcp"
    assert "No PiAPI key is set" in str(answer)  # an unfilled key counts as none


@pytest.mark.parametrize("client", NAMES)
def test_no_key_is_written_unless_it_is_asked_for(tmp_path: Path, client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run(tmp_path, "--client", client, PIAPI_API_KEY=KEY)
    path = path_of(tmp_path, client, monkeypatch)
    assert KEY not in path.read_text() + said
    said = run(tmp_path, "--client", client, "--with-key", PIAPI_API_KEY=KEY)
    assert servers(path, client)["piapi"]["env"] == {"PIAPI_API_KEY": KEY}
    assert KEY not in said
    run(tmp_path, "--client", client)
    assert servers(path, client)["piapi"]["env"] == {"PIAPI_API_KEY": KEY}  # what is filled in stays


def test_a_key_that_is_not_there_is_not_written(tmp_path: Path) -> None:
    assert "there is none" in run(tmp_path, "--client", "cursor", "--with-key", status=2)


@pytest.mark.parametrize("client", IN_JSON)
@pytest.mark.parametrize("indent", [2, 4, "\t"])
def test_everything_else_in_the_file_stays(
    tmp_path: Path, client: str, indent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_of(tmp_path, client, monkeypatch)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = find_client(client).servers
    before = {(table if key == "mcpServers" else key): value for key, value in OTHERS.items()}
    path.write_text(json.dumps(before, indent=indent, ensure_ascii=False) + "\n")
    original = path.read_text()
    path.chmod(0o640)
    run(tmp_path, "--client", client)
    after = json.loads(path.read_text())
    assert list(after)[:3] == list(before)
    assert after[table]["other"] == {"command": "x"}
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.with_name(f"{path.name}.bak").read_text() == original
    run(tmp_path, "--client", client, "--undo")
    assert path.read_text() == original


CODEX_WITH_TOOLS = """[mcp_servers.piapi]
command = "piapi-mcp"

[mcp_servers.piapi.tools.x]
mode = "approve"
"""
CODEX = """# my own words
model = "gpt-9" # the best

[mcp_servers.other] # keep
command = "x"

[mcp_servers.other.env]
A = "b"

[profiles.fast]
model = "gpt-9-mini"
"""


def test_codex_keeps_its_comments(tmp_path: Path) -> None:
    path = tmp_path / ".codex/config.toml"
    path.parent.mkdir()
    path.write_text(CODEX)
    run(tmp_path, "--client", "codex")
    assert path.read_text().startswith(CODEX)
    entry = tomllib.loads(path.read_text())["mcp_servers"]["piapi"]
    assert entry["required"] is True
    assert entry["default_tools_approval_mode"] == "approve"
    path.write_text(path.read_text() + "\n[after]\nx = 1\n")
    run(tmp_path, "--client", "codex", "--sandbox")
    assert tomllib.loads(path.read_text())["mcp_servers"]["piapi"]["args"] == ["--sandbox"]
    run(tmp_path, "--client", "codex", "--undo")
    assert path.read_text().rstrip() == CODEX + "\n[after]\nx = 1"


@pytest.mark.parametrize(
    ("client", "text"),
    [
        pytest.param("cursor", '{\n  // mine\n  "mcpServers": {}\n}\n', id="comments"),
        pytest.param("gemini", '{"mcpServers": ', id="cut-off"),
        pytest.param("claude-desktop", "[]", id="another-form"),
        pytest.param("claude-desktop", '{"mcpServers": []}', id="servers-of-another-form"),
        pytest.param("codex", "[mcp_servers\n", id="broken-toml"),
        pytest.param("codex", 'mcp_servers.piapi = {command = "piapi-mcp"}\n', id="toml-in-one-line"),
        pytest.param("codex", CODEX_WITH_TOOLS, id="toml-with-tables-of-its-own"),
        pytest.param("cursor", '{"mcpServers": {"piapi": {"command": "npx", "args": ["other"]}}}', id="anothers"),
        pytest.param("codex", '[mcp_servers.piapi]\ncommand = "other"\n', id="anothers-in-toml"),
        pytest.param("cursor", '{"mcpServers": {"piapi": null}}', id="no-entry"),
        pytest.param("vscode", '{"servers": {}, "inputs": ["x"]}', id="odd-inputs"),
    ],
)
def test_what_cannot_be_changed_without_loss_is_left_alone(
    tmp_path: Path, client: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_of(tmp_path, client, monkeypatch)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    said = run(tmp_path, "--client", client, status=2)
    assert "is left as it is" in said
    assert "PIAPI_API_KEY" in said  # the block to be pasted
    assert path.read_text() == text
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_another_programs_server_is_not_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    text = '{"mcpServers": {"piapi": {"command": "npx", "args": ["-y", "other-server"]}}}'
    path.write_text(text)
    assert "another server stands there" in run(
        tmp_path, "--client", "cursor", "--config", str(path), "--undo", status=2
    )
    assert path.read_text() == text


def test_codex_keeps_what_stands_before_the_next_table_and_its_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    run(tmp_path, "--client", "codex", "--config", str(path))
    after = "\n# my profile, keep\n[profiles.a]\nx = 1\n"
    path.write_bytes((path.read_text() + after).replace("\n", "\r\n").encode())
    run(tmp_path, "--client", "codex", "--config", str(path))
    assert b"\n" not in path.read_bytes().replace(b"\r\n", b"")
    run(tmp_path, "--client", "codex", "--config", str(path), "--undo")
    assert path.read_bytes() == after.replace("\n", "\r\n").encode()


def test_codex_is_found_where_it_was_told_to_live(tmp_path: Path) -> None:
    run(tmp_path, "--client", "codex", CODEX_HOME=str(tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere/config.toml").exists()


def test_no_key_is_printed(tmp_path: Path) -> None:
    said = run(tmp_path, "--client", "cursor", "--print", "--with-key", status=2, PIAPI_API_KEY=KEY)
    assert KEY not in said


def test_a_read_only_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text("{}")
    path.chmod(0o444)
    assert "is read-only" in run(tmp_path, "--client", "cursor", "--config", str(path), status=2)
    assert path.read_text() == "{}"


def test_backups_are_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_text('{"a": 1}')
    run(tmp_path, "--client", "cursor", "--config", str(path))
    run(tmp_path, "--client", "cursor", "--config", str(path), "--name", "second")
    assert path.with_name("mcp.json.bak").read_text() == '{"a": 1}'
    assert "second" not in path.with_name("mcp.json.bak2").read_text()
    assert list(servers(path, "cursor")) == ["piapi", "second"]


def test_installed_twice_it_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    run(tmp_path, "--client", "vscode", "--config", str(path))
    first = path.read_text()
    run(tmp_path, "--client", "vscode", "--config", str(path))
    assert path.read_text() == first
    assert not path.with_name("mcp.json.bak").exists()


def test_what_its_user_added_since_survives(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    run(tmp_path, "--client", "vscode", "--config", str(path))
    document = json.loads(path.read_text())
    document["servers"]["piapi"]["env"]["PIAPI_OUTPUT_DIR"] = "/images"
    document["servers"]["piapi"]["disabled"] = True
    document["servers"]["mine"] = {"command": "y"}
    path.write_text(json.dumps(document))
    run(tmp_path, "--client", "vscode", "--config", str(path))
    entry = servers(path, "vscode")["piapi"]
    assert entry["env"] == {"PIAPI_API_KEY": "${input:piapi_api_key}", "PIAPI_OUTPUT_DIR": "/images"}
    assert entry["disabled"] is True
    run(tmp_path, "--client", "vscode", "--config", str(path), "--undo")
    assert json.loads(path.read_text()) == {"servers": {"mine": {"command": "y"}}}


def test_a_link_to_the_file_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "dotfiles.json").write_text("{}")
    link = tmp_path / "mcp.json"
    link.symlink_to(tmp_path / "dotfiles.json")
    run(tmp_path, "--client", "cursor", "--config", str(link))
    assert link.is_symlink()
    assert "piapi" in (tmp_path / "dotfiles.json").read_text()


def test_printing_changes_nothing(tmp_path: Path) -> None:
    shown = run(tmp_path, "--client", "claude-code", "--print", "--sandbox")
    assert json.loads(shown)["mcpServers"]["piapi"]["args"][-1] == "--sandbox"
    assert list(tmp_path.iterdir()) == []


def test_undoing_where_nothing_is_says_so(tmp_path: Path) -> None:
    assert "there is no server piapi" in run(tmp_path, "--client", "gemini", "--undo")
    assert list(tmp_path.iterdir()) == []


def test_the_choices_are_the_clients() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "piapi_mcp", "install", "--help"], capture_output=True, text=True, check=True
    )
    assert "{" + ",".join(NAMES) + "}" in done.stdout
