"""JSON request bodies that stream a file as base64, so that the file is never in memory as a whole."""

import json
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Base64Media(Protocol):
    """A file that can be read as base64, block by block, any number of times."""

    @property
    def base64_length(self) -> int:
        """Length of the base64 text in characters."""
        ...

    def base64_blocks(self) -> AsyncIterator[bytes]:
        """Yield the base64 text from its start."""
        ...


@dataclass(frozen=True)
class JsonBody:
    """A JSON object in three parts: what precedes the streamed file, the file, and what follows it."""

    head: bytes
    media: Base64Media | None = None
    tail: bytes = b""

    @property
    def length_bytes(self) -> int:
        """Exact length, so that the request needs no chunked encoding."""
        return len(self.head) + len(self.tail) + (self.media.base64_length if self.media else 0)

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the body from its start."""
        yield self.head
        if self.media:
            async for block in self.media.base64_blocks():
                yield block
        yield self.tail


def encode_json(payload: Mapping[str, object]) -> JsonBody:
    """Return *payload* as a request body.

    Raises:
        TypeError: If a value is neither JSON nor a `Base64Media`, or if there is more than one `Base64Media`.
    """
    # Random, so that it cannot occur in a caller's text; base64 needs no escaping in JSON.
    placeholder = uuid.uuid4().hex
    media: list[Base64Media] = []

    def replace_media(value: object) -> str:
        if not isinstance(value, Base64Media) or media:
            raise TypeError(f"{type(value).__name__} cannot be sent")
        media.append(value)
        return placeholder

    head, _, tail = json.dumps(payload, default=replace_media).partition(placeholder)
    return JsonBody(head.encode(), media[0] if media else None, tail.encode())
