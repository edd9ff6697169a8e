"""Generated events with known anomalies, to see what the models find of them. Repeatable by seed; nobody's traffic.

Usual traffic is made hard on purpose: people who travel, change devices, forget passwords, work at night; programs with
nightly jobs; late deployments. Anomalies, all in the last quarter of the time:

* logins: `stolen_password` (new network abroad, unknown device), `guessed` (refusals, then in, from a new network),
  `night` (own device and network, at an hour the person never works), `shared_host` (one network logs in to six
  persons), `one_factor` (a person with two factors suddenly with one, from a new network).
* api: `scraping` (hundreds of objects in minutes), `probing` (many denied, paths never used), `night`, `lateral` (a
  workload calls services it never called), `slow_scrape` (three times the usual objects and no more).
* deployments: `stranger` (by who never did), `night`, `rollback` (an old image), `rewrite` (many settings at once).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .model import Subject
from .time_features import DAY

BEGIN = 1_767_571_200.0  # 2026-01-05, a Monday
_ABROAD = 0.02
Own = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Staged:
    """`label` is empty for what is usual."""

    own: Own
    label: str = ""


def staged(subject: Subject, days: int, seed: int) -> list[Staged]:
    """In the order of time, ids unique."""
    chance = random.Random(f"{subject.value} {seed}")  # nosec B311 - traffic, no secret
    makers = {Subject.LOGINS: _logins, Subject.API: _api, Subject.DEPLOYMENTS: _deployments}
    found = sorted(makers[subject](chance, days), key=lambda one: one.own["at"])
    for number, one in enumerate(found):
        one.own["id"] = f"evt_{subject.value}_{number}"
    return found


def _event(kind: str, source: str, at: float, **more: Any) -> Own:
    return {"type": kind, "source": source, "at": int((BEGIN + at) * 1000), "success": True, **more}


def _usual_time(chance: random.Random, day: int, begin: float, end: float) -> float:
    """Most between the two hours, a few around them."""
    hour = chance.triangular(begin, end) if chance.random() < 0.94 else chance.gauss((begin + end) / 2, 4)
    return day * DAY + (hour % 24) * 3600 + chance.uniform(0, 60)


# -- logins ----------------------------------------------------------------------------------------------------------


def _login(person: str, at: float, ip: str, *, known: bool, amr: list[str]) -> Own:
    return _event("people.login", "people", at, person=person, ip=ip, details={"amr": amr, "known_place": known})


def _refused(person: str, at: float, ip: str) -> Own:
    return _event("people.login_failed", "people", at, success=False, person=person, ip=ip, details={"account": person})


def _logins(chance: random.Random, days: int) -> Iterator[Staged]:
    people = []
    for number in range(60):
        begin = chance.choice((6, 7, 8, 8, 9, 9, 10, 21))  # one in eight works at night
        two = chance.random() < 0.4
        people.append((f"usr_{number}", begin, begin + chance.uniform(7, 10), f"10.1.{number}.1", two))
    for day in range(days):
        for person, begin, end, home, two in people:
            if day % 7 >= 5 and chance.random() < 0.85:
                continue
            for _ in range(chance.choice((1, 1, 2, 3, 4))):
                yield from _usual_login(chance, person, _usual_time(chance, day, begin, end), home, two)
    late = int(days * 0.75)
    for day in range(late, days):
        for kind in ("stolen_password", "guessed", "night", "one_factor"):
            if chance.random() < 0.8:
                yield from _bad_login(chance, kind, day, chance.choice(people))
        if chance.random() < 0.4:
            host, at = f"198.51.{chance.randrange(99)}.9", (day + chance.uniform(0.3, 0.7)) * DAY
            for number, one in enumerate(chance.sample(people, 6)):
                yield Staged(_login(one[0], at + 60 * number, host, known=False, amr=["pwd"]), "shared_host")


def _usual_login(chance: random.Random, person: str, at: float, home: str, two: bool) -> Iterator[Staged]:
    number = home.split(".")[2]
    odd = chance.random()
    ip, known = home, True
    if odd < 0.15:
        ip = f"100.64.{number}.{chance.randrange(3)}"  # one of three mobile networks
    elif odd < 0.15 + _ABROAD:
        ip, known = f"203.0.{chance.randrange(200)}.{chance.randrange(200)}", chance.random() < 0.5
    elif odd < 0.20:
        known = False  # a new browser at home
    for _ in range(chance.choice((0,) * 12 + (1, 1, 2, 3))):
        yield Staged(_refused(person, at - chance.uniform(5, 120), ip))
    yield Staged(_login(person, at, ip, known=known, amr=["pwd", "otp", "mfa"] if two else ["pwd"]))


def _bad_login(chance: random.Random, kind: str, day: int, who: tuple[Any, ...]) -> Iterator[Staged]:
    person, begin, _, home, two = who
    at = (day + chance.random()) * DAY
    amr = ["pwd", "otp", "mfa"] if two else ["pwd"]
    host = f"192.0.{chance.randrange(250)}.{chance.randrange(250)}"
    if kind == "night":
        at = day * DAY + ((begin + 14 + chance.uniform(0, 4)) % 24) * 3600
        yield Staged(_login(person, at, home, known=True, amr=amr), kind)
        return
    if kind == "one_factor":
        amr = ["pwd"]
    for _ in range(chance.randrange(6, 20) if kind == "guessed" else chance.randrange(3)):
        yield Staged(_refused(person, at - chance.uniform(5, 900), host))
    yield Staged(_login(person, at, host, known=False, amr=amr), kind)


# -- api -------------------------------------------------------------------------------------------------------------


def _decision(who: str, at: float, path: str, service: str, *, allow: bool = True, method: str = "GET") -> Own:
    person = not who.startswith("spiffe://")
    request = {"pep": "gateway" if person else service, "method": method, "path": path}
    about = {"person": who} if person else {"workload": who}
    ip = {"ip": f"10.1.{who[4:]}.1"} if person else {}
    return _event("decision", "pdp", at, success=allow, service=service, **request, **about, **ip)


_KINDS = (("wallet", "/wallet/{}"), ("payments", "/payments/{}/state"), ("users", "/users/{}"))


def _api(chance: random.Random, days: int) -> Iterator[Staged]:
    people = [(f"usr_{n}", chance.choice((7, 8, 9, 10)), chance.sample(_KINDS, 2)) for n in range(24)]
    programs = [f"spiffe://bank.example/job-{n}" for n in range(4)]
    late = int(days * 0.75)
    for day in range(days):
        for person, begin, kinds in people:
            if day % 7 < 5 or chance.random() < 0.1:
                for _ in range(chance.randrange(4, 12)):
                    at = _usual_time(chance, day, begin, begin + 9)
                    yield from _browse(chance, person, at, kinds, chance.choice((4, 6, 8, 10, 15, 30)))
        for program in programs:
            for hour in range(0, 24, 2):
                yield from _browse(chance, program, day * DAY + hour * 3600 + 60, _KINDS[:1], chance.randrange(5, 9))
        if day >= late:
            yield from _bad_use(chance, day, people, programs)


def _browse(
    chance: random.Random, who: str, at: float, kinds: Any, count: int, label: str = "", objects: int = 6
) -> Iterator[Staged]:
    at = at // 300 * 300 + 5  # within one window
    for _ in range(count):
        service, path = chance.choice(kinds)
        writing = "POST" if chance.random() < 0.15 else "GET"
        allow = chance.random() > 0.02
        shown = path.format(chance.randrange(objects))
        yield Staged(_decision(who, at + chance.uniform(0, 290), shown, service, allow=allow, method=writing), label)


def _bad_use(chance: random.Random, day: int, people: Any, programs: list[str]) -> Iterator[Staged]:
    def daytime() -> float:
        return (day + chance.uniform(0.38, 0.7)) * DAY

    person, begin, kinds = chance.choice(people)
    yield from _browse(chance, person, daytime(), kinds, 250, "scraping", objects=5000)
    person, begin, kinds = chance.choice(people)
    yield from _browse(chance, person, daytime(), kinds, 36, "slow_scrape", objects=60)
    person, begin, kinds = chance.choice(people)
    at = day * DAY + ((begin + 15) % 24) * 3600
    yield from _browse(chance, person, at, kinds, 10, "night")
    person, at = chance.choice(people)[0], daytime() // 300 * 300 + 5
    for number in range(25):
        path = f"/admin/{chance.choice('abcdefgh')}/part{chance.choice('ijkl')}"
        yield Staged(_decision(person, at + number, path, "users", allow=chance.random() < 0.2), "probing")
    at = daytime() // 300 * 300 + 5
    for number in range(12):
        service, path = chance.choice(_KINDS[1:])
        yield Staged(_decision(programs[0], at + number * 9, path.format(number), service), "lateral")


# -- deployments -----------------------------------------------------------------------------------------------------


def _deployments(chance: random.Random, days: int) -> Iterator[Staged]:
    releases = [f"service-{n}" for n in range(40)]
    owners = {release: chance.sample(("ana", "ben", "cem", "dia"), 2) for release in releases}
    count = 0
    for day in range(days):
        for release in releases:
            if day % 7 < 5 and chance.random() < 0.6:
                count += 1
                actor = "ci" if chance.random() < 0.7 else chance.choice(owners[release])
                at = _usual_time(chance, day, 9, 17)
                yield Staged(_deployed(chance, release, actor, at, f"sha256:{count}", chance.choice((0, 1, 1, 2, 5))))
        if day >= int(days * 0.75) and day % 7 < 5:
            release = chance.choice(releases)
            at, night = (day + chance.uniform(0.4, 0.7)) * DAY, (day + chance.uniform(0.02, 0.15)) * DAY
            for kind, actor, when, digest, changes in (
                ("stranger", f"new{day}", at, f"sha256:s{day}", 1),
                ("night", "ci", night, f"sha256:n{day}", 1),
                ("rollback", "ci", at + 99, f"sha256:{max(1, count - 40)}", 2),
                ("rewrite", "ci", at + 999, f"sha256:r{day}", 60),
            ):
                if chance.random() < 0.6:
                    yield Staged(_deployed(chance, release, actor, when, digest, changes), kind)


def _deployed(chance: random.Random, release: str, actor: str, at: float, digest: str, changes: int) -> Own:
    before = {f"key{n}": 0 for n in range(80)}
    after = {**before, **{f"key{n}": 1 for n in chance.sample(range(80), changes)}}
    details = {"release": release, "environment": "production", "digest": digest}
    more = {"operator": actor, "details": details, "before": before, "after": after}
    return _event("delivery.deployment", "delivery", at, **more)
