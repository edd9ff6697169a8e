"""Spoofing a person: tokens that an adversary makes out of a stolen one, or out of nothing.

Each is tried on a request that the token's owner may make, so that only the token can be the reason of a refusal.
Most are in RFC 8725 (JSON Web Token Best Current Practices); each names its own.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from rempart.crypto.jose import SigningKey

from .model import Actor, Alert, Attack, Outcome, blocked, got_through, refused
from .scene import Scene

Forge = Callable[[Scene, "Parts"], str]


class Parts:
    """A real token, taken apart, the public key that it verifies with, and an RSA key that is published beside it."""

    def __init__(self, token: str, published: Sequence[Mapping[str, Any]]) -> None:
        self.token = token
        head, self.payload, self.signature = token.split(".")
        self.header: dict[str, Any] = json.loads(_decode(head))
        self.claims: dict[str, Any] = json.loads(_decode(self.payload))
        self.jwk = next((jwk for jwk in published if jwk["kid"] == self.header.get("kid")), {})
        self.rsa = next((jwk for jwk in published if jwk["kty"] == "RSA"), self.jwk)
        self.own = SigningKey.generate(self.header["alg"])

    def assemble(
        self, header: Mapping[str, Any], claims: Mapping[str, Any] | bytes, signature: bytes | None = None
    ) -> str:
        """Signed by the adversary's own key, of the token's algorithm, unless a signature is given."""
        body = claims if isinstance(claims, bytes) else _json(claims)
        signed = _encode(_json(header)) + "." + _encode(body)
        if signature is None:
            signature = self.own.signature(signed.encode())
        return signed + "." + _encode(signature)

    def hmac(self, header: Mapping[str, Any], claims: Mapping[str, Any], key: bytes) -> str:
        signed = _encode(_json(header)) + "." + _encode(_json(claims))
        return signed + "." + _encode(hmac.new(key, signed.encode(), hashlib.sha256).digest())

    def own_jwk(self, kid: str) -> dict[str, Any]:
        return {**self.own.public_jwk(), "kid": kid}

    def public_pem(self) -> bytes:
        if self.rsa.get("kty") != "RSA":
            return _json(self.jwk)
        numbers = (int.from_bytes(_decode(self.rsa[name]), "big") for name in ("e", "n"))
        key = rsa.RSAPublicNumbers(*numbers).public_key()
        return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def attacks() -> Iterator[Attack]:
    def forgery(id: str, title: str, tried: str, forge: Forge, actor: Actor = Actor.STOLEN_TOKEN) -> Attack:
        return Attack(
            f"S-jwt-{id}",
            actor,
            title,
            tried,
            "401, as without a token",
            lambda scene: _try(scene, forge),
            Alert.FORGED_TOKENS,
        )

    yield forgery(
        "alg-none",
        "Algorithm none",
        "alg: none and an empty signature",
        lambda s, p: p.assemble({**p.header, "alg": "none"}, p.claims, b""),
    )
    yield forgery(
        "alg-none-case",
        "Algorithm nOnE",
        "alg: nOnE with the old signature",
        lambda s, p: p.assemble({**p.header, "alg": "nOnE"}, p.claims, _decode(p.signature)),
    )
    yield forgery(
        "hs256-public-pem",
        "HS256 with the public key",
        "the published RSA key, as PEM, used as HMAC secret",
        lambda s, p: p.hmac({**p.header, "alg": "HS256", "kid": p.rsa.get("kid")}, p.claims, p.public_pem()),
    )
    yield forgery(
        "hs256-public-jwk",
        "HS256 with the JWK",
        "the published JWK as HMAC secret",
        lambda s, p: p.hmac({**p.header, "alg": "HS256"}, p.claims, _json(p.jwk)),
    )
    yield forgery(
        "hs256-empty",
        "HS256 with no key",
        "an empty HMAC secret",
        lambda s, p: p.hmac({**p.header, "alg": "HS256"}, p.claims, b""),
    )
    yield forgery(
        "kid-path",
        "kid leaves its directory",
        "kid: ../../../../dev/null, signed with the empty key",
        lambda s, p: p.hmac({**p.header, "alg": "HS256", "kid": "../../../../dev/null"}, p.claims, b""),
    )
    yield forgery(
        "kid-sql",
        "kid speaks SQL",
        "kid: x' UNION SELECT 'key'--, signed with key",
        lambda s, p: p.hmac({**p.header, "alg": "HS256", "kid": "x' UNION SELECT 'key'--"}, p.claims, b"key"),
    )
    yield forgery(
        "own-key",
        "Own key under the right kid",
        "signed by an own key",
        lambda s, p: p.assemble(p.header, p.claims),
    )
    yield forgery(
        "unknown-kid",
        "Own key under an own kid",
        "a kid that is nowhere published",
        lambda s, p: p.assemble({**p.header, "kid": "mine"}, p.claims),
    )
    yield forgery(
        "kid-other-algorithm",
        "The kid of a key for another algorithm",
        "signed by an own key under the kid of the published RSA key",
        lambda s, p: p.assemble({**p.header, "kid": p.rsa.get("kid")}, p.claims),
    )
    yield forgery(
        "jku",
        "jku",
        "a header that names an own key set",
        lambda s, p: p.assemble({**p.header, "kid": "mine", "jku": "https://localhost:1/keys"}, p.claims),
    )
    yield forgery(
        "embedded-jwk",
        "Embedded jwk",
        "the own public key in the header",
        lambda s, p: p.assemble({**p.header, "kid": "mine", "jwk": p.own_jwk("mine")}, p.claims),
    )
    yield forgery(
        "x5u",
        "x5u",
        "a header that names own certificates",
        lambda s, p: p.assemble({**p.header, "x5u": "https://localhost:1/c.pem"}, p.claims),
    )
    yield forgery(
        "crit",
        "crit and b64",
        "critical extension b64: false",
        lambda s, p: p.assemble({**p.header, "crit": ["b64"], "b64": False}, p.claims, _decode(p.signature)),
    )
    yield forgery(
        "no-exp", "No expiry", "the claims without exp", lambda s, p: p.assemble(p.header, _without(p.claims, "exp"))
    )
    yield forgery(
        "expired",
        "Expired",
        "exp an hour ago",
        lambda s, p: p.assemble(p.header, {**p.claims, "exp": int(time.time()) - 3600}),
    )
    yield forgery(
        "later-exp",
        "Longer life",
        "exp in ten years under the old signature",
        lambda s, p: _tampered(p, exp=int(time.time()) + 315360000),
    )
    yield forgery(
        "wrong-aud",
        "Wrong audience",
        "aud of another system",
        lambda s, p: p.assemble(p.header, {**p.claims, "aud": "other.example"}),
    )
    yield forgery(
        "wrong-iss",
        "Wrong issuer",
        "iss of another system",
        lambda s, p: p.assemble(p.header, {**p.claims, "iss": "https://evil.example"}),
    )
    yield forgery(
        "role", "Another role", "role: admin under the old signature", lambda s, p: _tampered(p, role="admin")
    )
    yield forgery(
        "subject", "Another person", "another sub under the old signature", lambda s, p: _tampered(p, sub="usr_other")
    )
    yield forgery(
        "duplicate-claims",
        "Claims twice",
        '{"role": "user", "role": "admin"} under the old signature',
        lambda s, p: p.assemble(p.header, _json(p.claims)[:-1] + b',"role":"admin"}', _decode(p.signature)),
    )
    yield forgery(
        "truncated",
        "Truncated signature",
        "the last 32 bytes cut off",
        lambda s, p: p.token[: -len(_encode(bytes(32)))],
    )
    yield forgery(
        "no-signature", "No signature", "header and claims only", lambda s, p: p.token.rsplit(".", 1)[0] + "."
    )
    yield forgery(
        "psychic",
        "Psychic signature",
        "ES256 with r = s = 0 (CVE-2022-21449)",
        lambda s, p: p.assemble({**p.header, "alg": "ES256"}, p.claims, bytes(64)),
    )
    yield forgery(
        "typ",
        "Token of another type",
        "typ: JWT, as an ID token has",
        lambda s, p: p.assemble({**p.header, "typ": "JWT"}, p.claims, _decode(p.signature)),
    )
    yield forgery(
        "refresh",
        "Refresh token as access token",
        "the refresh token as bearer",
        lambda s, p: s.own()[1].refresh_token,
    )
    yield forgery(
        "jwe",
        "Encrypted instead of signed",
        "five parts, alg: dir",
        lambda s, p: ".".join(
            [_encode(_json({"alg": "dir", "enc": "A256GCM"})), "", "AA", _encode(_json(p.claims)), "AA"]
        ),
    )
    yield forgery(
        "huge",
        "A token of 50 KB",
        "one claim of 50 000 characters",
        lambda s, p: p.assemble(p.header, {**p.claims, "x": "A" * 50_000}),
    )
    yield Attack(
        "S-jwt-two-headers",
        Actor.STOLEN_TOKEN,
        "Two Authorization headers",
        "a user's valid token beside a forged one of a role that may read it, in both orders",
        "401 or 403",
        _two_headers,
        Alert.FORGED_TOKENS,
    )
    yield Attack(
        "S-jwt-in-query",
        Actor.STOLEN_TOKEN,
        "Token in the URL",
        "a valid token as ?access_token=, where logs and referrers keep it",
        "401, as without a token",
        lambda s: refused(s.get(_with_query(s.own()[0], f"access_token={s.own()[1].access_token}")), 401),
        Alert.DENY_BURST,
    )


def _parts(scene: Scene) -> Parts:
    if "parts" not in scene.notes:
        document = scene.get("/auth/jwks.json").json
        published = document["keys"] if isinstance(document, dict) else []
        scene.notes["parts"] = Parts(scene.own()[1].access_token, published)
    parts = scene.notes["parts"]
    assert isinstance(parts, Parts)  # nosec B101 - narrows the type of a note of our own
    return parts


def _try(scene: Scene, forge: Forge) -> Outcome:
    token = forge(scene, _parts(scene))
    return refused(scene.get(scene.own()[0], None, ("Authorization", f"Bearer {token}")), 401, 431)


def _with_query(target: str, query: str) -> str:
    return target + ("&" if "?" in target else "?") + query


def _two_headers(scene: Scene) -> Outcome:
    good = scene.session("user").access_token
    parts = _parts(scene)
    role = "audit" if scene.private == "/logs" else "admin"
    forged = parts.assemble(parts.header, {**parts.claims, "role": role})
    for first, second in ((good, forged), (forged, good)):
        reply = scene.get(
            scene.private, None, ("Authorization", f"Bearer {first}"), ("Authorization", f"Bearer {second}")
        )
        if reply.status not in (400, 401, 403):
            return got_through(reply.said, reply.evidence)
    return blocked(reply.said, "token verification", reply.evidence)


def _tampered(parts: Parts, **changes: Any) -> str:
    return parts.assemble(parts.header, {**parts.claims, **changes}, _decode(parts.signature))


def _without(claims: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in claims.items() if key != name}


def _json(document: Any) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
