"""Features of logins, from `people.login` with what came before it. One row for each login that succeeded.

State: for at most MAX_PERSONS persons the last time, hours of the day, networks, countries and methods they used, and
recent failures; for MAX_NETWORKS networks who logged in from there and failures. Refused logins change the state and
give no row: what nobody got in with is nothing to learn from.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from rempart.detection.matching import Own
from rempart.detection.places import Enrichment, network
from rempart.kernel.event import EventType

from .model import Feature, Row, make_row
from .remembered import Remembered, newness, see
from .time_features import CLOCK, DAY, clock, count_hour, hour_index, surprise

MAX_PERSONS = 10_000
MAX_NETWORKS = 10_000
_FAILURES = 64
_HOUR = 3600.0
_REFUSED = frozenset((EventType.LOGIN_FAILED, EventType.LOGIN_THROTTLED, EventType.FACTOR_FAILED))
_STRONG = frozenset(("otp", "hwk", "swk", "mfa", "sms", "fpt"))
_MOST_LOG = math.log1p(90 * 24)

FEATURES = (
    *CLOCK,
    Feature("own_hour", "bits of surprise at the hour, by the person's own logins", 0, 8, "this hour for this person"),
    Feature(
        "idle",
        "log(1 + hours since the person's last login), 90 days at most",
        0,
        _MOST_LOG,
        "time since the last login",
    ),
    Feature(
        "network_new", "1 for a network first used by the person now, falling to 0 within days", 0, 1, "a new network"
    ),
    Feature("country_new", "as network_new, of countries by the geo file; 0 where it is silent", 0, 1, "a new country"),
    Feature("device_new", "1 when neither device nor network was known to people", 0, 1, "an unknown device"),
    Feature(
        "failures",
        "log(1 + refused attempts of the person within the hour before)",
        0,
        math.log1p(_FAILURES),
        "refused attempts before it",
    ),
    Feature(
        "network_failures",
        "log(1 + refused attempts from the network within the hour)",
        0,
        math.log1p(_FAILURES),
        "refused attempts from its network",
    ),
    Feature("networks_day", "distinct networks of the person within a day", 0, 16, "networks within a day"),
    Feature(
        "network_persons",
        "log(1 + other persons who logged in from the network within a day)",
        0,
        math.log1p(32),
        "other persons from its network",
    ),
    Feature("method_new", "share of the person's logins that used other methods", 0, 1, "another method than usual"),
    Feature("one_factor", "1 when the login rests on one factor", 0, 1, "a single factor"),
)


class _Person(msgspec.Struct, array_like=True):
    last: float = 0.0
    hours: list[float] = msgspec.field(default_factory=lambda: [0.0] * 24)
    networks: dict[str, float] = {}  # first seen
    countries: dict[str, float] = {}
    recent: dict[str, float] = {}  # network → last login
    methods: dict[str, int] = {}
    failures: list[float] = []


class _Network(msgspec.Struct, array_like=True):
    persons: dict[str, float] = {}  # last login
    failures: list[float] = []


class LoginFeatures:
    features = FEATURES

    def __init__(self, places: Enrichment) -> None:
        self._places = places
        self.persons: Remembered[_Person] = Remembered(MAX_PERSONS, _Person)
        self.networks: Remembered[_Network] = Remembered(MAX_NETWORKS, _Network)

    def take(self, own: Own, kind: str, at: float) -> list[Row]:
        person = own.get("person")
        if kind in _REFUSED:
            self._refused(own, person, at)
        elif kind == EventType.LOGIN and type(person) is str and person:
            return [self._login(own, person, at)]
        return []

    def _refused(self, own: Own, person: Any, at: float) -> None:
        details = own.get("details")
        told = details.get("count") if type(details) is dict else None
        times = min(told, _FAILURES) if type(told) is int and told > 1 else 1
        if type(person) is str and person:
            _note(self.persons.of(person).failures, at, times)
        where = network(own)
        if where:
            _note(self.networks.of(where).failures, at, times)

    def _login(self, own: Own, person: str, at: float) -> Row:
        known = self.persons.of(person)
        details = own.get("details")
        details = details if type(details) is dict else {}
        where = network(own) or ""
        values = clock(at)
        hour = hour_index(at)
        values["own_hour"] = surprise(known.hours, hour)
        values["idle"] = math.log1p(max(0.0, at - known.last) / _HOUR) if known.last else _MOST_LOG
        values["failures"] = math.log1p(_within(known.failures, at))
        values["device_new"] = float(details.get("known_place") is not True)
        amr = details.get("amr")
        methods = tuple(str(one)[:16] for one in amr[:8]) if type(amr) is list else ()
        values["one_factor"] = float(not _STRONG.intersection(methods))
        values["method_new"] = _unlike(known.methods, " ".join(methods))
        values |= self._where(own, known, person, where, at)
        count_hour(known.hours, hour)
        known.last = max(known.last, at)
        known.failures.clear()
        return make_row(FEATURES, at, str(own["id"]), f"person:{person}", values)

    def _where(self, own: Own, known: _Person, person: str, where: str, at: float) -> dict[str, float]:
        country = self._places.fields["geo.country"](own)
        first = not known.last
        values = {"network_new": 0.0, "country_new": 0.0, "network_failures": 0.0, "network_persons": 0.0}
        if country:
            values["country_new"] = newness(see(known.countries, country, at, 8), at, first=first)
        if where:
            values["network_new"] = newness(see(known.networks, where, at, 16), at, first=first)
            here = self.networks.of(where)
            values["network_failures"] = math.log1p(_within(here.failures, at))
            others = {name for name, last in here.persons.items() if name != person and abs(at - last) < DAY}
            values["network_persons"] = math.log1p(len(others))
            _latest(here.persons, person, at, 32)
            _latest(known.recent, where, at, 16)
        values["networks_day"] = float(sum(abs(at - last) < DAY for last in known.recent.values()))
        return values

    def forget(self, person: str) -> None:
        self.persons.pop(person)
        for where in self.networks:
            if (known := self.networks.peek(where)) is not None:
                known.persons.pop(person, None)

    def snapshot(self) -> Any:
        return [self.persons.snapshot(), self.networks.snapshot()]

    def restore(self, content: Any) -> None:
        self.persons.restore((key, msgspec.convert(one, _Person)) for key, one in content[0])
        self.networks.restore((key, msgspec.convert(one, _Network)) for key, one in content[1])


def _note(times: list[float], at: float, count: int) -> None:
    times.extend([at] * count)
    del times[:-_FAILURES]


def _within(times: list[float], at: float) -> int:
    return sum(0 <= at - one < _HOUR for one in times)


def _latest(seen: dict[str, float], value: str, at: float, most: int) -> None:
    """`value` goes to the end; the one that was left alone longest goes."""
    last = seen.pop(value, at)
    if len(seen) >= most:
        del seen[next(iter(seen))]
    seen[value] = max(last, at)


def _unlike(methods: dict[str, int], method: str) -> float:
    total = sum(methods.values())
    share = 1 - methods.get(method, 0) / total if total else 0.0
    if method not in methods and len(methods) >= 8:
        del methods[min(methods, key=lambda one: methods[one])]
    methods[method] = methods.get(method, 0) + 1
    return share
