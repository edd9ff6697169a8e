"""An authenticator and the browser's half of both ceremonies, in software: what a test changes, it forges."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

UP, UV, BE, BS, AT = 0x01, 0x04, 0x08, 0x10, 0x40


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class SoftwareAuthenticator:
    """One key. `flags` of its answers: user present, verified, synced; a `counter` of 0 stays 0."""

    origin: str = "https://localhost:8443"
    flags: int = UP | UV
    counter: int = 0
    step: int = 1
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential_id: bytes = field(default_factory=lambda: os.urandom(32))
    rp_id: str | None = None
    user_handle: bytes | None = None

    def create(self, options: dict[str, Any], *, attestation: str = "none", **client: Any) -> dict[str, Any]:
        """`navigator.credentials.create`; `client` changes clientDataJSON."""
        self.user_handle = unb64(options["user"]["id"])
        client_data = self._client_data("webauthn.create", options["challenge"], client)
        public = self.key.public_key().public_numbers()
        cose = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: public.x.to_bytes(32, "big"), -3: public.y.to_bytes(32, "big")})
        attested = bytes(16) + len(self.credential_id).to_bytes(2, "big") + self.credential_id + cose
        data = self._data(self.rp_id or options["rp"]["id"], AT) + attested
        statement = {}
        if attestation == "packed":  # self attestation, section 8.2
            statement = {"alg": -7, "sig": self._sign(data + hashlib.sha256(client_data).digest())}
        response = {
            "clientDataJSON": b64(client_data),
            "attestationObject": b64(cbor2.dumps({"fmt": attestation, "attStmt": statement, "authData": data})),
            "transports": ["internal", "something-new"],
        }
        return self._answer(response)

    def get(self, options: dict[str, Any], **client: Any) -> dict[str, Any]:
        """`navigator.credentials.get`."""
        client_data = self._client_data("webauthn.get", options["challenge"], client)
        self.counter += self.step if self.counter or self.step > 1 else 0
        data = self._data(self.rp_id or options["rpId"], 0)
        response = {
            "clientDataJSON": b64(client_data),
            "authenticatorData": b64(data),
            "signature": b64(self._sign(data + hashlib.sha256(client_data).digest())),
            "userHandle": b64(self.user_handle) if self.user_handle else None,
        }
        return self._answer(response)

    def _client_data(self, kind: str, challenge: str, changed: dict[str, Any]) -> bytes:
        document = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False, **changed}
        return json.dumps(document).encode()

    def _data(self, rp_id: str, more: int) -> bytes:
        return hashlib.sha256(rp_id.encode()).digest() + bytes([self.flags | more]) + self.counter.to_bytes(4, "big")

    def _sign(self, data: bytes) -> bytes:
        return self.key.sign(data, ec.ECDSA(SHA256()))

    def _answer(self, response: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": b64(self.credential_id),
            "rawId": b64(self.credential_id),
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": response,
        }
