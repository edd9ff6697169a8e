"""Identities that aren't one's own: at the Workload API's socket, with one's own SVID misused, with forged ones."""

from __future__ import annotations

import json
import os
import subprocess  # nosec B404 - runs only the program of this file, as another user
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from .certificates import Identity
from .model import SVID_REFUSED, Actor, Alert, Attack, Outcome, Trace, blocked, got_through, not_tried, refused
from .raw_grpc import spoken
from .scene import Headers, Scene
from .wire import NoAnswer
from .workloads import NEEDS

_AGENT = ("deposit-agent",)
_NOBODY = 65534
_FORM = ("Content-Type", "application/x-www-form-urlencoded")
# Runs as nobody: says some bytes to a socket and prints what comes back.
_SAYS = """
import socket, sys
path, said = sys.argv[1], bytes.fromhex(sys.argv[2])
answer = b""
with socket.socket(socket.AF_UNIX) as s:
    s.settimeout(3)
    try:
        s.connect(path)
        s.sendall(said)
        while part := s.recv(65536):
            answer += part
    except OSError:
        pass
print(answer.hex())
"""

# probe of `inside_svids` → (stride, title, what is tried)
_INSIDE = {
    "lent-to-the-dead": ("S", "A dead process's connection", "connect, end, and let a child ask: what pid reuse needs"),
    "another-program": ("S", "Another program after connecting", "connect, execute another program, let a child ask"),
    "replace-socket": ("S", "A false Workload API", "a socket of one's own beside the real one"),
    "partners-bundle": ("I", "A bundle that isn't one's own", "the bundle of a domain that it doesn't federate with"),
    "clusters": ("E", "More than secrets", "an SDS stream that asks for clusters"),
    "hundred-names": ("D", "A hundred secrets", "an SDS request with 100 names"),
    "no-audience": ("S", "A JWT-SVID for everybody", "FetchJWTSVID without an audience"),
    "many-audiences": ("S", "A JWT-SVID for many", "FetchJWTSVID with 50 audiences"),
    "header-false": ("S", "The security header, untrue", "FetchX509SVID with workload.spiffe.io: false"),
    "wrong-audience": ("S", "A token meant for another", "ValidateJWTSVID for an audience that it isn't for"),
    "unsigned": ("S", "A JWT-SVID without a signature", "ValidateJWTSVID of payment's name with alg none"),
    "other-subject": ("S", "A JWT-SVID with another name", "ValidateJWTSVID of the agent's token, renamed to payment"),
    "key-in-header": ("S", "A JWT-SVID that brings its key", "ValidateJWTSVID with a jwk in its header"),
    "other-domain": ("S", "A JWT-SVID of a partner's name", "ValidateJWTSVID of a domain that isn't federated with"),
    "nonsense": ("D", "Nonsense for a message", "bytes that are no protobuf"),
    "delegated": ("E", "Identities of others by delegation", "SPIRE's delegated identity API on the same socket"),
    "mint": ("E", "Minting", "SPIRE's server API on the same socket"),
    "debug": ("I", "The debug API", "SPIRE's debug API on the same socket"),
    "half-open": ("D", "Half-open connections", "700 connections that say nothing; then an honest request"),
    "half-said": ("D", "Half-said requests", "200 requests that stop in the middle; then an honest request"),
    "never-reading": ("D", "Never reading", "a million pings whose answers nobody reads; then an honest request"),
    "rapid-reset": ("D", "Rapid reset", "20,000 streams opened and given up; then an honest request"),
    "noise": ("D", "Noise", "50 connections of random frames; then an honest request"),
}  # fmt: skip


