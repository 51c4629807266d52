"""Only addresses of the public internet are public, in whatever form they are embedded in another address."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piapi_mcp.media.ssrf import is_public_address

NOT_PUBLIC = """
    0.0.0.0 10.1.2.3 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 168.63.129.16 169.254.169.254 172.16.0.1
    172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1
    239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::7f00:1 ::ffff:127.0.0.1 ::ffff:a00:1 64:ff9b::a00:1
    64:ff9b::169.254.169.254 64:ff9b:1::808:808 100::1 2001::1 2001:db8::1 2002:7f00:1:: 2002:808:808:: 3fff::1 fc00::1
    fd00:ec2::254 fe80::1 fe80::1%lo fec0::1 ff02::1 2606:4700::1%eth0
"""


@pytest.mark.parametrize("address", NOT_PUBLIC.split())
def test_an_internal_or_reserved_address_is_not_public_address(address: str) -> None:
    assert not is_public_address(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public_address(address)


@given(st.ip_addresses(v=4))
def test_an_address_is_as_public_as_the_one_it_embeds(address: object) -> None:
    assert (
        is_public_address(f"::ffff:{address}")
        == is_public_address(f"64:ff9b::{address}")
        == is_public_address(str(address))
    )
