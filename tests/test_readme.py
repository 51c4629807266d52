"""Compares what the README and the documents say with what the code does."""

import inspect
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from piapi_mcp import errors
from piapi_mcp.cli import build_parser
from piapi_mcp.piapi.catalog import IMAGE_LIMITS, IMAGE_USD_PER_MEGAPIXEL, VIDEO_LIMITS, VIDEO_USD_PER_FRAME
from piapi_mcp.server.tools import build_tools
from piapi_mcp.settings import Settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])
BLOCKS = [
    pytest.param(kind, text, id=f"{path.relative_to(ROOT)}-{number}")
    for path in DOCUMENTS
    for number, (kind, text) in enumerate(
        re.findall(r"^```(\w+)\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)
    )
]
# Commands of other programs, and commands that other tests or .ci/run execute.
FOREIGN_COMMANDS = (
    "uv tool install ",
    "docker ",
    "pip install ",
    "python3 -m venv .venv",
    "uvicorn ",
    "bash ",
    "python ",
)


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


def test_it_has_at_most_200_lines() -> None:
    assert len(README.splitlines()) <= 200


@pytest.mark.parametrize(("kind", "text"), BLOCKS)
def test_every_code_block_is_valid(kind: str, text: str) -> None:
    """Configurations parse, the command line accepts our commands, and other commands are expected ones."""
    if kind == "json":
        json.loads(text)
    elif kind == "toml":
        tomllib.loads(text)
    elif kind == "bash":
        for line in text.replace("\\\n", " ").splitlines():
            check_command(line.partition("  #")[0].strip())
    else:
        assert kind in ("text", "mermaid", "python", "nginx")


def check_command(line: str) -> None:
    words = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
    if words[:1] == ["piapi-mcp"]:
        build_parser().parse_args(words[1:])
    else:
        assert not words or " ".join(words).startswith(FOREIGN_COMMANDS), line


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_has_a_target(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_every_error_is_explained() -> None:
    page = (ROOT / "docs/errors.md").read_text()
    known = {
        name for name, thing in inspect.getmembers(errors, inspect.isclass) if issubclass(thing, errors.PiAPIError)
    }
    assert set(re.findall(r"^### `(\w+)`$", page, re.MULTILINE)) == known - {"PiAPIError", "RefusedError"} | {
        "RefusedError"
    }


def test_every_setting_that_a_document_names_exists() -> None:
    known = {field.alias for field in Settings.model_fields.values()} | {"PIAPI_MCP", "PIAPI_LIVE_API_KEY"}
    named = {name for path in DOCUMENTS for name in re.findall(r"\bPIAPI_[A-Z_]+\b", path.read_text())}
    assert named <= known
