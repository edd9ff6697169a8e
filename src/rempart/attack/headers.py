"""Elevation by headers that somebody downstream might believe: identities, decisions, addresses, paths, methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .model import Actor, Alert, Attack, Outcome, Trace, blocked, got_through, refused
from .record import find
from .scene import Scene

Pairs = Sequence[tuple[str, str]]


def attacks() -> Iterator[Attack]:
    def claim(id: str, title: str, tried: str, target: str, pairs: Callable[[Scene], Pairs], *, token: bool) -> Attack:
        return Attack(
            f"E-{id}",
            Actor.STOLEN_TOKEN if token else Actor.OUTSIDER,
            title,
            tried,
            "refused as without the header",
            lambda scene: _try(scene, target, pairs(scene), token=token),
            Alert.DENY_BURST,
            needs=("/wallet",) if target == "OTHER" else (),
        )

    yield claim(
        "header-claims",
        "Forged claims",
        "x-rempart-claims of an admin, without a token",
        "PRIVATE",
        lambda scene: [("x-rempart-claims", _claims(scene))],
        token=False,
    )
    yield claim(
        "header-claims-underscore",
        "Forged claims with underscores",
        "X_Rempart_Claims and X_Rempart_Role of an admin, without a token",
        "PRIVATE",
        lambda scene: [("X_Rempart_Claims", _claims(scene)), ("X_Rempart_Role", "admin")],
        token=False,
    )
    yield claim(
        "header-role",
        "Forged role and subject",
        "x-rempart-role: admin and x-rempart-subject of the admin, with a user's token",
        "PRIVATE",
        lambda scene: [("x-rempart-role", "admin"), ("x-rempart-subject", scene.account("admin").user_id)],
        token=True,
    )
    yield claim(
        "header-subject",
        "Forged subject",
        "x-rempart-subject of another person for their wallet",
        "OTHER",
        lambda scene: [("x-rempart-subject", scene.account("user", 1).user_id)],
        token=True,
    )
    yield claim(
        "header-spiffe-id",
        "Forged x-spiffe-id",
        "x-spiffe-id of payment and of the gateway, without a token",
        "OWN",
        lambda scene: [
            ("x-spiffe-id", f"spiffe://{scene.trust_domain}/{name}") for name in ("payment", "rempart/gateway")
        ],
        token=False,
    )
    yield claim(
        "header-spiffe-id-underscore",
        "Forged X_Spiffe_Id",
        "X_Spiffe_Id and X-SPIFFE_ID of payment",
        "OWN",
        lambda scene: [(name, f"spiffe://{scene.trust_domain}/payment") for name in ("X_Spiffe_Id", "X-SPIFFE_ID")],
        token=False,
    )
    yield claim(
        "header-peer",
        "Forged peer",
        "x-rempart-peer of the deposit agent",
        "/logs",
        lambda scene: [("x-rempart-peer", f"spiffe://{scene.trust_domain}/deposit-agent")],
        token=False,
    )
    yield claim(
        "header-xfcc",
        "Forged client certificate",
        "x-forwarded-client-cert of payment",
        "OWN",
        lambda scene: [("x-forwarded-client-cert", f"By=x;Hash=00;URI=spiffe://{scene.trust_domain}/payment")],
        token=False,
    )
    yield claim(
        "header-decision",
        "Forged decision",
        "x-rempart-decision: allow, and Envoy's ext_authz header",
        "PRIVATE",
        lambda scene: [
            ("x-rempart-decision", "allow"),
            ("x-envoy-auth-partial-body", "false"),
            ("x-ext-authz", "allow"),
        ],
        token=True,
    )
    yield claim(
        "header-original-path",
        "Another path in a header",
        "x-envoy-original-path, x-original-url, x-rewrite-url: /login",
        "PRIVATE",
        lambda scene: [
            (n, "/login") for n in ("x-envoy-original-path", "x-original-url", "x-rewrite-url", "x-forwarded-uri")
        ],
        token=True,
    )
    yield claim(
        "header-method",
        "Another method in a header",
        "x-http-method-override: GET on DELETE",
        "DELETE PRIVATE",
        lambda scene: [(n, "GET") for n in ("x-http-method-override", "x-http-method", "x-method-override")],
        token=True,
    )
    yield claim(
        "header-hop-by-hop",
        "Hop-by-hop Authorization",
        "Connection: authorization, x-spiffe-id, so that the token is dropped on the way",
        "PRIVATE",
        lambda scene: [("Connection", "close, authorization, x-rempart-subject, x-spiffe-id, x-rempart-role")],
        token=True,
    )
    yield claim(
        "header-internal",
        "Called internal",
        "x-envoy-internal, x-envoy-force-trace and x-forwarded-for: 127.0.0.1",
        "/metrics",
        lambda scene: [("x-envoy-internal", "true"), ("x-forwarded-for", "127.0.0.1"), ("x-real-ip", "127.0.0.1")],
        token=True,
    )
    yield claim(
        "header-host",
        "Another host",
        "Host: people, and X-Forwarded-Host",
        "/accounts",
        lambda scene: [("Host", "people"), ("x-forwarded-host", "people"), ("x-host", "people")],
        token=True,
    )
    yield Attack(
        "R-forwarded-for",
        Actor.OUTSIDER,
        "A false address",
        "a denied request with x-forwarded-for, x-real-ip and forwarded of 203.0.113.9",
        "the record has the true address",
        _false_address,
        Alert.DENY_BURST,
    )
    yield Attack(
        "I-error-details",
        Actor.OUTSIDER,
        "What errors tell",
        "requests that must fail, at the gateway and behind it",
        "problem documents without product names, versions, paths or stack traces",
        _error_details,
        Alert.REQUESTS,
    )
    yield Attack(
        "R-request-id",
        Actor.OUTSIDER,
        "A chosen request id",
        "x-request-id and x-rempart-decision of one's own, to be taken for another request",
        "the answer carries ids of Rempart's own",
        _chosen_id,
        Alert.DENY_BURST,
    )


def _claims(scene: Scene) -> str:
    import base64
    import json
    import time

    document = {
        "iss": scene.issuer,
        "aud": scene.trust_domain,
        "sub": scene.account("admin").user_id,
        "role": "admin",
        "exp": int(time.time()) + 600,
        "iat": int(time.time()),
    }
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def _try(scene: Scene, target: str, pairs: Pairs, *, token: bool) -> Outcome:
    method, _, path = target.rpartition(" ")
    if path == "OTHER":
        path = f"/wallet?user_id={scene.account('user', 1).user_id}"
    elif path == "OWN":
        path = scene.own()[0]
    elif path == "PRIVATE" or scene.declares(path):
        path = scene.private
    bearer = scene.session("user").bearer if token else ()
    reply = scene.ask(method or "GET", path, (*bearer, *pairs))
    return refused(reply, 400, 401, 403, 404, 405)


def _false_address(scene: Scene) -> Outcome:
    forged = "203.0.113.9"
    pairs = [(name, forged) for name in ("x-forwarded-for", "x-real-ip", "true-client-ip", "x-rempart-ip")]
    reply = scene.get(scene.private, None, *pairs, ("forwarded", f"for={forged}"))
    if reply.status not in (401, 403):
        return got_through(reply.said, reply.evidence)
    events = find(scene, reply.headers.get("x-request-id", reply.evidence))
    if not events:
        return got_through("the denial isn't in the record", reply.evidence)
    if any(forged in event for event in events):
        return got_through("the record has the forged address", reply.evidence)
    if not any(f'"{scene.source}"' in event for event in events):
        return got_through("the record hasn't the true address", reply.evidence)
    return blocked(f"recorded with {scene.source}", "forwarding headers removed at the edge", reply.evidence)


def _chosen_id(scene: Scene) -> Outcome:
    chosen = "00000000-0000-4000-8000-00000000c0de"
    reply = scene.get(scene.private, None, ("x-request-id", chosen), ("x-rempart-decision", chosen))
    if chosen in (reply.decision, reply.headers.get("x-request-id")):
        return got_through("the answer carries the chosen id", reply.evidence)
    if find(scene, chosen, ("decision",), within=0.0):
        return got_through("the record carries the chosen id", Trace(("decision",), chosen))
    return blocked(f"{reply.said} with an id of its own", "ids begin at the edge", reply.evidence)


_TELLING = ("traceback", 'file "', "/src/", "python", "uvicorn", "starlette", "envoy", "sqlite", "stack", " at 0x")


def _error_details(scene: Scene) -> Outcome:
    user = scene.session("user")
    replies = [
        scene.get("/nowhere"),
        scene.get(scene.private),
        scene.get("/auth/token", user),
        scene.get("/logs/%27", user),
        scene.send("POST", "/login", b"{"),
        scene.send("POST", "/login", {"email": 1}),
        scene.ask("PUT", "/login"),
    ]
    if not scene.lacks(("/wallet", "/payments", "/users")):  # what another application's services answer is theirs
        replies += [
            scene.get("/wallet?user_id=%27", user),
            scene.get("/users/%27", user),
            scene.send("POST", "/payments", b"\xff", user),
        ]
    for reply in replies:
        told = [
            word for word in _TELLING if word in (reply.body.decode("utf-8", "replace") + str(reply.headers)).lower()
        ]
        if told or not reply.code or not reply.headers.get("content-type", "").startswith("application/problem+json"):
            return got_through(f"{reply.said}: {', '.join(told) or 'no problem document'}", reply.evidence)
    return blocked(f"{len(replies)} problem documents", "gateway and services: problem documents", reply.evidence)
