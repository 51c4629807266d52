"""Draws `docs/demo.svg`, the image in the README: the output of `piapi-mcp demo` as a terminal shows it.

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


def run_demo() -> list[str]:
    """Run the demo and return its output up to the results, as a terminal shows it at the end."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "piapi_mcp", "demo", "--output", output]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = printed.partition("\nYour results:")[0].splitlines()
    # A terminal draws each progress bar over the previous one, so only the last one is visible.
    shown = [line for line, after in zip(lines, [*lines[1:], ""], strict=True) if not (is_bar(line) and is_bar(after))]
    return [line for line, before in zip(shown, ["", *shown], strict=False) if line or not is_bar(before)]


def is_bar(line: str) -> bool:
    """Say whether *line* is a progress bar."""
    return line.lstrip().startswith(("█", "░"))


def colour_of(line: str) -> str:
    """Return the colour of *line*."""
    if line.startswith("$"):
        return COLOURS["plain"]
    if is_bar(line) or "checked:" in line:
        return COLOURS["good"]
    return COLOURS["paid"] if "quoted" in line else COLOURS["dim"] if ":" in line[:12] else COLOURS["plain"]


def wrap(line: str) -> list[str]:
    """Return *line* wrapped to the terminal's width."""
    parts = re.findall(rf".{{1,{WIDTH_CHARS}}}(?:\s|$)", line)
    return [part.rstrip() for part in parts] or [""]


def draw(lines: list[str]) -> str:
    """Return an SVG image of a terminal window that shows *lines*."""
    shown = [part for line in lines for part in wrap(line)]
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
    (HERE.parent / "docs/demo.svg").write_text(draw(["$ piapi-mcp demo", *run_demo()]))
