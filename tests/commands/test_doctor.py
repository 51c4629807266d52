"""`piapi-mcp doctor`, with everything in order and with everything wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from piapi_mcp import __version__
from piapi_mcp.settings import Settings
from tests.commands.conftest import CommandResult, RunCommand
from tests.support.stdio_server import KEY


def run_in_new_process(home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person does: its output goes through the streams of a real process."""
    return subprocess.run(
        [sys.executable, "-m", "piapi_mcp", "doctor", *arguments],
        env={"PATH": os.environ["PATH"], "HOME": str(home), **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=home,
    )


def checks_in(done: CommandResult) -> dict[str, tuple[bool, str]]:
    """Return whether each check succeeded, and its text, from the JSON report."""
    report: dict[str, Any] = json.loads(done.out)
    assert report["ok"] == (done.status == 0)
    return {check["check"]: (check["ok"], check["text"]) for check in report["checks"]}


def test_every_check_succeeds_when_everything_is_set_up(settings: Settings, tmp_path: Path) -> None:
    done = run_in_new_process(tmp_path, PIAPI_API_KEY=KEY, PIAPI_BASE_URL=settings.base_url)
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert [line[0] for line in lines[:7]] == ["✓"] * 7
    assert f"✓ versions: piapi-mcp {__version__}, Python" in lines[0]
    assert "✓ key: accepted, balance $10.0, plan creator" in lines
    assert f"✓ results: will be saved in {tmp_path}/Downloads/piapi-mcp" in lines
    assert "✓ video: a generated clip was read: 320x180 px, 48 frames" in lines
    assert "Everything is set up." in lines
    assert KEY not in done.stdout
    assert not (tmp_path / "Downloads").exists()


def test_the_configuration_in_the_report_starts_this_installation(run_command: RunCommand) -> None:
    shown = json.loads(run_command("doctor", "--sandbox", "--json").out)["configuration"]["mcpServers"]["piapi"]
    assert Path(shown["command"]).is_absolute()
    done = subprocess.run([shown["command"], *shown.get("args", []), "--version"], capture_output=True, check=True)
    assert done.stdout.decode().strip() == f"piapi-mcp {__version__}"


def test_without_a_key_it_says_where_to_get_one(settings: Settings, run_command: RunCommand) -> None:
    checks = checks_in(run_command("doctor", "--json", PIAPI_BASE_URL=settings.base_url))
    assert [name for name, (is_ok, _) in checks.items() if not is_ok] == ["key"]
    assert "https://piapi.ai/workspace/key" in checks["key"][1]


def test_each_wrong_part_of_the_setup_fails_its_own_check(
    settings: Settings, tmp_path: Path, run_command: RunCommand
) -> None:
    blocked = tmp_path / "a-file"
    blocked.touch()
    checks = checks_in(
        run_command(
            "doctor",
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
    assert [name for name, (is_ok, _) in checks.items() if is_ok] == ["versions", "PiAPI", "video"]
    assert "wrong-key" not in str(checks)
    assert "PIAPI_STATE_DIR" in checks["ledger"][1]
    assert "Set PIAPI_OUTPUT_DIR" in checks["results"][1]
    assert "there is no folder" in checks["your files"][1]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        pytest.param({"PIAPI_SERVICE_MOD": "public"}, "Did you mean PIAPI_SERVICE_MODE?", id="misspelt"),
        pytest.param({"PIAPI_API_KEY": "${PIAPI_API_KEY}"}, "placeholder", id="not-filled-in"),
        pytest.param({"PIAPI_MAX_COST_USD": "much"}, "Allowed: a number of US dollars", id="unusable"),
    ],
)
def test_a_wrong_setting_is_explained(
    settings: Settings, run_command: RunCommand, given: dict[str, str], text: str
) -> None:
    done = run_command("doctor", PIAPI_BASE_URL=settings.base_url, **given)
    assert done.status == 1
    assert any(re.match(r"\S+ settings: ", line) and text in line for line in done.out.splitlines())


def test_an_unreachable_piapi_fails_two_checks(run_command: RunCommand) -> None:
    checks = checks_in(run_command("doctor", "--json", PIAPI_API_KEY=KEY, PIAPI_BASE_URL="http://127.0.0.1:1"))
    assert not checks["PiAPI"][0]
    assert not checks["key"][0]
    assert "could not be reached" in checks["PiAPI"][1]


def test_a_wrong_setting_hides_no_other_check(settings: Settings, run_command: RunCommand) -> None:
    wrong = {"PIAPI_SERVICE_MODE": "free", "PIAPI_OUTPUT_DIR": "below"}
    done = run_command("doctor", "--json", PIAPI_API_KEY=KEY, PIAPI_BASE_URL=settings.base_url, **wrong)
    checks = [(check["check"], check["ok"]) for check in json.loads(done.out)["checks"]]
    assert checks.count(("settings", False)) == 2
    assert ("key", True) in checks


def test_a_terminal_without_check_marks_gets_letters(settings: Settings, tmp_path: Path) -> None:
    misspelt = {"PIAPI_SERVICE_MOD": "public"}
    done = run_in_new_process(tmp_path, PIAPI_BASE_URL=settings.base_url, PYTHONIOENCODING="ascii", **misspelt)
    assert "OK PiAPI:" in done.stdout
    assert "!! key:" in done.stdout
    assert "!! settings:" in done.stdout
    assert done.stderr == ""  # the report says it; the log does not say it again