def attacks() -> Iterator[Attack]:
    for name, (stride, title, tried) in _INSIDE.items():
        yield Attack(
            f"{stride}-svid-{name}",
            Actor.ROGUE_WORKLOAD,
            title,
            tried,
            "refused; the others are served",
            lambda scene, name=name: _inside(scene, name),  # type: ignore[misc]  # mypy infers no default argument
            Alert.NONE,
            needs=_AGENT,
        )
    for id_, title, tried, make in _FORGERIES:
        yield Attack(
            f"S-svid-{id_}",
            Actor.ROGUE_WORKLOAD,
            title,
            tried,
            "no HTTP answer: the handshake fails",
            lambda scene, make=make: _shown(scene, make),  # type: ignore[misc]  # mypy infers no default argument
            Alert.HANDSHAKES,
            needs=_AGENT,
        )
    for id_, title, form in _EXCHANGES:
        yield Attack(
            f"E-svid-{id_}",
            Actor.ROGUE_WORKLOAD,
            title,
            "the agent's own JWT-SVID at /auth/token",
            "400 or 401",
            lambda scene, form=form: _exchanged(scene, form),  # type: ignore[misc]  # mypy infers no default argument
            Alert.NONE,
            needs=_AGENT,
        )
    yield Attack(
        "E-svid-jwt-at-sidecar",
        Actor.ROGUE_WORKLOAD,
        "A JWT-SVID as an access token",
        "the agent's own JWT-SVID as bearer at the wallet's sidecar, past the gateway",
        "401 or 403",
        _bearer,
        Alert.SVIDS_DENIED,
        needs=("deposit-agent", "/wallet"),
    )
    yield Attack(
        "S-svid-claims-of-environment",
        Actor.INSIDER,
        "Calling oneself a service",
        "FetchX509SVID and FetchJWTSVID as another user whose environment and arguments say that it is payment",
        "PermissionDenied",
        _environment,
        Alert.SVIDS_DENIED,
    )
    yield Attack(
        "E-svid-entries-outside",
        Actor.INSIDER,
        "Registering from outside",
        "POST, GET and DELETE /entries at the gateway, as an auditor",
        "403 or 404",
        _entries,
        Alert.NONE,
    )


def _inside(scene: Scene, name: str) -> Outcome:
    agent = scene.agent()
    if agent is None:
        return not_tried(NEEDS)
    seen = agent[1]
    if name == "replace-socket" and seen.get("uid") == scene.notes.get("uid"):
        return not_tried("all processes run under this user: without root there is no wall between them")
    probe = seen["probes"][name]
    if not probe["blocked"]:
        return got_through(probe["observed"])
    return blocked(probe["observed"], "identity: Workload API", "the probe's own report")


# -- certificates ----------------------------------------------------------------------------------------------------


def _signed_by_leaf(agent: Identity, name: str) -> Identity:
    """A leaf of payment's, signed with the agent's own key, under the agent's own real chain."""
    chain = x509.load_pem_x509_certificates(agent.chain)
    signer = serialization.load_pem_private_key(agent.key, None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise NoAnswer("the agent's key is of another kind")
    return _leaf(name, chain[0].subject, signer, [*chain])


def _like_the_issuer(agent: Identity, name: str) -> Identity:
    """A CA with the real issuing CA's name and key id, and another key: a forged bundle's first step."""
    chain = x509.load_pem_x509_certificates(agent.chain)
    real, key = chain[1], ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(real.subject)
        .issuer_name(real.issuer)
        .public_key(key.public_key())
        .serial_number(real.serial_number)
        .not_valid_before(real.not_valid_before_utc)
        .not_valid_after(real.not_valid_after_utc)
    )
    for extension in real.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return _leaf(name, real.subject, key, [builder.sign(key, hashes.SHA256())])


def _renamed(agent: Identity, name: str) -> Identity:
    """The agent's own certificate with one letter of its name changed, under its own signature and key."""
    chain = x509.load_pem_x509_certificates(agent.chain)
    der = chain[0].public_bytes(serialization.Encoding.DER)
    changed = x509.load_der_x509_certificate(der.replace(b"deposit-agent", b"deposit-agenT"))
    pem = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (changed, *chain[1:]))
    return Identity(pem, agent.key)


def _issuer_itself(agent: Identity, name: str) -> Identity:
    """The chain without its leaf's issuer: nothing says who signed."""
    chain = x509.load_pem_x509_certificates(agent.chain)
    return Identity(chain[0].public_bytes(serialization.Encoding.PEM), agent.key)


