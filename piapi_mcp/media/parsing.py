"""What the parsers of videos and images share: how they read bytes, and how they report an unusable file."""

from collections.abc import Callable

ReadAt = Callable[[int, int], bytes]
"""Reads from an offset (first argument) up to a number of bytes (second)."""


class InvalidMediaError(Exception):
    """The file cannot be used; the message says why, in a few words that continue a sentence after a colon."""
