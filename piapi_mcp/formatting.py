"""Formats callers' values, PiAPI's words and amounts of money for texts."""

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
