"""Draws `docs/demo.svg`, the image of the README: what `piapi-mcp demo` says, as a terminal shows it.

python packaging/draw_demo.py
"""

import html
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
WIDTH_CHARS = 100
LINE_PX, CHAR_PX, TOP_PX, LEFT_PX = 21, 8.43, 56, 24
COLOURS = {"dim": "#8b8fa8", "good": "#8fe388", "paid": "#ffc43d", "plain": "#e6e6f0"}


def say() -> list[str]:
    """Run the demo and return what it says up to the results, as a terminal leaves it."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "piapi_mcp", "demo", "--output", output]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = said.partition("\nYour results:")[0].splitlines()
    # A bar changes in place on a terminal: only the last of several is left.
    shown = [line for line, after in zip(lines, [*lines[1:], ""], strict=True) if not (is_bar(line) and is_bar(after))]
    return [line for line, before in zip(shown, ["", *shown], strict=False) if line or not is_bar(before)]


def is_bar(line: str) -> bool:
    """Say whether *line* shows how far a wait has come."""
    return line.lstrip().startswith(("█", "░"))


def colour_of(line: str) -> str:
    """Return the colour that *line* is drawn in."""
    if line.startswith("$"):
        return COLOURS["plain"]
    if is_bar(line) or "checked:" in line:
        return COLOURS["good"]
    return COLOURS["paid"] if "quoted" in line else COLOURS["dim"] if ":" in line[:12] else COLOURS["plain"]


def wrapped(line: str) -> list[str]:
    """Return *line* in pieces that fit."""
    pieces = re.findall(rf".{{1,{WIDTH_CHARS}}}(?:\s|$)", line)
    return [piece.rstrip() for piece in pieces] or [""]


def draw(lines: list[str]) -> str:
    """Return *lines* as a terminal's window."""
    shown = [piece for line in lines for piece in wrapped(line)]
    width = int(LEFT_PX * 2 + CHAR_PX * WIDTH_CHARS)
    height = TOP_PX + LINE_PX * len(shown) + 12
    text = "\n".join(
        f'<text x="{LEFT_PX}" y="{TOP_PX + LINE_PX * number}" fill="{colour_of(line)}" xml:space="preserve">'
        f"{html.escape(line)}</text>"
        for number, line in enumerate(shown)
    )
    dots = "".join(
        f'<circle cx="{24 + 20 * number}" cy="22" r="6" fill="{colour}"/>'
        for number, colour in enumerate(("#ff6058", "#ffbd2e", "#28c840"))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, DejaVu Sans Mono, monospace" font-size="14">\n'
        f'<rect width="{width}" height="{height}" rx="12" fill="#201654"/>\n{dots}\n{text}\n</svg>\n'
    )


if __name__ == "__main__":
    (HERE.parent / "docs").mkdir(exist_ok=True)
    (HERE.parent / "docs/demo.svg").write_text(draw(["$ piapi-mcp demo", *say()]))
