"""Refresh tokens: opaque, used once, in families; a token that comes back after its successor kills its family.

A token is `FAMILY.SECRET.MACS`: 256 random bits, and a MAC by which a token of ours is known without a look at the
store, even long after it was rotated away; so a stranger who learns a family's id can't kill it, and the store keeps
only the newest token's SHA-256 however often it is rotated (RFC 9700 section 4.14.2). A second MAC holds the client
and, for a public one, the key that it proved: nobody else's presenting it touches the family.

A lost answer: within `GRACE` seconds the same token gives the same successor again, kept sealed under the presented
token itself: the store alone opens nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
from dataclasses import dataclass, field
from typing import Any

from rempart.crypto.aead import derive_key, seal, unseal
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput
from rempart.kernel.event import Event, EventType, Recorder, Severity
from rempart.kernel.ids import new_id

from .access_tokens import SESSION, AccessTokens
from .collapse import Collapse
from .model import Account, Dead, Origin, RefreshFamily, Reused, Rotated
from .ports import AccountStore, RefreshStore
from .sessions.model import GRANTS

GRACE = 10.0  # seconds
_TOKEN = re.compile(r"(fam_[0-9a-z]{26})\.[A-Za-z0-9_-]{43}\.[A-Za-z0-9_-]{44}")


@dataclass(frozen=True, slots=True)
class Grant:
    """What a successful login or refresh gives; `expires_in` in seconds."""

    account: Account
    access_token: str = field(repr=False)
    expires_in: int
    refresh_token: str = field(repr=False)
    scope: str


@dataclass(frozen=True, slots=True)
class Redeemed:
    """A refresh token that was good: who it is for, and its successor."""

    account: Account
    family: RefreshFamily
    refresh_token: str = field(repr=False)


class RefreshTokens:
    """`key` authenticates tokens and is no other purpose's. `rotating` is False only with that control switched off."""

    def __init__(
        self,
        store: RefreshStore,
        accounts: AccountStore,
        access: AccessTokens,
        recorder: Recorder,
        refusals: Collapse,
        clock: Clock,
        *,
        key: bytes,
        ttl: float,
        keep: int = GRANTS,
        rotating: bool = True,
    ) -> None:
        self._store, self._accounts, self._access = store, accounts, access
        self._recorder, self._refusals, self._clock = recorder, refusals, clock
        self._mac_key = hmac.new(key, digestmod="sha256")
        self._ttl, self._keep, self._rotating = ttl, keep, rotating

    async def open(self, account: Account, amr: tuple[str, ...], origin: Origin) -> Grant:
        """A new family for somebody who just logged in without a client. Nothing is recorded here: that is the
        caller's."""
        family = self.family(account, amr=amr, scope=SESSION, origin=origin)
        token = await self.begin(family, bound_to="")
        access = self._access.mint(account, session=family.id, amr=amr, auth_time=family.created_at, scope=SESSION)
        return Grant(account, access, self._access.ttl, token, SESSION)

    def family(
        self, account: Account, *, amr: tuple[str, ...], scope: str, origin: Origin, family_id: str = "", **more: Any
    ) -> RefreshFamily:
        """A family that begins now; `more` are further fields of RefreshFamily."""
        now = self._clock.now()
        fields: dict[str, Any] = {
            "id": family_id or new_id("fam"),
            "account_id": account.id,
            "epoch": account.epoch,
            "amr": amr,
            "scope": scope,
            "network": origin.network,
            "user_agent": origin.user_agent,
            "created_at": now,
            "last_used_at": now,
            "expires_at": now + self._ttl,
            **more,
        }
        return RefreshFamily(**fields)

    async def begin(self, family: RefreshFamily, *, bound_to: str) -> str:
        """Open the family; its first token, good for the client's id and the key `bound_to` only ("" for any)."""
        token = self._new(family.id, _holder(family.client_id, bound_to))
        await self._store.open(family, _hash(token), keep=self._keep)
        return token

    async def find(self, token: str, client_id: str, key: str) -> tuple[RefreshFamily, bool] | None:
        """The family of a token of this client, and whether the token is its newest; changes nothing."""
        family_id, _ = self._recognised(token, client_id, key)
        found = await self._store.find(family_id) if family_id else None
        return (found[0], hmac.compare_digest(found[1], _hash(token))) if found else None

    async def alive(self, family: RefreshFamily) -> bool:
        account = await self._accounts.get(family.account_id)
        return (
            family.revoked_at is None
            and family.expires_at > self._clock.now()
            and account is not None
            and not account.disabled
            and account.epoch == family.epoch
        )

    async def redeem(self, token: str, client_id: str, key: str, origin: Origin) -> Redeemed | None:
        """The successor, or None when the token is no good for this client and key (the record says why).

        That it succeeded is the caller's to record, before answering. Raises Unavailable when the store or the record
        is down; the token is still good then, for `GRACE` seconds.
        """
        family_id, holder = self._recognised(token, client_id, key)
        if not family_id:
            await self._refuse("not a token of ours, or of another client or key", None, origin)
            return None
        successor = self._new(family_id, holder) if self._rotating else token
        sealed = seal(_successor_key(token), successor.encode(), family_id.encode())
        outcome = await self._store.rotate(
            family_id, _hash(token), _hash(successor), sealed, now=self._clock.now(), grace=GRACE
        )
        if isinstance(outcome, Reused):
            await self._recorder.record(self._event(EventType.TOKEN_REUSED, outcome.family, origin, Severity.HIGH))
            return None
        if isinstance(outcome, Dead):
            await self._refuse(outcome.why, outcome.family, origin)
            return None
        if isinstance(outcome, Rotated):
            return Redeemed(outcome.account, outcome.family, successor)
        successor = unseal(_successor_key(token), outcome.sealed_successor, family_id.encode()).decode()
        account = await self._accounts.get(outcome.family.account_id)
        if account is None or account.disabled or account.epoch != outcome.family.epoch:
            await self._refuse("the account was disabled or changed", outcome.family, origin)
            return None
        return Redeemed(account, outcome.family, successor)

    async def revoke(self, token: str, client_id: str, origin: Origin) -> bool:
        """End the family of a token of this client; whether it was alive. BadInput `invalid_grant` for another client's
        (RFC 7009 section 2.1)."""
        family_id = self._owned(token)
        found = await self._store.find(family_id) if family_id else None
        if found is None:
            return False
        if found[0].client_id != client_id:
            raise BadInput("invalid_grant", "the token was issued to another client")
        return await self.end(family_id, "logout", origin)

    async def end(self, family_id: str, why: str, origin: Origin) -> bool:
        """Whether it was alive."""
        family = await self._store.revoke(family_id, why, self._clock.now())
        if family is not None:
            await self._recorder.record(self._event(EventType.TOKEN_REVOKED, family, origin, Severity.INFO))
        return family is not None

    def _new(self, family_id: str, holder: str) -> str:
        text = f"{family_id}.{_b64(os.urandom(32))}"
        return f"{text}.{self._mac(text)}{self._mac(text, holder)}"

    def _mac(self, text: str, holder: str = "") -> str:
        mac = self._mac_key.copy()  # not `hmac.digest`, which lets go of the interpreter, for longer than it takes
        mac.update(f"{text} {holder}".encode())
        return _b64(mac.digest()[:16])

    def _owned(self, token: str) -> str:
        """The family of a token of ours, whoever holds it; "" for none."""
        found = _TOKEN.fullmatch(token)
        if not found:
            return ""
        text, _, macs = token.rpartition(".")
        return found[1] if hmac.compare_digest(self._mac(text), macs[:22]) else ""

    def _recognised(self, token: str, client_id: str, key: str) -> tuple[str, str]:
        """The family and the holder of a token of ours which this client may present with this key; "" for none."""
        family_id = self._owned(token)
        text, _, macs = token.rpartition(".")
        for holder in (_holder(client_id, key), _holder(client_id, "")):
            if family_id and hmac.compare_digest(self._mac(text, holder), macs[22:]):
                return family_id, holder
        return "", ""

    async def _refuse(self, why: str, family: RefreshFamily | None, origin: Origin) -> None:
        event = self._event(EventType.TOKEN_REFUSED, family, origin, Severity.LOW, why)
        await self._refusals.record(event, origin.network, family.id if family else "")

    def _event(
        self, kind: EventType, family: RefreshFamily | None, origin: Origin, severity: Severity, reason: str = ""
    ) -> Event:
        reused = kind is EventType.TOKEN_REUSED
        return origin.stamp(
            Event(
                type=kind,
                at=self._clock.now(),
                success=kind is EventType.TOKEN_REVOKED,
                severity=severity,
                reason="a refresh token came back after its successor: its family was revoked" if reused else reason,
                person=family.account_id if family else None,
                details={
                    "token": "refresh",  # nosec B105 - a kind
                    "session": family.id if family else None,
                    "client": family.client_id if family else None,
                },
            )
        )


def _holder(client_id: str, key: str) -> str:
    return f"{client_id} {key}"


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _successor_key(token: str) -> bytes:
    return derive_key(token.encode(), "people/refresh-successor")


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
