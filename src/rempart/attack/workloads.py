"""A workload that was taken over: it has a real identity, and tries to be more than it is."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence

from .model import SVID_REFUSED, Actor, Alert, Attack, Outcome, Trace, blocked, got_through, not_tried, refused
from .scene import Headers, Scene
from .wire import NoAnswer, Reply

_JSON = ("Content-Type", "application/json")
_AGENT = ("deposit-agent", "/wallet")
NEEDS = "the deposit agent can't be run here (`rempart run deposit-agent`)"


def attacks() -> Iterator[Attack]:
    def rogue(id: str, title: str, tried: str, service: str, asks: Sequence[tuple[str, str]]) -> Attack:
        return Attack(
            f"E-agent-{id}",
            Actor.ROGUE_WORKLOAD,
            title,
            tried + " with the deposit agent's SVID",
            "403, or the handshake fails",
            lambda scene: _ask(scene, service, asks),
            Alert.SVIDS_DENIED,
            needs=_AGENT,
        )

    yield rogue(
        "wallet",
        "The agent reads wallets",
        "GET /wallet and /transactions",
        "wallet",
        [("GET", "/wallet?user_id=x"), ("GET", "/transactions")],
    )
    yield rogue(
        "transfer",
        "The agent moves money",
        "POST /transfers",
        "wallet",
        [("POST", "/transfers"), ("POST", "/transfers/"), ("POST", "//transfers")],
    )
    yield rogue(
        "rollback",
        "The agent rolls back",
        "POST /transactions/x/rollback",
        "wallet",
        [("POST", "/transactions/x/rollback")],
    )
    yield rogue(
        "payment", "The agent pays", "POST /payments at payment", "payment", [("POST", "/payments"), ("GET", "/")]
    )
    yield rogue(
        "users", "The agent reads users", "GET /users at users", "users", [("GET", "/users"), ("PATCH", "/users/x")]
    )
    yield rogue(
        "people",
        "The agent reads accounts",
        "GET /accounts at people",
        "people",
        [("GET", "/accounts"), ("GET", "/users"), ("POST", "/keys/rotate")],
    )
    yield rogue(
        "observer", "The agent reads logs", "GET /logs at observer", "observer", [("GET", "/logs"), ("GET", "/metrics")]
    )
    yield Attack(
        "E-agent-with-token",
        Actor.ROGUE_WORKLOAD,
        "The agent with a stolen token",
        "a user's and the auditor's token at the sidecars, past the gateway",
        "403, or the handshake fails",
        _with_token,
        Alert.SVIDS_DENIED,
        needs=_AGENT,
    )
    yield Attack(
        "S-agent-as-payment",
        Actor.ROGUE_WORKLOAD,
        "The agent calls itself payment",
        "x-spiffe-id, X_Spiffe_Id, x-rempart-peer and XFCC of payment, with a user's token, on POST /transfers",
        "403 or 400",
        _as_payment,
        Alert.SVIDS_DENIED,
        needs=_AGENT,
    )
    yield Attack(
        "S-agent-jwt-as-person",
        Actor.ROGUE_WORKLOAD,
        "A workload's token as a person's",
        "the agent's own JWT-SVID, valid and for this trust domain, as bearer at the gateway",
        "401: another issuer, another kind of token",
        _jwt_as_person,
        Alert.FORGED_TOKENS,
        needs=_AGENT,
    )
    yield Attack(
        "T-agent-amounts",
        Actor.ROGUE_WORKLOAD,
        "The agent deposits nonsense",
        "negative, zero, huge and fractional amounts; receivers that don't exist",
        "400 or 422",
        _amounts,
        Alert.MONEY,
        alone=True,
        needs=_AGENT,
    )
    yield Attack(
        "T-agent-replay",
        Actor.ROGUE_WORKLOAD,
        "The agent's deposit, replayed",
        "one deposit of a cent five times with its key, then with another amount",
        "money in once; 409",
        _replay,
        Alert.MONEY,
        alone=True,
        needs=_AGENT,
    )
    for name, title, tried, alert in _PROBES:
        yield Attack(
            f"{'S' if name.startswith(('sds', 'jwt', 'no-')) else 'E'}-agent-{name}",
            Actor.ROGUE_WORKLOAD,
            title,
            tried,
            "refused",
            lambda scene, name=name: _probe(scene, name),  # type: ignore[misc]  # mypy infers no default argument
            alert,
            needs=_AGENT,
        )


_PROBES = (
    (
        "sds-other",
        "Another workload's key over SDS",
        "an SDS request for payment's and wallet's certificates",
        Alert.SVIDS_DENIED,
    ),
    (
        "sds-web",
        "The gateway's key over SDS",
        "an SDS request for the server certificate of the gateway",
        Alert.SVIDS_DENIED,
    ),
    ("jwt-other", "Another workload's JWT-SVID", "FetchJWTSVID for payment's SPIFFE ID", Alert.SVIDS_DENIED),
    ("no-header", "Workload API without its header", "FetchX509SVID without workload.spiffe.io", Alert.NONE),
    (
        "sockets",
        "Sockets of others",
        "services, PDP, admin, control and event sockets, from within the agent",
        Alert.NONE,
    ),
    ("files", "Files of others", "the master key, sealed roots, accounts, the log, from within the agent", Alert.NONE),
    ("processes", "Processes of others", "/proc/PID/environ of every process, from within the agent", Alert.NONE),
)


def _mtls(scene: Scene, service: str, method: str, target: str, headers: Headers = (), body: bytes = b"{}") -> Reply:
    agent = scene.agent()
    if agent is None:
        raise _Missing
    more = ((_JSON, ("Idempotency-Key", f"attack-{uuid.uuid4()}"))) if method != "GET" else ()
    return scene.mtls(service, agent[0], method, target, (*headers, *more), None if method == "GET" else body)


class _Missing(Exception):
    pass


def _ask(scene: Scene, service: str, asks: Sequence[tuple[str, str]]) -> Outcome:
    outcome = not_tried("nothing was asked")
    for method, target in asks:
        try:
            reply = _mtls(scene, service, method, target)
        except _Missing:
            return not_tried(NEEDS)
        except NoAnswer as refusal:
            outcome = blocked(str(refusal), "mTLS: callers that are known", Trace(("mesh.handshake_refused",)))
            continue
        outcome = refused(reply, 403, 404) if reply.decision else refused(reply, 403)
        if not outcome.blocked:
            return outcome
    return outcome


def _with_token(scene: Scene) -> Outcome:
    user, auditor = scene.session("user"), scene.session("audit")
    outcome = not_tried("nothing was asked")
    for service, target, who in (("wallet", f"/wallet?user_id={user.id}", user), ("observer", "/logs", auditor)):
        try:
            reply = _mtls(scene, service, "GET", target, who.bearer)
        except _Missing:
            return not_tried(NEEDS)
        except NoAnswer as refusal:
            outcome = blocked(str(refusal), "mTLS: callers that are known", Trace(("mesh.handshake_refused",)))
            continue
        outcome = refused(reply, 403)
        if not outcome.blocked:
            return outcome
    return outcome


def _jwt_as_person(scene: Scene) -> Outcome:
    agent = scene.agent()
    if agent is None:
        return not_tried(NEEDS)
    outcome = not_tried("nothing was asked")
    for target in ("/users", "/logs", f"/wallet?user_id=spiffe://{scene.trust_domain}/deposit-agent"):
        outcome = refused(scene.get(target, None, ("Authorization", f"Bearer {agent[1]['token']}")), 401)
        if not outcome.blocked:
            return outcome
    return outcome


def _as_payment(scene: Scene) -> Outcome:
    payment = f"spiffe://{scene.trust_domain}/payment"
    user = scene.session("user")
    body = f'{{"source":"{scene.account("user", 1).user_id}","destination":"{user.id}","amount":1}}'.encode()
    outcome = not_tried("nothing was asked")
    for header in (
        ("x-spiffe-id", payment),
        ("X_Spiffe_Id", payment),
        ("x-rempart-peer", payment),
        ("x-forwarded-client-cert", f"URI={payment}"),
        ("x-rempart-decision", "dec_0"),
    ):
        try:
            outcome = refused(_mtls(scene, "wallet", "POST", "/transfers", (*user.bearer, header), body), 400, 403)
        except _Missing:
            return not_tried(NEEDS)
        if not outcome.blocked:
            return outcome
    return outcome


def _deposit(scene: Scene, receiver: str, amount: str, key: str) -> Reply:
    agent = scene.agent()
    if agent is None:
        raise _Missing
    body = f'{{"receiver_id":"{receiver}","amount":{amount}}}'.encode()
    return scene.mtls("wallet", agent[0], "POST", "/deposit", (_JSON, ("Idempotency-Key", key)), body)


def _amounts(scene: Scene) -> Outcome:
    receiver = scene.account("user").user_id
    tries = [(receiver, a) for a in ("-1", "0", "0.5", "1e3", '"1"', "true", "null", str(2**63), "9" * 400, "NaN")]
    tries += [("usr_00000000000000000000000000", "1"), ("", "1"), ("*", "1")]
    for who, amount in tries:
        try:
            reply = _deposit(scene, who, amount, f"attack-{uuid.uuid4()}")
        except _Missing:
            return not_tried(NEEDS)
        if not 400 <= reply.status < 500:
            return got_through(f"{amount[:20]} to {who[:20]!r}: {reply.said}", reply.evidence)
    return blocked(reply.said, "wallet: strict input", reply.evidence)


def _replay(scene: Scene) -> Outcome:
    user, key = scene.session("user"), f"attack-{uuid.uuid4()}"

    def balance() -> int:
        return int(scene.get(f"/wallet?user_id={user.id}", user).json["balance"])

    before = balance()
    try:
        replies = [_deposit(scene, user.id, "1", key) for _ in range(5)]
    except _Missing:
        return not_tried(NEEDS)
    if replies[0].status != 201:
        return not_tried(f"the deposit itself was answered {replies[0].said}")
    other = _deposit(scene, user.id, "100", key)
    moved = balance() - before
    if moved != 1 or other.status != 409:
        return got_through(f"{other.said}, balance changed by {moved}", other.evidence)
    return blocked(f"{other.said}, money in once", "ledger: idempotency key", other.evidence)


def _probe(scene: Scene, name: str) -> Outcome:
    agent = scene.agent()
    if agent is None:
        return not_tried(NEEDS)
    identity, seen = agent
    probe = seen["probes"][name]
    if name in ("sockets", "files", "processes") and seen.get("uid") == scene.notes.get("uid"):
        return not_tried("all processes run under this user: without root there is no wall between them")
    if not probe["blocked"]:
        return got_through(probe["observed"])
    evidence: str | Trace = SVID_REFUSED if name.startswith(("sds", "jwt")) else "the probe's own report"
    by = (
        "identity: registration entries"
        if identity and name.startswith(("sds", "jwt", "no-"))
        else "own users and mounts"
    )
    return blocked(probe["observed"], by, evidence)
