"""An offline file of networks and where they are, as CSV: `network,country,latitude,longitude`.

The columns of MaxMind's and DB-IP's CSV files under the names `country_iso_code` and `latitude`, `longitude` are
understood as well; other columns are left alone. Kept in memory as arrays, 34 bytes a network; a longer prefix wins.
"""

from __future__ import annotations

import csv
import ipaddress
from array import array
from bisect import bisect_right
from pathlib import Path

from rempart.detection.ports import Place
from rempart.kernel.errors import BadInput

MAX_NETWORKS = 8_000_000
_REMEDY = "give a CSV file with the columns network, country, latitude, longitude"


class GeoCsv:
    """Implements `detection.ports.Places`. Networks of one file don't overlap, or the more exact one comes later."""

    def __init__(self) -> None:
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        self._ends: dict[int, list[int]] = {4: [], 6: []}
        self._coordinates: dict[int, array[float]] = {4: array("f"), 6: array("f")}
        self._countries: dict[int, list[str]] = {4: [], 6: []}

    @staticmethod
    def read(path: Path) -> GeoCsv:
        """Raises BadInput `bad_geo_file` naming the line."""
        places = GeoCsv()
        rows: dict[int, list[tuple[int, int, str, float, float]]] = {4: [], 6: []}
        known: dict[str, str] = {}
        line = 1
        try:
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    line += 1
                    network = ipaddress.ip_network(row["network"])
                    country = (row.get("country") or row.get("country_iso_code") or "").upper()
                    latitude, longitude = float(row["latitude"]), float(row["longitude"])
                    if len(country) != 2 or not (abs(latitude) <= 90 and abs(longitude) <= 180):
                        raise ValueError("no country of two letters, or no place on earth")
                    first, last = int(network[0]), int(network[-1])
                    rows[network.version].append((first, last, known.setdefault(country, country), latitude, longitude))
                    if line > MAX_NETWORKS:
                        raise ValueError(f"more than {MAX_NETWORKS} networks")
        except KeyError as error:
            raise BadInput("bad_geo_file", f"{path} has no column {error}", _REMEDY) from None
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise BadInput("bad_geo_file", f"{path}, line {line}: {error}", _REMEDY) from None
        for version, found in rows.items():
            for first, last, country, latitude, longitude in sorted(found, key=lambda one: (one[0], -one[1])):
                places._starts[version].append(first)
                places._ends[version].append(last)
                places._countries[version].append(country)
                places._coordinates[version].extend((latitude, longitude))
        return places

    def locate(self, ip: str) -> Place | None:
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        number, version = int(address), address.version
        at = bisect_right(self._starts[version], number) - 1
        for _ in range(8):  # a network around several others: they lie between its start and the address
            if at < 0:
                return None
            if number <= self._ends[version][at]:
                latitude, longitude = self._coordinates[version][2 * at : 2 * at + 2]
                return Place(self._countries[version][at], latitude, longitude)
            at -= 1
        return None
