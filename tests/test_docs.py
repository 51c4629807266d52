"""What the documents say, against what the code does."""

import ast
import importlib
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import piapi_mcp
from piapi_mcp import errors
from piapi_mcp.cli import build_parser
from piapi_mcp.settings import Settings
from tests.test_architecture import MAY_IMPORT

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "piapi_mcp"
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/*.md", "plugin/**/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
HOW_IT_WORKS = (ROOT / "docs/how-it-works.md").read_text()
FACTS = (ROOT / "docs/piapi-facts.md").read_text()
BLOCKS = [
    pytest.param(kind, text, id=f"{path.relative_to(ROOT)}-{number}")
    for path in DOCUMENTS
    for number, (kind, text) in enumerate(
        re.findall(r"^```(\w+)\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)
    )
]
# Commands of other programs, and commands that other tests and the gate run as they are.
OTHERS = (
    "uv tool install ",
    "docker ",
    "pip install ",
    "python3 -m venv .venv",
    "uvicorn ",
    "bash ",
    "python ",
)
TAG = re.compile(r"\[(?P<sources>[^\]\s]+)(?P<date> [^\]]*)?\]")


def rows_of(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head."""
    section = re.split(rf"^## {re.escape(heading)}\n", text, maxsplit=1, flags=re.MULTILINE)[1].partition("\n## ")[0]
    lines = section[section.index("\n|") + 1 :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def code_in(text: str) -> list[str]:
    """Return what is set in code within lines; blocks of code are left out."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))


def names_in_package() -> set[str]:
    """Return the name of every class, function and assigned variable."""
    names: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
    return names


@pytest.mark.parametrize(("kind", "text"), BLOCKS)
def test_every_block_of_code_is_sound(kind: str, text: str) -> None:
    """Configurations parse, our commands are accepted by the command line, Python runs; the rest is known."""
    if kind == "json":
        json.loads(text)
    elif kind == "toml":
        tomllib.loads(text)
    elif kind == "python":
        # In a process of its own, without the settings of the environment.
        environ = {name: value for name, value in os.environ.items() if not name.startswith("PIAPI_")}
        subprocess.run([sys.executable, "-c", text], env=environ, cwd=ROOT, check=True, timeout=60)
    elif kind == "bash":
        for line in text.replace("\\\n", " ").splitlines():
            check_command(line.partition("  #")[0].strip())
    else:
        assert kind in ("text", "mermaid", "nginx")


def check_command(line: str) -> None:
    words = [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]
    if words[:1] == ["piapi-mcp"]:
        build_parser().parse_args(words[1:])
    else:
        assert not words or " ".join(words).startswith(OTHERS), line


def test_the_application_that_servers_are_told_to_import_exists() -> None:
    named = {name for path in DOCUMENTS for name in re.findall(r"\bpiapi_mcp(?:\.\w+)+:\w+", path.read_text())}
    assert named
    for name in named:
        module, _, attribute = name.partition(":")
        assert callable(getattr(importlib.import_module(module), attribute))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_every_error_is_explained() -> None:
    """An error that no caller meets needs no heading, but a mention."""
    page = (ROOT / "docs/errors.md").read_text()
    known = {
        name for name, thing in inspect.getmembers(errors, inspect.isclass) if issubclass(thing, errors.PiAPIError)
    }
    assert set(re.findall(r"^### `(\w+)`$", page, re.MULTILINE)) <= known
    assert known - set(code_in(page)) == {"PiAPIError"}


def test_every_setting_that_a_document_names_exists() -> None:
    known = {field.alias for field in Settings.model_fields.values()} | {"PIAPI_MCP", "PIAPI_LIVE_API_KEY"}
    named = {name for path in DOCUMENTS for name in re.findall(r"\bPIAPI_[A-Z_]+\b", path.read_text())}
    assert named <= known


def test_the_rooms_are_those_of_the_package_and_import_what_the_table_says() -> None:
    table = {code_in(row[0])[0]: set(code_in(row[2])) for row in rows_of(HOW_IT_WORKS, "Rooms")}
    assert table == {room: rooms for room, rooms in MAY_IMPORT.items() if room != "__main__"}
    assert [room for room in table if not (PACKAGE / room).is_dir() and not (PACKAGE / f"{room}.py").is_file()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_that_a_document_names_exists(path: Path) -> None:
    named = [name for name in code_in(path.read_text()) if re.fullmatch(r"[\w/.-]+/\w*\.py", name)]
    assert [name for name in named if not (ROOT / name).exists() and not (PACKAGE / name).exists()] == []


def test_every_name_that_how_it_works_takes_from_the_code_exists() -> None:
    quoted = [name for name in code_in(HOW_IT_WORKS) if re.fullmatch(r"[A-Z]\w*[a-z]\w*(\.\w+)?", name)]
    named = {part for name in quoted for part in name.split(".")}
    assert {"TaskRequest", "Submitter"} <= named
    assert named - names_in_package() == set()


def test_the_states_are_those_of_the_ledger() -> None:
    sections = HOW_IT_WORKS.partition("## The life of a submission\n")[2]
    diagram = set(re.findall(r"^    \S+ --> (\w+):", sections, re.MULTILINE))
    assert diagram == {code_in(row[0])[0] for row in rows_of(HOW_IT_WORKS, "The life of a submission")}
    assert diagram <= {
        node.value
        for path in (PACKAGE / "ledger").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_every_benchmark_is_listed() -> None:
    files = {path.stem for path in ROOT.glob("benchmarks/*.py")} - {"__init__"}
    assert {code_in(row[0])[0] for row in rows_of(HOW_IT_WORKS, "Benchmarks")} == files


def test_every_belief_has_an_id_of_its_own_and_a_source() -> None:
    rows: list[str] = re.findall(r"^\| `\w+\.\w+` \|.*$", FACTS, re.MULTILINE)
    ids = [code_in(row)[0] for row in rows]
    assert len(ids) == len(set(ids))
    assert [row for row in rows if not is_tag(row.split(" | ")[2])] == []


def is_tag(source: str) -> bool:
    """Whether *source* begins with a tag of the legend, and a date."""
    tag = TAG.match(source)
    legend = {row[0] for row in rows_of(FACTS, "Tags")}
    return (
        tag is not None
        and set(tag["sources"].split("/")) <= legend
        and re.fullmatch(r" 20\d\d-[01]\d", tag["date"] or "") is not None
    )


def test_every_tag_in_the_code_is_in_the_legend_and_has_a_date() -> None:
    comments = [
        f"{path.relative_to(ROOT)}:{number}: [{tag}"
        for path in PACKAGE.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for tag in re.findall(r"\[((?:[DRCTI?]/?)+(?: [^\]]*)?\])", line.partition("#")[2])
    ]
    assert comments
    assert [comment for comment in comments if not is_tag(comment[comment.index("[") :])] == []


def test_the_newest_released_version_is_the_one_of_the_package() -> None:
    """The form is that of Keep a Changelog 1.1.0."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[([^\]]+)\]", changelog, re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert headings[1] == piapi_mcp.__version__
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", changelog, re.MULTILINE)) <= kinds
