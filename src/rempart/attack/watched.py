"""Getting past the watch: hidden below thresholds, spread, backdated, repeated, drowned in other alerts, framed.

What a compromised service can tell is told to the running system, over that service's own events socket. What takes
hours or thousands of addresses is told to an engine with the same rules, event by event as the log
would have them.
"""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rempart.kernel.event import Event, EventType
from rempart.kernel.ids import new_id
from rempart.protocols.ocsf import encode

from .model import Actor, Attack, Outcome, blocked, got_through, not_tried
from .record import find
from .scene import Scene
from .wire import NoAnswer, Reply, exchange
from .wire import encode as request

_SERVICE = "wallet"
_ALERTS = ("alert.raised",)
_YEAR = 365 * 86_400.0
_FLOOD = 30  # alerts of one rule in an hour, says docs/detections.md
_MAX_GROUPS = 10_000  # of one rule, says the same page
_EVIL = "{count.__class__}*?\x1b[31m\n<b>%s"


def attacks() -> Iterator[Attack]:
    told = "a compromised service tells "
    for id, title, tried, expected, run in (
        ("R-watch-backdated", "Backdated events", told + "rollbacks of a year ago", "the alert comes", _backdated),
        (
            "R-watch-future",
            "Events of the future",
            told + "one of the year 2100 to have the others forgotten",
            "the alert comes",
            _future,
        ),
        ("R-watch-shuffled", "Events out of order", told + "the last rollback first", "the alert comes", _shuffled),
        ("R-watch-framed", "An alert about somebody innocent", told + "one rollback twenty times", "no alert", _framed),
        (
            "T-watch-injection",
            "Templates and escapes in events",
            told + "wildcards, templates and terminal escapes",
            "the alert comes and holds none of them",
            _injection,
        ),
        ("S-watch-forged", "A forged alert", told + "an alert, and an event under an alert's id", "400", _forged),
    ):
        yield Attack(id, Actor.ROGUE_WORKLOAD, title, tried, expected, run, needs=("/wallet",))
    for id, title, tried, expected, simulated in (
        ("R-watch-slow-spray", "A slow spray", "25 accounts, one in half an hour", "an alert", _slow_spray),
        ("R-watch-slow-money", "Slow rollbacks", "40 rollbacks, one in twenty minutes", "an alert", _slow_money),
        (
            "R-watch-spread",
            "Guessing from many networks",
            "one account from eight networks, one in two hours",
            "an alert",
            _spread,
        ),
        (
            "R-watch-collapsed",
            "Behind a count",
            "guesses so fast that they are recorded as a number",
            "an alert",
            _collapsed,
        ),
        (
            "R-watch-hopping",
            "Hopping within a network",
            "twenty paths from twenty addresses of one IPv6 /64",
            "an alert",
            _hopping,
        ),
        (
            "D-watch-flood",
            "A flood of alerts",
            "two hundred stolen tokens at once, to hide a stolen session",
            "few alerts, and the one that matters",
            _flood,
        ),
        (
            "D-watch-groups",
            "A flood of groups",
            "guesses at 12,000 accounts, to have one be forgotten",
            "the alert about that one",
            _groups,
        ),
    ):
        yield Attack(id, Actor.OUTSIDER, title, tried, expected, simulated)


# -- told to the running system --------------------------------------------------------------------------------------


class _NoSocket(Exception):
    """The adversary can't act as the service here."""


def _with_socket(run: Callable[[Scene], Outcome]) -> Callable[[Scene], Outcome]:
    def attack(scene: Scene) -> Outcome:
        try:
            return run(scene)
        except _NoSocket as reason:
            return not_tried(str(reason))

    return attack


def _post(scene: Scene, events: Sequence[dict[str, Any]]) -> Reply:
    if scene.means.state is None:
        raise _NoSocket("without a foot on the host")
    path = scene.means.state / "run" / "events" / f"{_SERVICE}.sock"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(8.0)
        try:
            connection.connect(str(path))
        except OSError as error:
            raise _NoSocket(f"the service's socket can't be reached: {error.strerror}") from None
        body = json.dumps({"events": list(events)}).encode()
        return exchange(connection, request("POST", "/events", (("Content-Type", "application/json"),), body))[0]


def _rollback(person: str, at: float, **more: Any) -> dict[str, Any]:
    details = {"kind": "rollback", "amount": 1}
    return {"id": new_id("evt"), "type": "money.rolled_back", "at": at, "success": True, "person": person,
            "role": "finance", "details": details, **more}  # fmt: skip


def _nobody() -> str:
    return f"usr_{secrets.token_hex(13)}"


def _alerted(scene: Scene, person: str, events: Sequence[dict[str, Any]]) -> Outcome:
    for event in events:
        reply = _post(scene, [event])
        if reply.status != 204:
            raise NoAnswer(f"an event was answered {reply.said}")
    found = find(scene, person, _ALERTS, within=8.0)
    if not found:
        return got_through("the watch said nothing")
    alert = json.loads(found[0])
    return blocked(f"alert {alert['rule']}", "detection", str(alert["id"]))


@_with_socket
def _backdated(scene: Scene) -> Outcome:
    person, then = _nobody(), time.time() - _YEAR
    return _alerted(scene, person, [_rollback(person, then + n * 86_400) for n in range(5)])


