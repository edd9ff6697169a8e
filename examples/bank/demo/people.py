"""F1, F2, F3, F6, F7, F9 and F13: what people do through the gateway."""

from __future__ import annotations

import uuid

from .stage import Person, Stage

OPENING = 100_000


def play(stage: Stage) -> None:
    alice, bob = stage.person("user"), stage.person("user", nth=1)
    admin, finance, audit = stage.person("admin"), stage.person("finance"), stage.person("audit")
    _log_in(stage, alice)
    _fund(stage, alice)
    _wallet(stage, alice, bob)
    paid = _pay(stage, alice, bob, admin)
    _administer(stage, admin, alice, bob)
    _finance(stage, finance, alice, paid)
    _audit(stage, audit, alice)


def _log_in(stage: Stage, alice: Person) -> None:
    stage.answered(
        "F1", "log in", "alice", stage.login(alice), "allow", status=200, why="password right: a signed token"
    )
    wrong = stage.http.post("/login", json={"email": alice.email, "password": "wrong-" + alice.user_id})
    stage.answered("F1", "log in with a wrong password", "somebody", wrong, "deny", status=401)


def _fund(stage: Stage, alice: Person) -> None:
    """F5: the deposit agent is a workload; people can't deposit."""
    done = stage.as_agent("python", "-m", "deposit_agent", "--receiver", alice.user_id, "--amount", str(OPENING))
    stage.report(
        "F5",
        "deposit",
        f"spiffe://{stage.trust_domain}/deposit-agent",
        "POST /deposit by mTLS",
        "allow",
        201 if done.code == 0 else int(done.document.get("status", 503)),
        ok=done.code == 0,
        decision_id=str(done.document.get("decision_id", "")),
        why="only this SPIFFE ID may deposit" if done.code == 0 else done.errors[:200],
    )
    body = {"receiver_id": alice.user_id, "amount": OPENING}
    refused = stage.ask(alice, "POST", "/deposit", json=body, headers={"idempotency-key": str(uuid.uuid4())})
    stage.answered("F5", "deposit as a person", "alice", refused, "deny", status=404)  # no way leads there from outside


def _wallet(stage: Stage, alice: Person, bob: Person) -> None:
    own = stage.ask(alice, "GET", "/wallet", params={"user_id": alice.user_id})
    stage.answered("F2", "own wallet", "alice", own, "allow", status=200, why="the token's sub is the wallet's owner")
    other = stage.ask(alice, "GET", "/wallet", params={"user_id": bob.user_id})
    stage.answered("F2", "another's wallet", "alice", other, "deny", status=403)


def _pay(stage: Stage, alice: Person, bob: Person, admin: Person) -> str:
    """The id of the payment made."""
    body = {"receiver_id": bob.user_id, "amount": 2_500}
    key = {"idempotency-key": str(uuid.uuid4())}
    paid = stage.ask(alice, "POST", "/payments", json=body, headers=key)
    stage.answered("F3", "pay", "alice", paid, "allow", status=201, why="role user, within the limit")
    _moved_by_payment(stage, paid.headers.get("x-request-id", ""), ok=paid.status_code == 201)
    much = {"receiver_id": bob.user_id, "amount": 100_001}
    over = stage.ask(alice, "POST", "/payments", json=much, headers={"idempotency-key": str(uuid.uuid4())})
    stage.answered("F3", "pay more than the limit", "alice", over, "deny", status=403)
    by_admin = stage.ask(admin, "POST", "/payments", json=body, headers={"idempotency-key": str(uuid.uuid4())})
    stage.answered("F3", "pay as administrator", "grace", by_admin, "deny", status=403)
    return str(paid.json().get("transaction_id", "")) if paid.status_code == 201 else ""


def _moved_by_payment(stage: Stage, request_id: str, *, ok: bool) -> None:
    """F4 happens inside F3: payment's own call, found in the log by the request that it belongs to."""
    payment = f"spiffe://{stage.trust_domain}/payment"
    event = stage.event(
        lambda e: e.get("request_id") == request_id and e.get("path") == "/transfers", "--workload", payment
    )
    stage.report(
        "F4",
        "payment moves money in the wallet",
        payment,
        "POST /transfers by mTLS, with alice's token",
        "allow",
        201 if ok else 503,
        ok=ok and event.get("success") is True,
        decision_id=str(event.get("id", "")),
        why=str(event.get("reason", "no decision about it in the log")),
    )


def _administer(stage: Stage, admin: Person, alice: Person, bob: Person) -> None:
    change = {"display_name": "Bob"}
    done = stage.ask(admin, "PATCH", f"/users/{bob.user_id}", json=change)
    stage.answered(
        "F6", "change an account", "grace", done, "allow", status=200, why="role admin; before and after on record"
    )
    refused = stage.ask(alice, "PATCH", f"/users/{alice.user_id}", json={"role": "admin"})
    stage.answered("F6", "make oneself administrator", "alice", refused, "deny", status=403)


def _finance(stage: Stage, finance: Person, alice: Person, paid: str) -> None:
    listed = stage.ask(finance, "GET", "/transactions", params={"user_id": alice.user_id, "limit": 5})
    stage.answered("F7", "list transactions", "frank", listed, "allow", status=200, why="role finance")
    path, body = f"/transactions/{paid or 'none'}/rollback", {"reason": "demonstration"}
    done = stage.ask(finance, "POST", path, json=body)
    stage.answered("F7", "roll back a payment", "frank", done, "allow", status=200, why="role finance, within 24 h")
    again = stage.ask(finance, "POST", path, json=body)
    stage.answered("F7", "roll it back twice", "frank", again, "deny", status=409)
    refused = stage.ask(alice, "POST", path, json=body)
    stage.answered("F7", "roll back as a user", "alice", refused, "deny", status=403)


def _audit(stage: Stage, audit: Person, alice: Person) -> None:
    for flow, title, path in (
        ("F9", "read the log", "/logs?limit=1"),
        ("F9", "read the policies", "/opa/policies"),
        ("F13", "read the metrics", "/metrics"),
    ):
        done = stage.ask(audit, "GET", path)
        stage.answered(flow, title, "audrey", done, "allow", status=200, why="role audit, reading only")
        stage.answered(flow, f"{title} as a user", "alice", stage.ask(alice, "GET", path), "deny", status=403)
    written = stage.ask(audit, "POST", "/logs", json={})
    stage.answered("F9", "write to the log", "audrey", written, "deny", status=403)
