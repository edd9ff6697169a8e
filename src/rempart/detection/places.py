"""Fields that rules may use and no event has: where an address is, and which network it belongs to.

`network` is an IPv4 address by itself and an IPv6 address's /64, which one subscriber owns whole. `geo.country`,
`geo.latitude`, `geo.longitude` come from an offline file (port `Places`); nobody is asked over the network. Without a
file, or where the file is silent (private addresses), rules about places are silent as well.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from .matching import Getter, Own
from .ports import Place, Places


class Enrichment:
    """Safe to share between engines of one thread. Remembers the last few thousand addresses."""

    def __init__(self, places: Places | None = None) -> None:
        self.use(places)
        self.fields: Mapping[str, Getter] = {
            "network": network,
            "geo.country": lambda own: place.country if (place := self._place(own)) else None,
            "geo.latitude": lambda own: place.latitude if (place := self._place(own)) else None,
            "geo.longitude": lambda own: place.longitude if (place := self._place(own)) else None,
        }

    def use(self, places: Places | None) -> None:
        """Look addresses up there from now on."""
        self._locate = lru_cache(4096)(places.locate) if places is not None else None

    def coordinates(self, own: Own) -> tuple[float, float] | None:
        place = self._place(own)
        return None if place is None else (place.latitude, place.longitude)

    def _place(self, own: Own) -> Place | None:
        ip = own.get("ip")
        return self._locate(ip) if self._locate is not None and type(ip) is str else None


def network(own: Own) -> Any:
    ip = own.get("ip")
    return _network(ip) if type(ip) is str else None


@lru_cache(4096)
def _network(ip: str) -> str | None:
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return str(address)
