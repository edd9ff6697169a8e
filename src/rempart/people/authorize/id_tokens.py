"""ID tokens (OpenID Connect Core section 2) and what scopes tell of a person (section 5.4)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rempart.crypto.jose import SigningKey, verify_jwt
from rempart.kernel import strict_json
from rempart.kernel.clock import Clock
from rempart.kernel.errors import RempartError
from rempart.kernel.ids import new_id

from ..access_tokens import SESSION
from ..model import Account
from ..oauth.model import Client
from ..signing_keys import SigningKeys
from .model import acr_of

ID_TOKEN = "JWT"  # nosec B105 - a media type
LOGOUT_TOKEN = "logout+jwt"  # nosec B105 - a media type (OpenID Connect Back-Channel Logout section 2.4)
_LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"
_LOGOUT_TTL = 120


@dataclass(frozen=True, slots=True)
class Hint:
    """What a verified `id_token_hint` says; how old it is doesn't matter."""

    client_id: str
    subject: str
    session_id: str


class IdTokens:
    """`ttl` in seconds. Signed as their client is registered: with one of `algorithms`, else with the first.

    Clients look for a key that they don't know (Core section 10.1.1), so a new algorithm's key signs at once.
    """

    def __init__(self, keys: SigningKeys, clock: Clock, algorithms: Sequence[str], *, issuer: str, ttl: int) -> None:
        self._keys, self._clock, self._algorithms = keys, clock, algorithms
        self._issuer, self._ttl = issuer, ttl

    def mint(
        self,
        account: Account,
        *,
        client: Client,
        session_id: str,
        amr: tuple[str, ...],
        auth_time: float,
        nonce: str = "",
        access_token: str = "",  # nosec B107 - empty means none
    ) -> str:
        """`nonce` as the client gave it. With `access_token` the claim `at_hash` (section 3.1.3.6)."""
        now = int(self._clock.now())
        signer = self._signer(client)
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "sub": account.id,
            "aud": client.id,
            "azp": client.id,
            "iat": now,
            "exp": now + self._ttl,
            "auth_time": int(auth_time),
            "amr": list(amr),
            "acr": acr_of(amr),
            "jti": new_id("idt"),
        }
        if session_id:
            claims["sid"] = session_id
        if nonce:
            claims["nonce"] = nonce
        if access_token:
            claims["at_hash"] = _half_hash(access_token, signer.algorithm)
        return signer.sign(claims, typ=ID_TOKEN)

    def logout(self, client: Client, account_id: str, session_id: str) -> str:
        """A logout token (OpenID Connect Back-Channel Logout section 2.4)."""
        now = int(self._clock.now())
        return self._signer(client).sign(
            {
                "iss": self._issuer,
                "sub": account_id,
                "aud": client.id,
                "iat": now,
                "exp": now + _LOGOUT_TTL,
                "jti": new_id("lgt"),
                "events": {_LOGOUT_EVENT: {}},
                "sid": session_id,
            },
            typ=LOGOUT_TOKEN,
        )

    def _signer(self, client: Client) -> SigningKey:
        """A registration from under another security profile doesn't bring its algorithm back."""
        asked = client.id_token_signed_response_alg
        return self._keys.signer(asked if asked in self._algorithms else self._algorithms[0])

    def read_hint(self, token: str) -> Hint | None:
        """An ID token of ours, expired or not; None for anything else, and when its key was retired."""
        try:
            payload = token.split(".")[1]
            unverified = strict_json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            audience, expires = unverified["aud"], float(unverified["exp"])
            claims = verify_jwt(
                token,
                self._keys.jwks,
                typ=ID_TOKEN,
                issuer=self._issuer,
                audience=audience,
                now=min(self._clock.now(), expires - 1),
            )
            return Hint(str(audience), str(claims["sub"]), str(claims.get("sid", "")))
        except (RempartError, ValueError, LookupError, TypeError, OverflowError):
            return None


def claims_of(account: Account, scopes: Sequence[str]) -> dict[str, Any]:
    """What the scopes let a client know (OpenID Connect Core section 5.4); the role for one's own session only."""
    claims: dict[str, Any] = {"sub": account.id}
    whole = SESSION in scopes
    if whole or "profile" in scopes:
        claims["name"] = account.name
        claims["updated_at"] = int(account.updated_at)
    if whole or "email" in scopes:
        claims["email"] = account.email
    if whole or "roles" in scopes:
        claims["role"] = account.role
    if whole:
        claims["payment_limit"] = account.payment_limit
    return claims


def _half_hash(token: str, algorithm: str) -> str:
    """Ed25519 goes with SHA-512, the others here with SHA-256."""
    digest = (hashlib.sha512 if algorithm == "EdDSA" else hashlib.sha256)(token.encode()).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
