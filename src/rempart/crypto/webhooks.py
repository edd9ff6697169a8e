"""Signing what is posted to others: Standard Webhooks (standardwebhooks.com), symmetric scheme `v1`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from rempart.kernel.errors import BadInput

_PREFIX = "whsec_"


class WebhookSigner:
    """`secret` is `whsec_` and base64 of 24 to 64 bytes. Raises BadInput `bad_webhook_secret`."""

    def __init__(self, secret: str) -> None:
        try:
            self._key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            self._key = b""
        if not secret.startswith(_PREFIX) or not 24 <= len(self._key) <= 64:
            remedy = 'make one: echo "whsec_$(openssl rand -base64 32)"'
            raise BadInput("bad_webhook_secret", "a webhook's secret is whsec_ and base64 of 24 to 64 bytes", remedy)

    def __repr__(self) -> str:
        return "WebhookSigner()"

    def headers(self, id: str, at: int, body: bytes) -> Mapping[str, str]:
        """`id` names the message, the same whenever it is sent again; `at` is now, in seconds since the epoch."""
        mac = hmac.new(self._key, f"{id}.{at}.".encode() + body, hashlib.sha256).digest()
        return {
            "webhook-id": id,
            "webhook-timestamp": str(at),
            "webhook-signature": "v1," + base64.b64encode(mac).decode(),
        }
