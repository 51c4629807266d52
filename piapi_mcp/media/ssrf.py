"""Address checks against server-side request forgery: a URL may lead to the public internet only.

Without them, a URL could make this server fetch from its own machine, its network, or a cloud's metadata service.
"""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

# Why no library: each that was tried accepts Azure's metadata service (168.63.129.16) and some other addresses.
#   ssrfguard 0.4.1          6to4 with a public address in it, addresses with a scope id
#   requests-hardened 1.3.0  ::7f00:1, fec0::1; refuses all of NAT64; works with requests only
#   drawbridge 0.1.2         ::7f00:1, 3fff::1, fec0::1; refuses all of NAT64
#   advocate 1.0.0           192.0.0.192; refuses all of IPv6; works with requests only
#   safehttpx 0.2.0          192.0.0.192, 100.64.0.1, 3fff::1; asks Google for the addresses
#   url_jail 0.2.0           192.0.0.192, 224.0.0.1, 64:ff9b::169.254.169.254, 2002:7f00:1::
#   httpx-secure 2.0.0       192.0.0.192, 224.0.0.1, 2002:7f00:1::; connects before it checks
_PUBLIC_V6 = ip_network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
"""How networks without IPv4 reach IPv4 addresses, which are the last 32 bits."""
_BLOCKED_V6 = (
    ip_network("2002::/16"),  # 6to4: contains an IPv4 address, which may be private
    ip_network("3fff::/20"),  # documentation
    ip_network("2001::/23"),  # protocol assignments, among them Teredo, which also contains an IPv4 address
)
# In addition to `is_global`, whose tables differ between Python releases and count some metadata services as public.
_BLOCKED_V4 = (
    ip_network("192.0.0.0/24"),  # protocol assignments; the metadata service of Oracle Cloud
    ip_network("192.88.99.0/24"),  # 6to4 relays
    ip_network("168.63.129.16/32"),  # the metadata service of Azure
)


def is_public_address(address: str) -> bool:
    """Return whether *address*, an IPv4 or IPv6 address as the resolver writes it, belongs to the public internet."""
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return _is_public_v4(ip)
    embedded = _embedded_v4(ip)
    if embedded is not None:
        return _is_public_v4(embedded)
    return ip.scope_id is None and ip in _PUBLIC_V6 and ip.is_global and not any(ip in net for net in _BLOCKED_V6)


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of *host* without duplicates, in the resolver's order.

    The resolver understands every spelling of an address (`127.1`, `0x7f000001`, `2130706433`). To be sure that the
    checked address is the one used, connect to one of the returned addresses and do not resolve the name again.

    Raises:
        OSError: The name cannot be resolved.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # not a valid name in DNS
        raise OSError("not a host name") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _embedded_v4(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped


def _is_public_v4(ip: IPv4Address) -> bool:
    return ip.is_global and not (ip.is_multicast or ip.is_reserved) and not any(ip in net for net in _BLOCKED_V4)
