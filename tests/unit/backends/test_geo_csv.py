"""An offline file of places: which network wins, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from rempart.backends.geo_csv import GeoCsv
from rempart.kernel.errors import BadInput

FILE = """network,country,latitude,longitude
198.51.0.0/16,FR,48.9,2.4
198.51.100.0/24,JP,35.7,139.7
203.0.113.7/32,br,-23.5,-46.6
2001:db8::/32,US,40.7,-74.0
"""


def places(directory: Path, text: str = FILE) -> GeoCsv:
    (directory / "geo.csv").write_text(text)
    return GeoCsv.read(directory / "geo.csv")


@pytest.mark.parametrize(
    ("ip", "country"),
    [
        ("198.51.1.1", "FR"),
        ("198.51.100.0", "JP"),
        ("198.51.100.255", "JP"),
        ("198.51.101.0", "FR"),
        ("198.52.0.0", None),
        ("0.0.0.0", None),
        ("203.0.113.7", "BR"),
        ("203.0.113.8", None),
        ("2001:db8::5", "US"),
        ("2001:db9::5", None),
        ("::ffff:198.51.100.1", "JP"),
        ("localhost", None),
        ("", None),
    ],
)
def test_where_an_address_is(tmp_path: Path, ip: str, country: str | None) -> None:
    found = places(tmp_path).locate(ip)
    assert (found.country if found else None) == country


def test_a_file_as_others_write_it(tmp_path: Path) -> None:
    found = places(tmp_path, "network,geoname_id,country_iso_code,latitude,longitude\n10.0.0.0/8,1,DE,52.5,13.4\n")
    place = found.locate("10.1.2.3")
    assert place is not None
    assert (place.country, round(place.latitude, 1)) == ("DE", 52.5)


@pytest.mark.parametrize(
    "text",
    [
        "net,country\n10.0.0.0/8,FR\n",
        "network,country,latitude,longitude\n10.0.0.0/99,FR,1,1\n",
        "network,country,latitude,longitude\n10.0.0.0/8,France,1,1\n",
        "network,country,latitude,longitude\n10.0.0.0/8,FR,91,1\n",
        "network,country,latitude,longitude\n10.0.0.0/8,FR,,\n",
        "network,country,latitude,longitude\n10.0.0.0/8,FR\n",
    ],
)
def test_a_file_that_is_refused_names_the_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput, match=r"geo\.csv"):
        places(tmp_path, text)
