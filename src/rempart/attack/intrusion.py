"""A scripted intrusion at the example bank: spray, stolen session, escalation, rollback fraud; and what the watch says.

Unlike the attacks, every step succeeds: the passwords, tokens and rights that it needs are given. What is tried is
the watch: the record must end in exactly the alerts of `EXPECTED`, each resting on events that are proved to be in
the log. The accounts are made for it and disabled afterwards, so that it can be played again at once.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rempart.kernel.errors import Unavailable

from .money import Money, NoMoney, pay
from .record import Record
from .scene import Account, Scene, Session
from .wire import Reply

EXPECTED: Mapping[str, str] = {
    "password_spray": "spray",  # nosec B105 - the name of a rule
    "stolen_session_escalation": "session theft, then escalation",
    "rollback_abuse": "rollback fraud",
}
_SPRAYED = 10
_ROLLED_BACK = 6
_ALERTED_WITHIN = 30.0  # seconds
_QUIET = 3.0  # seconds in which no further alert may come

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Report:
    """`alerts` are the documents of all alerts that were raised since the intrusion began, oldest first."""

    alerts: Sequence[Mapping[str, Any]]

    @property
    def ok(self) -> bool:
        return sorted(str(alert.get("rule")) for alert in self.alerts) == sorted(EXPECTED)

    def document(self) -> dict[str, Any]:
        return {"alerts": list(self.alerts), "expected": dict(EXPECTED), "ok": self.ok}


def intrude(scene: Scene, tell: Tell = lambda step: None) -> Report:
    """Play it and wait for the alerts. Raises Unavailable when the bank doesn't take part."""
    operator = scene.means.operator
    if operator is None or scene.lacks(("/wallet", "/payments", "/transactions", "/users")):
        raise Unavailable("no_bank", "the intrusion is one into the example bank", "start `rempart up examples/bank`")
    began = time.time()
    home, lair = _address(), _address()
    administrator, accomplice = _made(scene, "admin"), _made(scene, "user")
    try:
        payments = _innocent_payments(scene, home)
        tell(f"spray: one password for {_SPRAYED} accounts from one network; the last one opens")
        sprayed = _spray(scene, lair, accomplice)
        tell("session theft: an administrator's token is used from the intruder's network")
        stolen = _steal(scene, home, lair, administrator)
        tell("escalation: with it the intruder's own account gets the role finance")
        _done(_from(scene, lair, "PATCH", f"/users/{sprayed.id}", {"role": "finance"}, stolen), 200)
        tell(f"rollback fraud: {_ROLLED_BACK} payments of others are rolled back")
        _roll_back(scene, lair, accomplice, payments)
    except NoMoney as error:
        raise Unavailable("intrusion_failed", f"nobody at the bank has money: {error}", "see `rempart demo`") from None
    finally:
        for account in (administrator, accomplice):
            operator(["user", "disable", account.user_id], "")
    return Report(_alerts(scene, began))


def _address() -> str:
    """A loopback address that no earlier run came from, most likely: an alert is told once for each network."""
    return f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(2, 254)}"  # nosec B311 - no secret


def _made(scene: Scene, role: str) -> Account:
    assert scene.means.operator is not None  # nosec B101 - `intrude` looked
    email, password = f"intrusion-{secrets.token_hex(4)}@{scene.trust_domain}", secrets.token_urlsafe(18)
    added = scene.means.operator(["user", "add", "--email", email, "--role", role], password)
    return Account(str(added["id"]), email, password, role)


def _innocent_payments(scene: Scene, home: str) -> list[str]:
    scene.come_from(home)
    money = Money(scene)
    return [
        str(_done(pay(scene, money.payer, money.payee.id, 1), 201).json["transaction_id"]) for _ in range(_ROLLED_BACK)
    ]


def _spray(scene: Scene, lair: str, accomplice: Account) -> Session:
    for number in range(_SPRAYED - 1):
        email = f"customer{number}-{secrets.token_hex(3)}@{scene.trust_domain}"
        guess = {"email": email, "password": "Winter2026!!"}  # nosec B105 - everybody's
        _done(_from(scene, lair, "POST", "/login", guess), 401)
    scene.come_from(lair)
    return scene.login(accomplice)


def _steal(scene: Scene, home: str, lair: str, administrator: Account) -> Session:
    scene.come_from(home)
    session = scene.login(administrator)
    _done(scene.get("/users", session), 200)
    scene.come_from(lair)
    _done(scene.get("/users", session), 200)
    return session


def _roll_back(scene: Scene, lair: str, accomplice: Account, payments: Sequence[str]) -> None:
    scene.come_from(lair)
    session = scene.login(accomplice)
    for transaction in payments:
        _done(scene.send("POST", f"/transactions/{transaction}/rollback", {"reason": "complaint"}, session), 200)


def _from(scene: Scene, address: str, method: str, target: str, body: Any, who: Session | None = None) -> Reply:
    scene.come_from(address)
    return scene.send(method, target, body, who)


def _done(reply: Reply, status: int) -> Reply:
    if reply.status != status:
        raise Unavailable("intrusion_failed", f"a step was answered {reply.said}, not {status}", "see `rempart status`")
    return reply


def _alerts(scene: Scene, began: float) -> list[Mapping[str, Any]]:
    """All there are, once those expected are there and no more came for a while; or when the time is up."""
    record = Record(scene, began)
    scene.new_source()
    deadline, quiet_at = time.monotonic() + _ALERTED_WITHIN, 0.0
    found: list[Mapping[str, Any]] = []
    while time.monotonic() < deadline:
        record.read(("alert.raised",))
        before, found = len(found), [event["details"]["alert"] for event in reversed(record.events)]
        if len(found) != before:
            quiet_at = time.monotonic() + _QUIET
        if len(found) >= len(EXPECTED) and time.monotonic() >= quiet_at:
            break
        time.sleep(0.3)
    return found
