"""Attacks on the search of the record and on what follows it: by what is searched for, and by what is to be found."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from urllib.parse import quote

from .host import direct
from .model import Actor, Attack, Outcome, blocked, got_through, not_tried, refused
from .record import find
from .registered import Registered, having
from .scene import Scene
from .wire import NoAnswer, Reply

_SYNTAX = (
    '" OR key:d1 OR "',
    "key:d0",
    "{key path words}:a",
    "NEAR(a b)",
    "a AND (",
    "^",
    "*",
    '"""',
    "a\0b",
    "' OR 1=1 --",
    "%",
    "\ud7ff",
)
_NARROW = ("decision=deny", "type=people.login", "text=wallet", "since=1m")
_BROAD = ("text=a*", "text=u*", "text=g*", "path=*", "path=/*", "decision=allow")


def attacks() -> Iterator[Attack]:
    for parameter in ("text", "path", "person", "rule"):
        yield Attack(
            f"T-search-{parameter}",
            Actor.INSIDER,
            f"The search's own language in `{parameter}`",
            f"an auditor searches by {parameter} for the operators of SQL and of the full-text index",
            "they are words: nothing is found that was not asked for, nothing breaks",
            lambda scene, parameter=parameter: _syntax(scene, parameter),  # type: ignore[misc]  # mypy infers no default argument
        )
    yield Attack(
        "R-search-as-another",
        Actor.STOLEN_TOKEN,
        "An event under another's name",
        "a refused request whose path and user agent hold the index's key of another person",
        "a search by that person doesn't find it",
        _as_another,
    )
    yield Attack(
        "D-search-flood",
        Actor.INSIDER,
        "Searches that find everything",
        "an auditor asks 60 broad questions at once, while somebody works and another auditor searches",
        "the work goes on and is recorded, the other auditor is answered; of the 60 some are refused",
        having(_flood),
        alone=True,
    )
    yield Attack(
        "D-search-bounds",
        Actor.INSIDER,
        "Searches without bounds",
        "limits, positions and times that are none, huge or negative; unknown and repeated parameters",
        "400",
        _bounds,
    )
    yield direct(
        "I-socket-feed", "The whole record in order", "connect to the feeds of the record", ("run/feed/*.sock",)
    )


def _syntax(scene: Scene, parameter: str) -> Outcome:
    auditor = scene.session("audit")
    last = Reply(0)
    for word in _SYNTAX:
        if parameter == "path" and word == "*":
            continue  # means: any path
        last = scene.get(f"/logs?limit=5&{parameter}={quote(word, errors='replace')}", auditor)
        if last.status == 400:
            continue
        if last.status != 200 or not isinstance(last.json, dict):
            return got_through(f"{word!r}: {last.said}", last.evidence)
        wrong = [event["id"] for event in last.json["events"] if not _says(event, parameter, word)]
        if wrong:
            return got_through(f"{word!r} finds {wrong[0]}", last.evidence)
    return blocked(f"{len(_SYNTAX)} found nothing else", "what is searched for is a value", last.evidence)


def _says(event: dict[str, object], parameter: str, word: str) -> bool:
    """Whether the event has any word of `word` where it was looked for."""
    where = " ".join(str(value) for value in event.values()) if parameter == "text" else str(event.get(parameter, ""))
    parts = ["".join(c for c in part if c.isalnum()) for part in word.split()]
    return all(part.lower() in where.lower() for part in parts if part) and any(parts)


def _as_another(scene: Scene) -> Outcome:
    if len(scene.accounts) < 2:
        return not_tried("there is nobody else")
    mine, victim = scene.session("user"), scene.session("audit")
    key = "p" + blake2b(victim.id.encode(), digest_size=8).hexdigest()
    target = f"{scene.private}?x={key}%20key:{key}"
    reply = scene.ask("GET", target, (*mine.bearer, ("User-Agent", f"{key} key:{key}")))
    if not reply.evidence or not find(scene, reply.evidence):
        return not_tried(f"it is not in the record: {reply.said}")
    for parameters in (f"person={quote(victim.id)}", f"person={quote(victim.id)}&text={key}"):
        found = scene.get(f"/logs?limit=200&{parameters}", victim)
        if found.status != 200 or not isinstance(found.json, dict):
            return got_through(found.said, found.evidence)
        if any(event.get("person") != victim.id for event in found.json["events"]):
            return got_through("it stands among the other's", found.evidence)
    return blocked(reply.said, "keys and free text are different columns", reply.evidence)


def _flood(made: Registered) -> Outcome:
    scene = made.scene
    flooding, auditor, user = scene.login(made.auditing), scene.session("audit"), scene.session("user")
    statuses: list[int] = []

    def search(query: str) -> None:
        try:
            statuses.append(scene.get(f"/logs?limit=1000&{query}", flooding).status)
        except NoAnswer:
            statuses.append(0)

    threads = [threading.Thread(target=search, args=(query,), daemon=True) for query in _BROAD * 10]
    for thread in threads:
        thread.start()
    started = time.monotonic()
    reply = scene.get(scene.private, user)
    took = time.monotonic() - started
    others = [scene.get(f"/logs?limit=5&{query}", auditor).status for query in _NARROW]
    for thread in threads:
        thread.join(30)
    if any(status >= 500 and status != 503 for status in statuses):
        return got_through(f"searches were answered {sorted(set(statuses))}", reply.evidence)
    if took > 3.0:
        return got_through(f"a request took {took:.1f} s meanwhile", reply.evidence)
    if any(status != 200 for status in others):
        return got_through(f"another auditor's searches were answered {others}", reply.evidence)
    if not reply.evidence or not find(scene, reply.evidence, within=10.0):
        return got_through("what happened meanwhile is not in the record", reply.evidence)
    observed = f"a request took {took * 1000:.0f} ms; of the searches {statuses.count(429)} were refused"
    return blocked(observed, "one search of a principal at a time, in turns with the others'", reply.evidence)


def _bounds(scene: Scene) -> Outcome:
    queries: Sequence[str] = (
        *("limit=0", "limit=1001", "limit=-1", f"limit={'9' * 400}", "limit=1e3", "before=-1", "before=x", "after=1.5"),
        *("since=never", "until=%00", "since=99999999999w", "decision=maybe", "type=", "bogus=1", "text=a&text=b"),
        *(f"text={'a' * 3000}", "&".join(f"x{n}=1" for n in range(200))),
    )
    last = Reply(0)
    for query in queries:
        last = scene.get(f"/logs?{query}", scene.session("audit"))
        outcome = refused(last, 400, 413, 414, 431)
        if not outcome.blocked:
            return got_through(f"{query[:60]}: {last.said}", last.evidence)
    return refused(last, 400, 413, 414, 431)
