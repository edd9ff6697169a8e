"""Known devices: a token that says "this account has logged in from here before", and nothing else.

It opens nothing: it only puts its bearer in a line of their own when strangers guess at the account.
"""

from __future__ import annotations

import base64
import hmac
import os
import re

from starlette.responses import Response

from .model import Account

DEVICE_COOKIE = "__Host-rempart-device"
_YEAR = 365 * 86400

_TOKEN = re.compile(r"([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{22})")


class Devices:
    """`key` authenticates device tokens and is no other purpose's. A token dies with the account's epoch."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, account: Account) -> str:
        device = _b64(os.urandom(16))
        return f"{device}.{self._mac(device, account)}"

    def known(self, token: str | None, account: Account | None) -> str | None:
        """The device's id if the token is ours and of this account."""
        found = _TOKEN.fullmatch(token) if token else None
        if found is None or account is None:
            return None
        return found[1] if hmac.compare_digest(self._mac(found[1], account), found[2]) else None

    def _mac(self, device: str, account: Account) -> str:
        text = f"{device} {account.id} {account.epoch}".encode()
        return _b64(hmac.digest(self._key, text, "sha256")[:16])


def set_device(response: Response, token: str) -> None:
    response.set_cookie(DEVICE_COOKIE, token, max_age=_YEAR, path="/", secure=True, httponly=True, samesite="strict")


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
