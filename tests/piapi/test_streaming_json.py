"""JSON bodies with a file in them."""

import pytest

from piapi_mcp.piapi.streaming_json import encode_json
from tests.support.base64_media import SmallMedia


async def test_a_body_with_a_file_is_the_same_json_as_with_its_base64() -> None:
    body = encode_json({"a": 'quo"te', "input": {"video": SmallMedia()}, "z": 1})
    sent = b"".join([block async for block in body.blocks()])
    assert sent == b'{"a": "quo\\"te", "input": {"video": "AAECAwQFBg=="}, "z": 1}'
    assert body.length_bytes == len(sent)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({"a": SmallMedia(), "b": SmallMedia()}, id="two-files"),
        pytest.param({"a": object()}, id="not-json"),
    ],
)
def test_a_value_that_cannot_be_sent_is_refused(payload: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="cannot be sent"):
        encode_json(payload)
