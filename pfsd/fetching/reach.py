"""Where the daemon goes for a client: to public addresses, to itself, and to networks that it was told to allow.

Otherwise whoever may put a file could read what answers only this machine or its network: other daemons, a cloud's
metadata, pages for administrators.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from pfsd.errors import InvalidError

Network = IPv4Network | IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Where a gateway that translates has the addresses of version 4 (RFC 6052)."""


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a fetch may go."""

    own_address: str = ""
    """HOST:PORT of the daemon itself, which gives a client no more than the client could ask for."""
    allowed: tuple[Network, ...] = ()
    """Networks beside the public addresses."""

    def permits(self, address: str) -> bool:
        """Whether an IP address may be connected to."""
        found = _meant(ipaddress.ip_address(address.partition("%")[0]))
        return _is_public(found) or any(found in network for network in self.allowed)

    def permits_host(self, host: str) -> bool:
        """Whether a host may be asked for through a proxy: a name is left to the proxy."""
        try:
            return self.permits(host.strip("[]"))
        except ValueError:
            return host.rstrip(".").lower() != "localhost" or self.permits("127.0.0.1")

    @staticmethod
    def refusal(shown: str) -> InvalidError:
        """What is said of a URL that leads where it may not."""
        return InvalidError(
            f"the URL {shown} leads to this machine or to a private network: pfsd has to be started with "
            "--allow-fetch NETWORK to go there"
        )


ANYWHERE = Reach(allowed=(ipaddress.IPv4Network("0.0.0.0/0"), ipaddress.IPv6Network("::/0")))
"""For who fetches for himself."""


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """The networks that are written as 10.0.0.0/8, fd00::/8, or as an address; raises InvalidError."""
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text, strict=False))
        except ValueError:
            raise InvalidError(f"{text} is no network: write one as 10.0.0.0/8 or fd00::/8") from None
    return tuple(found)


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The address of version 4 that one of version 6 stands for, or itself."""
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    return address.is_global and not address.is_multicast
