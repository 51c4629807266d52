"""`piapi-mcp install` on the configuration files of every client, in the forms that people's files have."""

import json
import os
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from piapi_mcp.commands.clients import CLIENTS, find_client
from piapi_mcp.commands.launch import launch_command
from piapi_mcp.settings import Settings
from tests.commands.conftest import RunCommand
from tests.support.messages import INITIALIZE
from tests.support.stdio_server import KEY, exchange

NAMES = [client.name for client in CLIENTS]
JSON_NAMES = [client.name for client in CLIENTS if client.config_format == "json"]
OTHERS: dict[str, Any] = {"theme": "dark", "mcpServers": {"other": {"command": "x"}}, "später": [1, 2]}

Run = Callable[..., str]


@pytest.fixture
def run(run_command: RunCommand) -> Run:
    """Return a function that runs `install` and returns what it printed: to stderr if it fails."""

    def install(*arguments: str, status: int = 0, **env: str) -> str:
        done = run_command("install", *arguments, **env)
        assert done.status == status, done.err
        return done.out if status == 0 else done.err

    return install


def config_of(home: Path, client: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the path of the client's configuration in *home*."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("CODEX_HOME", raising=False)
    monkeypatch.chdir(home)
    return find_client(client).find_config()


def servers(path: Path, client: str) -> dict[str, Any]:
    text = path.read_text()
    document = tomllib.loads(text) if client == "codex" else json.loads(text)
    return document[find_client(client).servers_key]


@pytest.mark.parametrize("client", NAMES)
def test_the_entry_starts_this_installation_without_a_key(
    tmp_path: Path, run: Run, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("--client", client)
    entry = servers(config_of(tmp_path, client, monkeypatch), client)["piapi"]
    assert Path(entry["command"]).is_absolute()
    assert [entry["command"], *entry.get("args", [])] == launch_command()
    assert Settings.from_env(entry["env"]).api_key is None  # a blank or an unresolved reference counts as no key


@pytest.mark.parametrize("client", ["cursor", "codex"])
def test_the_server_in_the_entry_answers(
    tmp_path: Path, run: Run, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client with JSON and a reference to the key, one with TOML and a blank."""
    run("--client", client)
    entry = servers(config_of(tmp_path, client, monkeypatch), client)["piapi"]
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
    assert "No PiAPI key is set" in str(answer)


@pytest.mark.parametrize("client", NAMES)
def test_no_key_is_written_unless_it_is_asked_for(
    tmp_path: Path, run: Run, client: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = run("--client", client, PIAPI_API_KEY=KEY)
    path = config_of(tmp_path, client, monkeypatch)
    assert KEY not in path.read_text() + printed
    printed = run("--client", client, "--with-key", PIAPI_API_KEY=KEY)
    assert servers(path, client)["piapi"]["env"] == {"PIAPI_API_KEY": KEY}
    assert KEY not in printed
    run("--client", client)
    assert servers(path, client)["piapi"]["env"] == {"PIAPI_API_KEY": KEY}  # the key that the user filled in stays


def test_with_key_needs_a_key_in_the_environment(run: Run) -> None:
    assert "it is not set" in run("--client", "cursor", "--with-key", status=2)


@pytest.mark.parametrize("client", JSON_NAMES)
@pytest.mark.parametrize("indent", [2, 4, "\t"])
def test_everything_else_in_the_file_stays(
    tmp_path: Path, run: Run, client: str, indent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config_of(tmp_path, client, monkeypatch)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = find_client(client).servers_key
    before = {(table if key == "mcpServers" else key): value for key, value in OTHERS.items()}
    path.write_text(json.dumps(before, indent=indent, ensure_ascii=False) + "\n")
    original = path.read_text()
    path.chmod(0o640)
    run("--client", client)
    after = json.loads(path.read_text())
    assert list(after)[:3] == list(before)
    assert after[table]["other"] == {"command": "x"}
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.with_name(f"{path.name}.bak").read_text() == original
    run("--client", client, "--undo")
    assert path.read_text() == original


CODEX = """# my own words
model = "gpt-9" # the best

[mcp_servers.other] # keep
command = "x"

[mcp_servers.other.env]
A = "b"

[profiles.fast]
model = "gpt-9-mini"
"""


def test_comments_and_order_in_toml_stay(tmp_path: Path, run: Run) -> None:
    path = tmp_path / ".codex/config.toml"
    path.parent.mkdir()
    path.write_text(CODEX)
    run("--client", "codex")
    assert path.read_text().startswith(CODEX)
    entry = tomllib.loads(path.read_text())["mcp_servers"]["piapi"]
    assert entry["required"] is True
    assert entry["default_tools_approval_mode"] == "approve"
    path.write_text(path.read_text() + "\n[after]\nx = 1\n")
    run("--client", "codex", "--sandbox")
    assert tomllib.loads(path.read_text())["mcp_servers"]["piapi"]["args"] == ["--sandbox"]
    run("--client", "codex", "--undo")
    assert path.read_text().rstrip() == CODEX + "\n[after]\nx = 1"


SPLIT_TABLES = """[mcp_servers.piapi]
command = "piapi-mcp"

# whose comment is this?
[profiles.fast]
model = "gpt-9-mini"

[mcp_servers.piapi.env]
PIAPI_API_KEY = ""
"""


@pytest.mark.parametrize(
    ("client", "text"),
    [
        pytest.param("cursor", '{\n  // mine\n  "mcpServers": {}\n}\n', id="comments"),
        pytest.param("gemini", '{"mcpServers": ', id="cut-off"),
        pytest.param("claude-desktop", "[]", id="no-object"),
        pytest.param("claude-desktop", '{"mcpServers": []}', id="servers-of-another-form"),
        pytest.param("codex", "[mcp_servers\n", id="broken-toml"),
        pytest.param("codex", "a = 1\na = 2\n", id="toml-with-a-key-twice"),
        pytest.param("codex", "mcp_servers = 1\n", id="toml-servers-of-another-form"),
        pytest.param("codex", "[[mcp_servers]]\nx = 1\n", id="toml-servers-in-an-array"),
        pytest.param("codex", 'mcp_servers = {other = {command = "x"}}\n', id="toml-servers-in-one-line"),
        pytest.param("codex", SPLIT_TABLES, id="toml-tables-apart"),
        pytest.param(
            "cursor", '{"mcpServers": {"piapi": {"command": "npx", "args": ["other"]}}}', id="another-programs-server"
        ),
        pytest.param("codex", '[mcp_servers.piapi]\ncommand = "other"\n', id="another-programs-server-in-toml"),
        pytest.param("cursor", '{"mcpServers": {"piapi": null}}', id="entry-of-another-form"),
        pytest.param("vscode", '{"servers": {}, "inputs": ["x"]}', id="odd-inputs"),
    ],
)
def test_a_file_that_cannot_be_edited_without_loss_is_not_changed(
    tmp_path: Path, run: Run, client: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = config_of(tmp_path, client, monkeypatch)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    printed = run("--client", client, status=2)
    assert "was not changed" in printed
    assert "PIAPI_API_KEY" in printed  # in the block to add by hand
    assert path.read_text() == text
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_another_programs_server_is_not_removed(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "mcp.json"
    text = '{"mcpServers": {"piapi": {"command": "npx", "args": ["-y", "other-server"]}}}'
    path.write_text(text)
    assert "that is not piapi-mcp" in run("--client", "cursor", "--config", str(path), "--undo", status=2)
    assert path.read_text() == text


def test_a_comment_before_the_next_table_and_line_ends_stay_in_toml(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "config.toml"
    run("--client", "codex", "--config", str(path))
    after = "\n# my profile, keep\n[profiles.a]\nx = 1\n"
    path.write_bytes((path.read_text() + after).replace("\n", "\r\n").encode())
    run("--client", "codex", "--config", str(path))
    assert b"\n" not in path.read_bytes().replace(b"\r\n", b"")
    run("--client", "codex", "--config", str(path), "--undo")
    assert path.read_bytes() == after.replace("\n", "\r\n").encode()


def test_codex_home_says_where_the_configuration_is(tmp_path: Path, run: Run) -> None:
    run("--client", "codex", CODEX_HOME=str(tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere/config.toml").exists()


def test_print_never_prints_a_key(run: Run) -> None:
    printed = run("--client", "cursor", "--print", "--with-key", status=2, PIAPI_API_KEY=KEY)
    assert KEY not in printed


def test_a_read_only_file_is_left_alone(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "mcp.json"
    path.write_text("{}")
    path.chmod(0o444)
    assert "is read-only" in run("--client", "cursor", "--config", str(path), status=2)
    assert path.read_text() == "{}"


def test_backups_are_never_overwritten(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "mcp.json"
    path.write_text('{"a": 1}')
    run("--client", "cursor", "--config", str(path))
    run("--client", "cursor", "--config", str(path), "--name", "second")
    assert path.with_name("mcp.json.bak").read_text() == '{"a": 1}'
    assert "second" not in path.with_name("mcp.json.bak2").read_text()
    assert list(servers(path, "cursor")) == ["piapi", "second"]


def test_a_second_installation_changes_nothing(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "mcp.json"
    run("--client", "vscode", "--config", str(path))
    first = path.read_text()
    run("--client", "vscode", "--config", str(path))
    assert path.read_text() == first
    assert not path.with_name("mcp.json.bak").exists()


def test_what_the_user_added_to_the_entry_stays(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "mcp.json"
    run("--client", "vscode", "--config", str(path))
    document = json.loads(path.read_text())
    document["servers"]["piapi"]["env"] |= {"PIAPI_OUTPUT_DIR": "/images", "PIAPI_STATE_DIR": "${userHome}/s"}
    document["servers"]["piapi"]["disabled"] = True
    document["servers"]["mine"] = {"command": "y"}
    path.write_text(json.dumps(document))
    run("--client", "vscode", "--config", str(path))
    entry = servers(path, "vscode")["piapi"]
    assert entry["env"] == {
        "PIAPI_API_KEY": "${input:piapi_api_key}",
        "PIAPI_OUTPUT_DIR": "/images",
        "PIAPI_STATE_DIR": "${userHome}/s",
    }
    assert entry["disabled"] is True
    run("--client", "vscode", "--config", str(path), "--undo")
    assert json.loads(path.read_text()) == {"servers": {"mine": {"command": "y"}}}


def test_a_link_to_the_file_stays_a_link(tmp_path: Path, run: Run) -> None:
    (tmp_path / "dotfiles.json").write_text("{}")
    link = tmp_path / "mcp.json"
    link.symlink_to(tmp_path / "dotfiles.json")
    run("--client", "cursor", "--config", str(link))
    assert link.is_symlink()
    assert "piapi" in (tmp_path / "dotfiles.json").read_text()


def test_printing_changes_nothing(tmp_path: Path, run: Run) -> None:
    shown = run("--client", "claude-code", "--print", "--sandbox")
    assert json.loads(shown)["mcpServers"]["piapi"]["args"][-1] == "--sandbox"
    assert list(tmp_path.iterdir()) == []


def test_undo_without_an_entry_says_so(tmp_path: Path, run: Run) -> None:
    assert "there is no server piapi" in run("--client", "gemini", "--undo")
    assert list(tmp_path.iterdir()) == []


def test_every_client_can_be_chosen(run: Run) -> None:
    assert "{" + ",".join(NAMES) + "}" in run("--help", COLUMNS="200")


@pytest.mark.parametrize(
    ("client", "text"),
    [
        pytest.param("claude-desktop", "Write your PiAPI key between the quotes after PIAPI_API_KEY", id="blank"),
        pytest.param("codex", "Write your PiAPI key between the quotes after PIAPI_API_KEY", id="blank-in-toml"),
        pytest.param("cursor", "set PIAPI_API_KEY", id="reference"),
        pytest.param("vscode", "VS Code asks for your PiAPI key", id="input"),
    ],
)
def test_it_says_how_the_server_gets_the_key(tmp_path: Path, run: Run, client: str, text: str) -> None:
    path = tmp_path / "config"
    assert text in run("--client", client, "--config", str(path))
    printed = run("--client", client, "--config", str(path), "--name", "second", "--with-key", PIAPI_API_KEY=KEY)
    assert "do not share it" in printed
    assert "PIAPI_API_KEY" not in printed
    assert "PIAPI_API_KEY" not in run("--client", client, "--config", str(path), "--name", "third", "--sandbox")


def test_a_byte_order_mark_and_line_ends_stay_in_json(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "mcp.json"
    original = '\ufeff{\r\n  "a": 1\r\n}\r\n'.encode()
    path.write_bytes(original)
    run("--client", "cursor", "--config", str(path))
    assert path.read_bytes().startswith(original[:5])
    assert b"\n" not in path.read_bytes().replace(b"\r\n", b"")
    document = json.loads(path.read_text("utf-8-sig"))
    assert document["a"] == 1
    assert document["mcpServers"].keys() == {"piapi"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("\n", id="blank-line"),
        pytest.param("# only\n# comments\n", id="only-comments"),
        pytest.param("a = 1\n\n\n", id="blank-lines-at-the-end"),
        pytest.param("[mcp_servers]\n", id="header-of-all-servers"),
        pytest.param("[mcp_servers] # mine\n\n[profiles.a]\nx = 1\n", id="header-of-all-servers-before-others"),
        pytest.param('[mcp_servers.b]\nc = "x"\n[p]\ny = 1\n[mcp_servers]\n', id="header-of-all-servers-late"),
        pytest.param('[mcp_servers.b]\nc = "x"\n\n[p]\ny = 1\n', id="other-server-further-up"),
        pytest.param('mcp_servers.b.command = "x"\n', id="other-server-in-dotted-keys"),
        pytest.param('mcp_servers.b = {command = "x"} # mine\n', id="other-server-in-one-line"),
        pytest.param("[[list]]\nx = 1\n[list.sub]\ny = 1\n[[list]]\nx = 2\n", id="array-of-tables"),
        pytest.param('a = """\n[mcp_servers.piapi]\n# no\n"""\n', id="header-within-a-text"),
        pytest.param("\ufeff# mark\r\na = 1\r\n", id="byte-order-mark-and-crlf"),
    ],
)
def test_undo_restores_every_form_of_toml(tmp_path: Path, run: Run, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode())
    run("--client", "codex", "--config", str(path))
    assert path.read_bytes().decode().startswith(text)
    assert tomllib.loads(path.read_text("utf-8-sig"))["mcp_servers"]["piapi"]["required"] is True
    run("--client", "codex", "--config", str(path))  # an existing entry is found again
    run("--client", "codex", "--config", str(path), "--undo")
    assert path.read_bytes() == text.encode()


@pytest.mark.parametrize(
    "tables",
    [
        pytest.param('[mcp_servers.piapi]\ncommand = "piapi-mcp" # mine\n\n# why\nargs = []\n', id="comments"),
        pytest.param('[mcp_servers.piapi]\ncommand = "piapi-mcp"\n[mcp_servers.piapi.tools.x]\na = 1\n', id="tables"),
        pytest.param('[mcp_servers.piapi]\ncommand = "piapi-mcp"\n[[mcp_servers.piapi.x]]\na = 1\n', id="array"),
        pytest.param('[ mcp_servers . "piapi" ]\n  command = "piapi-mcp"\n  timeout = 5\n', id="quoted-and-indented"),
        pytest.param('[mcp_servers.piapi]\ncommand = "piapi-mcp"\nenv = {A = "b"}\n', id="env-in-one-line"),
        pytest.param('[mcp_servers.piapi]\ncommand = "piapi-mcp"\nenv.A = "b"\n', id="env-in-dotted-keys"),
        pytest.param('[mcp_servers]\npiapi = {command = "piapi-mcp", timeout = 5}\n', id="one-line"),
    ],
)
def test_an_existing_entry_in_toml_is_edited_where_it_is(tmp_path: Path, run: Run, tables: str) -> None:
    path = tmp_path / "config.toml"
    before, after = "# first\na = 1\n\n", "\n# next\n[profiles.a]\nx = 1\n"
    path.write_text(before + tables + after)
    earlier = servers(path, "codex")["piapi"]
    run("--client", "codex", "--config", str(path), "--sandbox")
    run("--client", "codex", "--config", str(path))
    text = path.read_text()
    assert text.startswith(before)
    assert text.endswith(after)
    assert [comment for comment in ("# mine", "# why") if comment in tables and comment not in text] == []
    entry = servers(path, "codex")["piapi"]
    assert entry["command"] == launch_command()[0]
    assert entry["env"] == {"PIAPI_API_KEY": ""} | earlier.get("env", {})
    assert {field: entry[field] for field in earlier if field not in ("command", "args", "env")} == {
        field: value for field, value in earlier.items() if field not in ("command", "args", "env")
    }
    run("--client", "codex", "--config", str(path), "--undo")
    header = "[mcp_servers]\n" if tables.startswith("[mcp_servers]") else ""
    assert path.read_text() in (before + header + after, before[:-1] + after)


def test_an_entry_in_dotted_keys_is_removed(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "config.toml"
    ours = 'mcp_servers.piapi.command = "piapi-mcp"\nmcp_servers.piapi.args = []\n'
    path.write_text(f'{ours}mcp_servers.b.command = "x"\n')
    run("--client", "codex", "--config", str(path), "--undo")
    assert path.read_text() == 'mcp_servers.b.command = "x"\n'
