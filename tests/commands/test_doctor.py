"""`piapi-mcp doctor` as a person runs it, with everything in order and with everything wrong."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from piapi_mcp import __version__
from piapi_mcp.settings import Settings
from tests.support.stdio_server import KEY, inherited_environment

COMMAND = [sys.executable, "-m", "piapi_mcp", "doctor"]


def examine(home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    env = inherited_environment() | {"HOME": str(home)} | settings
    return subprocess.run(
        [*COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=120, check=False, cwd=home
    )


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[bool, str]]:
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["ok"] == (done.returncode == 0)
    return {check["check"]: (check["ok"], check["text"]) for check in said["checks"]}


def test_all_is_well(settings: Settings, tmp_path: Path) -> None:
    done = examine(tmp_path, PIAPI_API_KEY=KEY, PIAPI_BASE_URL=settings.base_url)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert [line[0] for line in lines[:7]] == ["✓"] * 7
    assert f"✓ versions: piapi-mcp {__version__}, Python" in lines[0]
    assert "✓ key: accepted, with a balance of $10.0 on the plan creator" in lines
    assert f"✓ results: saved in {tmp_path}/Downloads/piapi-mcp" in lines
    assert "✓ video: a clip made here was read: 320x180 px, 48 frames" in lines
    assert "All is set up." in lines
    assert KEY not in done.stdout
    assert not (tmp_path / "Downloads").exists()


def test_the_configuration_that_it_shows_works(tmp_path: Path) -> None:
    shown = json.loads(examine(tmp_path, "--sandbox", "--json").stdout)["configuration"]["mcpServers"]["piapi"]
    assert Path(shown["command"]).is_absolute()
    done = subprocess.run([shown["command"], *shown.get("args", []), "--version"], capture_output=True, check=True)
    assert done.stdout.decode().strip() == f"piapi-mcp {__version__}"


def test_without_a_key_it_says_where_to_get_one(settings: Settings, tmp_path: Path) -> None:
    done = examine(tmp_path, "--json", PIAPI_BASE_URL=settings.base_url)
    found = findings(done)
    assert [name for name, (is_good, _) in found.items() if not is_good] == ["key"]
    assert "https://piapi.ai/workspace/key" in found["key"][1]


def test_each_thing_that_is_wrong_is_told_by_itself(settings: Settings, tmp_path: Path) -> None:
    blocked = tmp_path / "a-file"
    blocked.touch()
    found = findings(
        examine(
            tmp_path,
            "--json",
            PIAPI_API_KEY="wrong-key",
            PIAPI_BASE_URL=settings.base_url,
            PIAPI_STATE_DIR=str(blocked / "state"),
            PIAPI_OUTPUT_DIR=str(blocked / "results"),
            PIAPI_ALLOWED_DIRS=str(tmp_path / "gone"),
            PIAPI_SERVICE_MOD="public",
            PIAPI_WEBHOOK_SECRET="${user_config.secret}",
        )
    )
    assert [name for name, (is_good, _) in found.items() if is_good] == ["versions", "PiAPI", "video"]
    assert "wrong-key" not in str(found)
    assert "PIAPI_STATE_DIR" in found["ledger"][1]
    assert "Set PIAPI_OUTPUT_DIR" in found["results"][1]
    assert "there is no folder" in found["your files"][1]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param({"PIAPI_SERVICE_MOD": "public"}, "Did you mean PIAPI_SERVICE_MODE?", id="misspelt"),
        pytest.param({"PIAPI_API_KEY": "${PIAPI_API_KEY}"}, "placeholder", id="not-filled-in"),
        pytest.param({"PIAPI_MAX_COST_USD": "much"}, "Allowed: a number of US dollars", id="unusable"),
    ],
)
def test_settings_are_explained(settings: Settings, tmp_path: Path, given: dict[str, str], text: str) -> None:
    done = examine(tmp_path, PIAPI_BASE_URL=settings.base_url, **given)
    assert done.returncode == 1
    assert any(line.startswith("✗ settings:") and text in line for line in done.stdout.splitlines())
    assert done.stderr == ""


def test_a_piapi_that_is_not_there_is_told(tmp_path: Path) -> None:
    found = findings(examine(tmp_path, "--json", PIAPI_API_KEY=KEY, PIAPI_BASE_URL="http://127.0.0.1:1"))
    assert not found["PiAPI"][0]
    assert not found["key"][0]
    assert "could not be reached" in found["PiAPI"][1]


def test_one_wrong_setting_hides_no_other_check(settings: Settings, tmp_path: Path) -> None:
    wrong = {"PIAPI_SERVICE_MODE": "free", "PIAPI_OUTPUT_DIR": "below"}
    done = examine(tmp_path, PIAPI_API_KEY=KEY, PIAPI_BASE_URL=settings.base_url, **wrong)
    marks = [line[:2] + line.split(":")[0][2:] for line in done.stdout.splitlines() if line[0:1] in ("✓", "✗")]
    assert marks.count("✗ settings") == 2
    assert "✓ key" in marks


def test_a_plain_terminal_gets_plain_marks(settings: Settings, tmp_path: Path) -> None:
    done = examine(tmp_path, PIAPI_BASE_URL=settings.base_url, PYTHONIOENCODING="ascii")
    assert "OK PiAPI:" in done.stdout
    assert "!! key:" in done.stdout
