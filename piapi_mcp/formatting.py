"""Formats callers' values, PiAPI's words and amounts of money for texts."""

import re
import unicodedata
from decimal import Decimal

_QUOTE_LIMIT_CHARS = 80


def quote(text: object) -> str:
    """Return *text* on one line, in double quotes, cut at 80 characters.

    Use it for callers' values and PiAPI's words: both are data, so they must not dominate the text or look like part of
    it.
    """
    line = " ".join(str(text).split())
    printable = "".join(c for c in line if c.isprintable()).replace('"', "'")
    if len(printable) > _QUOTE_LIMIT_CHARS:
        printable = printable[: _QUOTE_LIMIT_CHARS - 1] + "…"
    return f'"{printable}"'


def dollars(amount_usd: Decimal | None) -> str:
    """Return *amount_usd* as a person writes it, such as $0.018, never with an exponent."""
    return "an unknown amount" if amount_usd is None else f"${amount_usd.normalize():f}"


def safe_text(text: str, *, max_chars: int) -> str:
    """Return *text* without characters that change how the text around it is shown, cut at *max_chars*.

    Left out: control characters except line breaks and tabs, terminal escapes, bidirectional and invisible formatting
    characters, tags, lone surrogates and private use. Call it once, where text enters from outside.
    """
    cut = text[: 2 * max_chars]  # bounds the work below; what is left out rarely is half of a text
    visible = "".join(c for c in _TERMINAL_ESCAPE.sub("", cut) if c in "\n\t" or not _is_hidden(c))
    return visible if len(visible) <= max_chars else f"{visible[: max_chars - 1]}…"


_TERMINAL_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-Z\\-_]")


def _is_hidden(character: str) -> bool:
    # Cc: control, Cf: format (bidirectional marks, zero width, tags), Cs: surrogate, Co: private use
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co")
