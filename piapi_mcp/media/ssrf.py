"""Where links may lead: to the public internet, never into the network or the machine that this server runs in."""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

_PUBLIC_V6 = ip_network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
"""How networks without IPv4 reach it; the last 32 bits are the IPv4 address."""
_CLOSED_V6 = (
    ip_network("2002::/16"),  # 6to4: carries an IPv4 address, which may be private
    ip_network("3fff::/20"),  # documentation
    ip_network("2001::/23"),  # protocol assignments; among them Teredo, which carries one too
)
# Python's tables differ from release to release, and metadata services of clouds sit on public-looking addresses.
_CLOSED_V4 = (
    ip_network("192.0.0.0/24"),  # protocol assignments; Oracle Cloud's metadata
    ip_network("192.88.99.0/24"),  # 6to4 relays
    ip_network("168.63.129.16/32"),  # Azure's host
)


def is_public(address: str) -> bool:
    """Say whether *address*, an IPv4 or IPv6 address as the resolver writes it, lies in the public internet."""
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return _is_public_v4(ip)
    embedded = _embedded_v4(ip)
    if embedded is not None:
        return _is_public_v4(embedded)
    return ip.scope_id is None and ip in _PUBLIC_V6 and ip.is_global and not any(ip in net for net in _CLOSED_V6)


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of *host*, each once, as the resolver orders them.

    Whatever the spelling (`127.1`, `0x7f000001`, `2130706433`), these are the addresses that a connection would use:
    whoever connects must use one of them, and not ask for the name again.

    Raises:
        OSError: There is no such host.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a name that no resolver can be asked for
        raise OSError("not a host name") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _embedded_v4(ip: IPv6Address) -> IPv4Address | None:
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped


def _is_public_v4(ip: IPv4Address) -> bool:
    return ip.is_global and not (ip.is_multicast or ip.is_reserved) and not any(ip in net for net in _CLOSED_V4)