def _leaf(name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, above: list[x509.Certificate]) -> Identity:
    own, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(minutes=30))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name)]), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return Identity(
        b"".join(one.public_bytes(pem) for one in (leaf, *above)),
        own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


_FORGERIES: tuple[tuple[str, str, str, Callable[[Identity, str], Identity]], ...] = (
    ("leaf-as-ca", "An SVID that signs", "a leaf with payment's name signed by the agent's SVID", _signed_by_leaf),
    ("forged-issuer", "A forged issuing CA", "the issuing CA's name and key id with another key", _like_the_issuer),
    ("renamed", "A renamed SVID", "the agent's own certificate with one letter of its name changed", _renamed),
    ("no-issuer", "A chain with a hole", "the agent's SVID without the issuing CA above it", _issuer_itself),
)  # fmt: skip


def _shown(scene: Scene, make: Callable[[Identity, str], Identity]) -> Outcome:
    agent = scene.agent()
    if agent is None:
        return not_tried(NEEDS)
    forged = make(agent[0], f"spiffe://{scene.trust_domain}/payment")
    service = "wallet" if "wallet" in scene.services else next(iter(scene.services))
    try:
        reply = scene.mtls(service, forged, "GET", "/healthz")
    except NoAnswer as refusal:
        return blocked(str(refusal), "mTLS: the trust domain's bundle", Trace(("mesh.handshake_refused",)))
    return got_through(reply.said, reply.evidence)


# -- tokens ----------------------------------------------------------------------------------------------------------

_EXCHANGES: tuple[tuple[str, str, str], ...] = (
    ("jwt-bearer", "A JWT-SVID for a session", "grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion={}"),
    (
        "jwt-as-subject",
        "A JWT-SVID as a person's token",
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token={}"
        "&subject_token_type=urn:ietf:params:oauth:token-type:access_token",
    ),
    ("jwt-refresh", "A JWT-SVID as a refresh token", "grant_type=refresh_token&refresh_token={}"),
    (
        "jwt-client",
        "A JWT-SVID as a client's assertion",
        "grant_type=client_credentials&client_id=shop"
        "&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion={}",
    ),
)


def _exchanged(scene: Scene, form: str) -> Outcome:
    agent = scene.agent()
    if agent is None:
        return not_tried(NEEDS)
    headers: Headers = (_FORM,)
    reply = scene.ask("POST", "/auth/token", headers, form.format(agent[1]["token"]).encode())
    return refused(reply, 400, 401, by="people: OAuth")


def _bearer(scene: Scene) -> Outcome:
    agent = scene.agent()
    if agent is None:
        return not_tried(NEEDS)
    bearer = (("Authorization", f"Bearer {agent[1]['token']}"),)
    return refused(scene.mtls("wallet", agent[0], "GET", "/wallet?user_id=x", bearer), 401, 403)


# -- from outside ----------------------------------------------------------------------------------------------------


def _environment(scene: Scene) -> Outcome:
    state = scene.means.state
    if state is None or os.geteuid() != 0:
        return not_tried("only root can become another user to try this")
    payment = f"spiffe://{scene.trust_domain}/payment"
    environment = {"REMPART_SERVICE": "payment", "REMPART_SPIFFE_ID": payment, "USER": "payment", "LOGNAME": "payment"}
    reached = False
    for method in ("FetchX509SVID", "FetchJWTSVID"):
        said = spoken("/SpiffeWorkloadAPI/" + method, b"\n\1a" if method == "FetchJWTSVID" else b"")
        done = subprocess.run(  # nosec B603 B607 - `executable` is the system's interpreter; its name here is the lie
            ["payment", "-I", "-c", _SAYS, f"{state}/run/workload.sock", said.hex(), "--service", "payment"],
            executable="/usr/bin/python3",
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            user=_NOBODY,
            group=_NOBODY,
            extra_groups=[],
            cwd="/",
            env=environment,
        )
        answer = bytes.fromhex(done.stdout.strip() or "00")
        if b"spiffe://" in answer:
            return got_through(f"{method} gave {len(answer)} bytes with a SPIFFE ID")
        if done.returncode:
            return not_tried(f"the probe didn't run: {done.stderr.strip()[-200:]}")
        reached = reached or b"no_identity" in answer
    if not reached:
        return blocked("no way to the socket", "owners and modes", "permission denied by the kernel")
    return blocked("PermissionDenied, or no way to the socket", "identity: attestation", SVID_REFUSED)


def _entries(scene: Scene) -> Outcome:
    entry = {"spiffe_id": f"spiffe://{scene.trust_domain}/mine", "selectors": [f"unix:uid:{_NOBODY}"]}
    body = json.dumps({"entries": [entry]}).encode()
    outcome = not_tried("nothing was asked")
    for who in (None, scene.session("audit")):
        for method, content in (("POST", body), ("GET", None), ("DELETE", None)):
            headers = (*(who.bearer if who else ()), ("Content-Type", "application/json"))
            outcome = refused(scene.ask(method, "/entries", headers, content), 401, 403, 404)
            if not outcome.blocked:
                return outcome
    return outcome
