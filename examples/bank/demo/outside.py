"""F11, F12 and F14: forged identities, the reasons behind decisions, and attackers who get nowhere."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import time
from urllib.parse import urlsplit

from .stage import Stage


def play(stage: Stage) -> None:
    _forged_headers(stage)
    _explained(stage)
    _no_client_certificate(stage)
    _forged_token(stage)
    _forbidden_path(stage)


def _forged_headers(stage: Stage) -> None:
    alice, bob = stage.person("user"), stage.person("user", nth=1)
    forged = {
        "x-spiffe-id": f"spiffe://{stage.trust_domain}/payment",
        "x-rempart-subject": bob.user_id,
        "x-rempart-role": "finance",
        "x-forwarded-client-cert": f"URI=spiffe://{stage.trust_domain}/payment",
    }
    own = stage.ask(alice, "GET", "/wallet", params={"user_id": alice.user_id}, headers=forged)
    told = own.status_code == 200 and own.json()["user_id"] == alice.user_id
    stage.answered(
        "F11",
        "forged identity headers have no effect",
        "alice",
        own,
        "allow",
        status=200 if told else 0,
        why="the gateway's and the sidecar's headers arrive, not hers",
    )
    listed = stage.ask(alice, "GET", "/transactions", headers=forged)
    stage.answered("F11", "pass for another by headers", "alice", listed, "deny", status=403)


def _explained(stage: Stage) -> None:
    """The PDP's answers to F2, told again with their rule and policy version."""
    for told in [flow for flow in stage.flows if flow.flow == "F2"]:
        ran = stage.rempart("policy", "explain", told.decision_id)
        rule, version = ran.document.get("rule", "?"), ran.document.get("policy_version", "?")
        stage.report(
            "F12",
            f"why {told.title} is {'allowed' if told.expected == 'allow' else 'refused'}",
            "operator",
            "policy explain",
            told.expected,
            told.status,
            ok=ran.document.get("allow") is (told.expected == "allow"),
            decision_id=told.decision_id,
            why=f"rule {rule} of policy {version}: {ran.document.get('reason', ran.errors[:100])}",
        )


def _no_client_certificate(stage: Stage) -> None:
    address = next((s["mtls"] for s in stage.status["services"] if s["name"] == "wallet"), "https://127.0.0.1:1")
    refused, why = _handshake_refused(address)
    event = stage.event(lambda e: True, "--type", "mesh.handshake_refused", within=3.0)
    stage.report(
        "F14",
        "no client certificate",
        "attacker",
        "TLS to the wallet's own address",
        "deny",
        0,
        ok=refused,
        decision_id=str(event.get("id", "")),
        why=why,
    )


def _handshake_refused(url: str) -> tuple[bool, str]:
    """Whether a client without a certificate gets no answer at all. The server's name is not what is tried here."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nosec B323 - an attacker doesn't care whom they attack
    parts = urlsplit(url)
    try:
        with (
            socket.create_connection((parts.hostname or "", parts.port or 0), timeout=5) as raw,
            context.wrap_socket(raw) as tls,
        ):
            tls.sendall(b"GET /wallet HTTP/1.1\r\nhost: wallet\r\n\r\n")
            answer = tls.recv(64)  # with TLS 1.3 the refusal comes after the client's side of the handshake
    except (ssl.SSLError, ConnectionError) as error:
        return True, f"the handshake is refused: {getattr(error, 'reason', None) or error}"
    return answer == b"", "the connection is closed without a byte" if not answer else "the attacker got an answer"


def _forged_token(stage: Stage) -> None:
    alice = stage.person("user")

    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims: dict[str, object] = {
        "iss": stage.status["issuer"],
        "sub": alice.user_id,
        "aud": stage.trust_domain,
        "role": "admin",
        "exp": int(time.time()) + 3600,
    }
    token = f"{part({'alg': 'none', 'typ': 'at+jwt'})}.{part(claims)}."
    answer = stage.http.get("/users", headers={"authorization": f"Bearer {token}"})
    stage.answered("F14", "a forged token", "attacker", answer, "deny", status=401)


def _forbidden_path(stage: Stage) -> None:
    answer = stage.ask(stage.person("user"), "DELETE", "/users/anybody")
    stage.answered("F14", "what nobody may do", "alice", answer, "deny", status=403)
