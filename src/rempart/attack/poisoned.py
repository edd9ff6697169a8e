"""Teaching the models that an intrusion is usual, and giving them a model of one's own.

Poison is simulated: the models learn from a month of usual logins with the poison among them, as the running ones
would, and are then shown a login with a stolen password. Model files are those that the running models would read.
"""

from __future__ import annotations

import pickle  # nosec B403 - makes what must not be opened; nothing here reads one
from collections.abc import Callable, Iterable, Iterator

from rempart.kernel.event import Event, EventType
from rempart.protocols.ocsf import encode

from .model import Actor, Attack, Outcome, blocked, got_through, not_tried
from .scene import Scene

_DAY = 86_400.0
_BEGIN = 1_767_571_200.0  # 2026-01-05, a Monday
_DAYS = 21
_PEOPLE = 60
_NIGHT = 3 * 3600.0
_HOST = "203.0.113.9"  # where the adversary sits
_VICTIM = "usr_7"


def attacks() -> Iterator[Attack]:
    for id, title, tried, poison in (
        ("T-models-own", "An account of one's own as teacher", "800 logins of one old account at night", _own),
        ("T-models-crowd", "New accounts as teachers", "3,000 logins of 1,000 accounts made for it", _crowd),
        (
            "T-models-drift",
            "A slow drift",
            "an old account comes twenty minutes earlier each day, until night",
            _drift,
        ),
        (
            "T-models-alerted",
            "Teaching by attacks",
            "500 logins of an account about which a rule alerted",
            _alerted,
        ),
    ):
        yield Attack(id, Actor.OUTSIDER, title, tried, "the stolen password is rated high", _poisoned(poison))
    for id, title, tried, harm in (
        ("T-models-file", "A changed model", "one threshold of the file", _changed),
        ("T-models-cut", "Half a model", "the file's first half", lambda content: content[: len(content) // 2]),
        ("E-models-pickle", "A model that runs a program", "a pickle in the model's place", _pickle),
        ("S-models-unsigned", "A model without a signature", "the file without its signature", _unsigned),
        ("T-models-header", "A newer number", "an old model with a higher serial", _newer),
    ):
        yield Attack(id, Actor.INSIDER, title, tried, "refused, and nothing runs", _given(harm))


# -- poison ----------------------------------------------------------------------------------------------------------


def _login(person: str, at: float, ip: str, *, known: bool = True, kind: EventType = EventType.LOGIN) -> bytes:
    success = kind is EventType.LOGIN
    details = {"amr": ["pwd"], "known_place": known} if success else {"account": person, "network": ip}
    event = Event(type=kind, at=_BEGIN + at, success=success, person=person, ip=ip, details=details)
    return encode(event, "people")


def _usual() -> Iterator[tuple[float, bytes]]:
    """People in their offices by day, each from their own network and now and then from another."""
    for day in range(_DAYS):
        for number in range(_PEOPLE):
            if day % 7 < 5 or number % 7 == 0:
                for turn in range(1 + (day + number) % 2):
                    at = day * _DAY + (8 + (number * 7 + day * 3 + turn * 31) % 80 / 8) * 3600 + number
                    away = (day * 5 + number) % 11 == 0
                    ip = f"10.7.{number}.{2 if away else 1}"
                    yield at, _login(f"usr_{number}", at, ip, known=not away)


def _own() -> Iterator[tuple[float, bytes]]:
    yield 0.0, _login("usr_mallory", 9 * 3600, _HOST)
    for n in range(800):
        at = (n % _DAYS) * _DAY + _NIGHT + n
        yield at, _login("usr_mallory", at, f"203.0.113.{n % 200}", known=False)


def _crowd() -> Iterator[tuple[float, bytes]]:
    for n in range(3000):
        at = (_DAYS - 2) * _DAY + _NIGHT + n
        yield at, _login(f"usr_new{n % 1000}", at, f"203.0.113.{n % 200}", known=False)


def _drift() -> Iterator[tuple[float, bytes]]:
    for day in range(_DAYS):
        for n in range(15):
            at = day * _DAY + max(_NIGHT, 10 * 3600 - day * 1200.0) + n * 60
            yield at, _login("usr_mallory", at, f"203.0.113.{day * 9 + n % 9}", known=False)


def _alerted() -> Iterator[tuple[float, bytes]]:
    for n in range(500):
        at = (n % _DAYS) * _DAY + _NIGHT + n
        yield at, _login("usr_mallory", at, f"203.0.113.{n % 200}", known=False)
        if n < _DAYS:
            alert = {
                "id": f"alr_{n}", "rule": "brute_force", "title": "Brute force", "severity": "medium",
                "first": _BEGIN + at - 600, "last": _BEGIN + at + 600, "reason": "refusals", "evidence": [],
                "principals": ["person:usr_mallory"],
            }  # fmt: skip
            raised = Event(type=EventType.ALERT_RAISED, at=_BEGIN + at + 600, success=False, details={"alert": alert})
            yield at + 600, encode(raised, "detector")


def _stolen() -> Iterable[bytes]:
    """Three guesses, then in: from where nobody ever came, at night."""
    at = _DAYS * _DAY + _NIGHT
    for n in range(3):
        yield _login(_VICTIM, at + n, _HOST, kind=EventType.LOGIN_FAILED)
    yield _login(_VICTIM, at + 10, _HOST, known=False)


def _poisoned(poison: Callable[[], Iterable[tuple[float, bytes]]]) -> Callable[[Scene], Outcome]:
    def run(scene: Scene) -> Outcome:
        if scene.means.learn is None:
            return not_tried("nobody lent the models, or the extra `models` is not installed")
        history = [payload for _, payload in sorted([*_usual(), *poison()], key=lambda one: one[0])]
        levels = dict(scene.means.learn(history, _stolen()))
        level = levels.get(f"person:{_VICTIM}", "not rated")
        if level != "high":
            return got_through(f"the stolen password was rated {level}")
        return blocked("rated high in spite of the poison", "models", "learnt and rated as the running models do")

    return run


# -- model files -----------------------------------------------------------------------------------------------------


def _changed(content: bytes) -> bytes:
    return content.replace(b'"high":', b'"hlgh":', 1)


def _pickle(content: bytes) -> bytes:
    class Program:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("a model ran a program",)

    return pickle.dumps(Program())


def _unsigned(content: bytes) -> bytes:
    head, _, rest = content.partition(b"\n\n")
    return head + b"\n\n" + rest.partition(b"\n")[2]


def _newer(content: bytes) -> bytes:
    return content.replace(b"\nserial 1\n", b"\nserial 9\n", 1)


def _given(harm: Callable[[bytes], bytes]) -> Callable[[Scene], Outcome]:
    def run(scene: Scene) -> Outcome:
        if scene.means.model is None:
            return not_tried("nobody lent the models, or the extra `models` is not installed")
        content, believe = scene.means.model()
        if refused := believe(content):
            return not_tried(f"the model as it was signed is refused: {refused}")
        code = believe(harm(content))
        return blocked(f"refused: {code}", "models", f"refused with {code}") if code else got_through("it is believed")

    return run
