"""The structure of the package: what each room may import, how long a file may be, and where its tests are."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import piapi_mcp

PACKAGE = Path(piapi_mcp.__file__).parent

# Each room, and the rooms it may import; a room may always import itself.
MAY_IMPORT = {
    "errors": set[str](),
    "formatting": {"errors"},
    "settings": {"errors", "formatting"},
    "piapi": {"errors", "formatting"},
    "media": {"errors", "formatting"},
    "ledger": {"errors", "formatting"},
    "tasks": {"piapi", "media", "ledger", "errors", "formatting", "settings"},
    "server": {"tasks", "piapi", "media", "errors", "formatting", "settings"},
    "hosting": {"server", "tasks", "errors", "settings"},
    "sandbox": set[str](),
    "commands": {"tasks", "piapi", "media", "sandbox", "settings", "errors", "formatting"},
    "cli": {"server", "hosting", "commands", "sandbox", "settings", "errors"},
    "__main__": {"cli"},
}

# The server may import only types and constants from these rooms, nothing that uses the network or opens files.
TYPES_ONLY = {"piapi_mcp.piapi.catalog", "piapi_mcp.piapi.models"}

MAX_LINES = 400
TESTS = Path(__file__).parent

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.startswith("piapi_mcp.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_below_it(path: Path) -> None:
    room = room_of(path)
    rooms = {name.split(".")[1] for name in imports_of(path)} - {room, "__version__"}
    assert rooms <= MAY_IMPORT[room]


def test_the_server_imports_only_types_from_piapi_and_media() -> None:
    taken = {name for path in MODULES if room_of(path) == "server" for name in imports_of(path)}
    below = {name.rsplit(".", 1)[0] for name in taken if name.split(".")[1] in ("piapi", "media")}
    assert below <= TYPES_ONLY


def test_nothing_heavy_is_imported_to_list_the_tools() -> None:
    """Ours: clients drop servers that start slowly."""
    script = (
        "import sys; from piapi_mcp.server.build import build_server; from piapi_mcp.settings import Settings;"
        "build_server(Settings.from_env({}));"
        "heavy = {'av', 'PIL', 'httpx', 'sqlite3', 'tomlkit', 'piapi_mcp.sandbox', 'piapi_mcp.media'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    # coverage.py would start in the process and import some of them itself.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_no_file_is_longer_than_its_limit() -> None:
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def test_the_folders_of_tests_are_named_after_the_rooms_that_they_test() -> None:
    folders = {path.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py") if path.parent != TESTS}
    assert folders <= {room_of(path) for path in MODULES}


def test_only_the_commands_print() -> None:
    """Ours: over stdio, stdout belongs to the protocol."""
    printing = {
        room_of(path)
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing <= {"cli", "commands"}
