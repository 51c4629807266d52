"""Request bodies: JSON in which a file stands as base64 without ever being in memory as a whole."""

import json
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Base64Media(Protocol):
    """A file that can be read as base64, block by block, as often as wanted."""

    @property
    def base64_length(self) -> int:
        """Length of the base64 text in characters."""
        ...

    def base64_blocks(self) -> AsyncIterator[bytes]:
        """Yield the base64 text from its start."""
        ...


@dataclass(frozen=True)
class JsonBody:
    """A JSON object to send; at most one `Base64Media` in it is streamed in its place."""

    head: bytes
    media: Base64Media | None = None
    tail: bytes = b""

    @property
    def length_bytes(self) -> int:
        """Exact length, so that no chunked encoding is needed."""
        return len(self.head) + len(self.tail) + (self.media.base64_length if self.media else 0)

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the body from its start."""
        yield self.head
        if self.media:
            async for block in self.media.base64_blocks():
                yield block
        yield self.tail


def json_body(payload: Mapping[str, object]) -> JsonBody:
    """Return *payload* as a request body.

    Raises:
        TypeError: If a value is neither JSON nor a `Base64Media`, or if there are two of these.
    """
    # Random, so that no text of a caller can be taken for it; base64 needs no escaping in JSON.
    slot = uuid.uuid4().hex
    media: list[Base64Media] = []

    def place(value: object) -> str:
        if not isinstance(value, Base64Media) or media:
            raise TypeError(f"{type(value).__name__} cannot be sent")
        media.append(value)
        return slot

    head, _, tail = json.dumps(payload, default=place).partition(slot)
    return JsonBody(head.encode(), media[0] if media else None, tail.encode())
