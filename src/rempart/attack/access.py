"""Elevation and disclosure with a valid token of the wrong person: every role against every family of routes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .model import Actor, Alert, Attack, Outcome, blocked, got_through, not_tried
from .scene import Scene, Session
from .wire import Reply

ROLES = ("anonymous", "user", "admin", "finance", "audit", "devops")
Ask = Callable[[Scene, Session | None], Reply | None]
"""None where the application itself serves the path, and so decides who may."""


@dataclass(frozen=True, slots=True)
class Family:
    """Requests that only the roles of `who` may make; `asks` are tried one after the other."""

    id: str
    title: str
    who: frozenset[str]
    asks: Sequence[Ask]
    needs: tuple[str, ...] = ()


def _wallet_of_another(scene: Scene, who: Session | None) -> Reply:
    return scene.get(f"/wallet?user_id={scene.account('user', 1).user_id}", who)


def _pay(scene: Scene, who: Session | None) -> Reply:
    order = {"receiver_id": scene.account("user", 1).user_id, "amount": 1}
    return scene.send("POST", "/payments", order, who, ("Idempotency-Key", f"attack-{scene.new_source()}"))


def _promote(scene: Scene, who: Session | None) -> Reply:
    target = who.id if who else scene.account("user").user_id
    return scene.send("PATCH", f"/users/{target}", {"role": "admin", "payment_limit": 10**9}, who)


def _get(path: str) -> Ask:
    return lambda scene, who: scene.get(path, who)


def _internal(method: str, path: str, document: object = None) -> Ask:
    def ask(scene: Scene, who: Session | None) -> Reply | None:
        if scene.declares(path):
            return None
        return (_get(path) if method == "GET" else _send(method, path, document))(scene, who)

    return ask


def _send(method: str, path: str, document: object) -> Ask:
    return lambda scene, who: scene.send(method, path, document, who, ("Idempotency-Key", "attack-deposit-1"))


FAMILIES = (
    Family("others-wallet", "the wallet of another person", frozenset(), (_wallet_of_another,), ("/wallet",)),
    Family("payments", "a payment", frozenset({"user"}), (_pay,), ("/payments",)),
    Family(
        "users",
        "the list of users",
        frozenset({"admin"}),
        (_get("/users"), lambda s, w: s.get(f"/users/{s.account('admin').user_id}", w)),
        ("/users",),
    ),
    Family("change-user", "a change of a user's role and limit", frozenset({"admin"}), (_promote,), ("/users",)),
    Family(
        "transactions",
        "everybody's transactions",
        frozenset({"finance"}),
        (_get("/transactions"), lambda s, w: s.get(f"/transactions?user_id={s.account('user', 1).user_id}", w)),
        ("/transactions",),
    ),
    Family(
        "rollback",
        "a rollback",
        frozenset({"finance"}),
        (_send("POST", "/transactions/txn_0/rollback", {"reason": "because"}),),
        ("/transactions",),
    ),
    Family(
        "audit",
        "logs, policies and metrics",
        frozenset({"audit"}),
        (_get("/logs"), _get("/opa/policies"), _get("/metrics"), _get("/logs/"), _get("/metrics/x")),
    ),
    Family(
        "workloads-only",
        "what only workloads may reach",
        frozenset(),
        (
            _internal("POST", "/deposit", {"receiver_id": "usr_0", "amount": 100000}),
            _internal("POST", "/transfers", {"from": "usr_0", "to": "usr_1", "amount": 1}),
            _internal("GET", "/accounts"),
            _internal("GET", "/healthz"),
            _internal("GET", "/search"),
            _internal("GET", "/config_dump"),
            _internal("GET", "/stats/prometheus"),
        ),
    ),
)


def attacks() -> Iterator[Attack]:
    for family in FAMILIES:
        for role in ROLES:
            if role not in family.who:
                yield _attack(family, role)
    yield Attack(
        "E-auditor-writes",
        Actor.INSIDER,
        "An auditor writes",
        "POST, PUT, PATCH and DELETE on /logs, /opa/policies and /metrics with a token of role audit",
        "403 or 405",
        _auditor_writes,
        Alert.DENY_BURST,
    )
    yield Attack(
        "E-methods",
        Actor.STOLEN_TOKEN,
        "Odd methods",
        "DELETE, PUT, TRACE, CONNECT, PROPFIND and get with a valid token, on /wallet or else /logs",
        "4xx: only what is declared is allowed",
        _odd_methods,
        Alert.DENY_BURST,
    )


def _attack(family: Family, role: str) -> Attack:
    """Reading others' data is disclosure, doing what one may not is elevation."""
    letter = "I" if family.id in ("others-wallet", "users", "transactions", "audit") else "E"
    outsider = role == "anonymous"
    return Attack(
        f"{letter}-{family.id}-as-{role}",
        Actor.OUTSIDER if outsider else Actor.STOLEN_TOKEN if role == "user" else Actor.INSIDER,
        f"{family.title[0].upper()}{family.title[1:]} {'without a token' if outsider else 'as ' + role}",
        f"{len(family.asks)} requests " + ("without a token" if outsider else f"with a valid token of role {role}"),
        "401" if outsider else "403 (404 where the gateway has no route)",
        lambda scene: _try(scene, family, role),
        Alert.DENY_BURST,
        needs=family.needs,
    )


def _try(scene: Scene, family: Family, role: str) -> Outcome:
    who = None if role == "anonymous" else scene.session(role)
    reply: Reply | None = None
    for ask in family.asks:
        answer = ask(scene, who)
        if answer is None:
            continue
        reply = answer
        if reply.status not in ((401, 403, 404) if family.id == "workloads-only" or who else (401, 403)):
            return got_through(reply.said, reply.evidence)
        if reply.status == 404 and not reply.decision and family.id != "workloads-only":
            return got_through(f"{reply.said} without a decision", reply.evidence)
    if reply is None:
        return not_tried("nothing to ask")
    return blocked(reply.said, "policy decision" if reply.decision else "gateway: no route", reply.evidence)


def _auditor_writes(scene: Scene) -> Outcome:
    who = scene.session("audit")
    for path in ("/logs", "/opa/policies", "/metrics"):
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            reply = scene.send(method, path, {}, who)
            if reply.status not in (403, 405):
                return got_through(f"{method} {path}: {reply.said}", reply.evidence)
    return blocked(reply.said, "policy decision", reply.evidence)


def _odd_methods(scene: Scene) -> Outcome:
    bank = not scene.lacks(("/wallet",))  # what another application allows on its own routes is its own affair
    target, who = scene.own() if bank else ("/logs", scene.session("audit"))
    for method in ("DELETE", "PUT", "TRACE", "CONNECT", "PROPFIND", "get", "OPTIONS"):
        reply = scene.ask(method, target, who.bearer)
        if not 400 <= reply.status < 500:
            return got_through(f"{method}: {reply.said}", reply.evidence)
    return blocked(reply.said, "policy decision", reply.evidence)
