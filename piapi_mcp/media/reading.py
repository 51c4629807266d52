"""What the readers of videos and images share: how they get at bytes, and how they say that these are of no use."""

from collections.abc import Callable

ReadAt = Callable[[int, int], bytes]
"""Reads up to so many bytes (second) from an offset (first)."""


class BrokenFileError(Exception):
    """The bytes are not what they should be; the text says why, in a few words that read on from a colon."""
