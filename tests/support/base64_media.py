"""A small file to stream as base64."""

from collections.abc import AsyncIterator


class SmallMedia:
    """Seven bytes in base64, in two blocks."""

    base64_length = 12

    async def base64_blocks(self) -> AsyncIterator[bytes]:
        """Yield the base64 text."""
        yield b"AAECAwQF"
        yield b"Bg=="