@_with_socket
def _future(scene: Scene) -> Outcome:
    person, now = _nobody(), time.time()
    events = [_rollback(person, now + n) for n in range(3)]
    return _alerted(scene, person, [*events, _rollback(person, 4_102_444_800.0), _rollback(person, now + 9)])


@_with_socket
def _shuffled(scene: Scene) -> Outcome:
    person, now = _nobody(), time.time()
    return _alerted(scene, person, [_rollback(person, now - 60 * n) for n in range(5)])


@_with_socket
def _framed(scene: Scene) -> Outcome:
    person = _nobody()
    event = _rollback(person, time.time())
    for _ in range(20):
        _post(scene, [event])
    if found := find(scene, person, _ALERTS, within=3.0):
        return got_through("one event gave an alert", str(json.loads(found[0])["id"]))
    return blocked("no alert", "events count once", event["id"])


@_with_socket
def _injection(scene: Scene) -> Outcome:
    person = _nobody()
    more = {"reason": _EVIL, "role": _EVIL, "ip": _EVIL, "request_id": _EVIL}
    events = [_rollback(person, time.time() + n, **more) for n in range(5)]
    outcome = _alerted(scene, person, events)
    found = find(scene, person, _ALERTS, within=1.0)
    if any(part in text for text in found for part in ("__class__", "\\u001b", "<b>", "%s")):
        return got_through("text from outside stands in the alert")
    return outcome


@_with_socket
def _forged(scene: Scene) -> Outcome:
    event = _rollback(_nobody(), time.time())
    replies = [
        _post(scene, [{**event, "type": kind, "id": id}])
        for kind, id in (
            ("alert.raised", event["id"]),
            ("system.alarm", event["id"]),
            ("application", "alr_" + "0" * 26),
        )
    ]
    passed = next((reply for reply in replies if reply.status != 400), None)
    if passed is not None:
        return got_through(passed.said)
    return blocked(replies[0].said, "what an application may record", "POST /events at the service's socket")


# -- told to an engine -----------------------------------------------------------------------------------------------


def _event(kind: EventType, at: float, **fields: Any) -> bytes:
    return encode(Event(type=kind, at=at, success=False, **fields), "people")


def _failed(at: float, account: str, network: str, **details: Any) -> bytes:
    return _event(EventType.LOGIN_FAILED, at, details={"account": account, "network": network, **details})


def _simulated(scene: Scene, events: Iterable[bytes], wanted: str, most: int = 4) -> Outcome:
    """Blocked when the rule `wanted` alerts, and there are no more than `most` alerts in all."""
    if scene.means.replay is None:
        return not_tried("nobody lent the rules of the watch")
    rules = scene.means.replay(events)
    if wanted not in rules:
        return got_through(f"no alert {wanted}, but {len(rules)} others")
    if len(rules) > most:
        return got_through(f"{wanted} among {len(rules)} alerts")
    return blocked(f"alert {wanted}, one of {len(rules)}", "detection", f"replayed with the rule {wanted}")


def _slow_spray(scene: Scene) -> Outcome:
    return _simulated(
        scene, (_failed(1e9 + n * 1800, f"eml_{n}", "203.0.113.7") for n in range(25)), "slow_password_spray"
    )


def _slow_money(scene: Scene) -> Outcome:
    events = (
        encode(Event(type=EventType.MONEY_ROLLED_BACK, at=1e9 + n * 1200, success=True, person="usr_a"), "sequencer")
        for n in range(40)
    )
    return _simulated(scene, events, "slow_rollback_abuse")


def _spread(scene: Scene) -> Outcome:
    return _simulated(
        scene, (_failed(1e9 + n * 7200, "eml_a", f"198.51.100.{n}") for n in range(8)), "distributed_brute_force"
    )


def _collapsed(scene: Scene) -> Outcome:
    first, rest = _failed(1e9, "eml_a", "203.0.113.7"), _failed(1e9 + 1, "eml_a", "203.0.113.7", count=500)
    return _simulated(scene, iter((first, rest)), "brute_force")


def _hopping(scene: Scene) -> Outcome:
    events = (
        _event(EventType.REQUEST_REFUSED, 1e9 + n, ip=f"2001:db8::{n:x}", details={"path": f"/{n}.php", "status": 404})
        for n in range(20)
    )
    return _simulated(scene, events, "path_scanning")


def _flood(scene: Scene) -> Outcome:
    def events() -> Iterator[bytes]:
        for n in range(200):
            yield _event(EventType.TOKEN_REUSED, 1e9 + n, person=f"usr_{n}")
        yield _event(EventType.SESSION_SUSPECT, 1e9 + 201, person="usr_victim")

    return _simulated(scene, events(), "session_theft", most=_FLOOD + 2)


def _groups(scene: Scene) -> Outcome:
    def events() -> Iterator[bytes]:
        for n in range(9):
            yield _failed(1e9 + n, "eml_victim", "203.0.113.7")
        for n in range(_MAX_GROUPS + 2000):
            yield _failed(1e9 + 10 + n / 1000, f"eml_{n}", f"net_{n}")
        yield _failed(1e9 + 60, "eml_victim", "203.0.113.7")

    return _simulated(scene, events(), "brute_force")
