"""One word for one thing: the words that the glossary of docs/how-it-works.md replaced are gone."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PATTERNS = (
    "*.md",
    "docs/**/*.md",
    "plugin/**/*.md",
    "examples/*",
    "benchmarks/*",
    "packaging/*.py",
    "piapi_mcp/**/*.py",
    "tests/**/*.py",
    "tests/server/tools_list.json",
)
TEXTS = sorted(
    path
    for pattern in PATTERNS
    for path in ROOT.glob(pattern)
    if path.suffix in (".py", ".md", ".json") and path != Path(__file__)
)

# Only what has no other meaning in this project: words such as "order", "record", "promise" and "look" have one.
RETIRED_WORDS = {
    "image": r"pictures?",
    "service pool": r"desks?",
    "Poller": r"watchers?",
    "Submitter": r"buyers?",
    "lease": r"signs?[ _]of[ _]life",
    "a limit's refusal": r"too[ _]dear",
    "ledger": r"(?<!durable )record of submissions",
    "SSRF check": r"fence",
    "the outcome is unknown": r"nobody can say",
    "poll or read a task": r"look(s|ed|ing)? at (a|the|each|this|its|one|some) task",
    "poll": r"(a|the|two|few|each|last|next|first|every|no|close|longest) looks?",
}
"""Patterns of retired words and phrases, by what replaces them."""

RETIRED_CLASSES = {"Order", "Wish", "Options", "Draft", "Entry", "Purchase", "Buyer", "Watcher", "Desk", "Reach"}


@pytest.mark.parametrize("word", RETIRED_WORDS)
def test_a_retired_word_is_gone(word: str) -> None:
    retired = re.compile(rf"(?<![A-Za-z])({RETIRED_WORDS[word]})(?![A-Za-z])", re.IGNORECASE)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in TEXTS
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if retired.search(line)
    ]
    assert not found, f"say {word!r} instead:\n" + "\n".join(found)


def test_no_class_has_a_retired_name() -> None:
    found = {
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in (ROOT / "piapi_mcp").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and node.name.removeprefix("_") in RETIRED_CLASSES
    }
    assert found == set()
