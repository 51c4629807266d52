"""What the README says, against what the code does."""

import re
from pathlib import Path

from piapi_mcp.commands.clients import CLIENTS
from piapi_mcp.piapi.catalog import (
    IMAGE_LIMITS,
    IMAGE_USD_PER_MEGAPIXEL,
    RESULTS_KEPT_DAYS,
    VIDEO_LIMITS,
    VIDEO_USD_PER_FRAME,
)
from piapi_mcp.server.tools import build_tools
from piapi_mcp.settings import Settings

README = (Path(__file__).parents[1] / "README.md").read_text()


def column(title: str, number: int) -> list[str]:
    """Return what is marked as code in a column of the table below the heading *title*."""
    section = README.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [row.split("|")[1:-1] for row in section.splitlines() if row.startswith("|")][2:]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row[number])]


def test_the_table_of_tools_names_the_tools_of_the_server() -> None:
    assert column("Tools", 0) == [tool.name for tool in build_tools()]


def test_the_table_of_settings_names_the_settings_that_are_read() -> None:
    assert column("Settings", 0) == [field.alias for field in Settings.model_fields.values()]


def test_prices_and_limits_are_those_of_the_catalog() -> None:
    limits = VIDEO_LIMITS
    assert f"${IMAGE_USD_PER_MEGAPIXEL} a megapixel" in README
    assert f"{IMAGE_LIMITS.max_side_px} px a side" in README
    assert f"${VIDEO_USD_PER_FRAME} a frame" in README
    assert f"{limits.max_width_px}×{limits.max_height_px} px" in README
    assert f"{limits.min_frames}–{limits.max_frames} frames" in README
    assert f"{limits.max_bytes >> 20} MB" in README


def test_the_time_that_results_are_kept_is_that_of_the_catalog() -> None:
    days = {3: "three"}[RESULTS_KEPT_DAYS]
    assert f"PiAPI deletes results after about {days} days" in README


def test_the_default_rate_limit_is_that_of_the_settings() -> None:
    assert f"Default {Settings.model_fields['requests_per_second'].default}; 0 for no limit" in README


def test_install_knows_the_clients_that_are_listed() -> None:
    listed = re.search(r"^`install` knows (.*?)\. ", README, re.MULTILINE)
    assert listed is not None
    assert re.findall(r"`([^`]+)`", listed[1]) == [client.name for client in CLIENTS]


def test_the_demo_and_the_tests_are_one_command_each() -> None:
    """Ours: new users start with these, and other documents and listings quote them."""
    for command in (
        "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/piapi-mcp demo",
        "python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m pytest",
    ):
        assert f"```bash\n{command}\n```" in README


def test_it_stays_short() -> None:
    assert len(README.splitlines()) <= 200
