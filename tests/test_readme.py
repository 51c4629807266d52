"""What the README says, against what the code does."""

import re
from pathlib import Path

from piapi_mcp.api.catalog import IMAGE_LIMITS, IMAGE_USD_PER_MEGAPIXEL, VIDEO_LIMITS, VIDEO_USD_PER_FRAME
from piapi_mcp.serving.tools import build_tools
from piapi_mcp.settings import Settings

README = (Path(__file__).parents[1] / "README.md").read_text()


def column(title: str, number: int) -> list[str]:
    """Return what is set in code in a column of the table below the heading *title*."""
    section = README.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [row.split("|")[1:-1] for row in section.splitlines() if row.startswith("|")][2:]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row[number])]


def test_the_tools_are_those_of_the_server() -> None:
    assert column("Tools", 0) == [tool.name for tool in build_tools()]


def test_the_settings_are_those_that_are_read() -> None:
    assert column("Settings", 0) == [field.alias for field in Settings.model_fields.values()]


def test_the_figures_are_those_of_the_catalog() -> None:
    limits = VIDEO_LIMITS
    assert f"${IMAGE_USD_PER_MEGAPIXEL} a megapixel" in README
    assert f"{IMAGE_LIMITS.max_side_px} px a side" in README
    assert f"${VIDEO_USD_PER_FRAME} a frame" in README
    assert f"{limits.max_width_px}×{limits.max_height_px} px" in README
    assert f"{limits.min_frames}–{limits.max_frames} frames" in README
    assert f"{limits.max_bytes >> 20} MB" in README


def test_it_stays_short() -> None:
    assert len(README.splitlines()) <= 200
