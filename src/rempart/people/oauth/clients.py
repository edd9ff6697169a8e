"""Registering clients, finding them quickly, and how their secrets are kept."""

from __future__ import annotations

import base64
import hmac
import math
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Conflict, NotFound
from rempart.kernel.event import Event, EventType, Recorder, Severity
from rempart.people.model import Origin

from .client_rules import LEAST_SECRET, check_client
from .model import Client
from .ports import ClientStore
from .profile import Profile

REMEMBERED = 1.0  # seconds for which another instance's change of a client may go unnoticed
_MOST = 1024


class Clients:
    """`key` hashes secrets and is no other purpose's: the store alone gives nothing to guess at."""

    def __init__(
        self,
        store: ClientStore,
        recorder: Recorder,
        clock: Clock,
        profile: Profile,
        *,
        key: bytes,
        gateway: str,
        trust_domain: str,
    ) -> None:
        self._store, self._recorder, self._clock = store, recorder, clock
        self._key, self._gateway, self._trust_domain = key, gateway, trust_domain
        self.profile = profile
        self._known: OrderedDict[str, tuple[Client | None, float, float]] = OrderedDict()

    async def get(self, client_id: str) -> Client | None:
        """As it was at most `REMEMBERED` seconds ago; changes made by this process count at once."""
        return (await self._find(client_id))[0]

    async def tokens_from(self, client_id: str) -> float | None:
        """Since when its tokens stand, None where there is no such client: what is older was another one's of the same
        id, or was given for a certificate that fell. As old as what `get` tells."""
        client, ended_at = await self._find(client_id)
        if client is None:
            return None
        return max(client.created_at, after(ended_at)) if ended_at else client.created_at

    async def _find(self, client_id: str) -> tuple[Client | None, float]:
        if len(client_id) > 64:
            return None, 0.0
        now = self._clock.monotonic()
        known = self._known.get(client_id)
        if known is not None and now - known[2] < REMEMBERED:
            return known[0], known[1]
        client = await self._store.get(client_id)
        ended_at = await self._store.ended_at(client_id) if client is not None else 0.0
        self._known[client_id] = (client, ended_at, now)
        self._known.move_to_end(client_id)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return client, ended_at

    def forget(self, client_id: str) -> None:
        """Somebody changed what is stored of it."""
        self._known.pop(client_id, None)

    async def any_with(self, grant: str) -> bool:
        return await self._store.any_with(grant)

    async def workload(self, spiffe_id: str) -> Client | None:
        return await self._store.by_spiffe_id(spiffe_id)

    async def show(self, client_id: str) -> Client:
        """Raises NotFound `no_such_client`."""
        client = await self._store.get(client_id)
        if client is None:
            raise NotFound("no_such_client", "there is no such client", "see `rempart client list`")
        return client

    async def page(self, after: str, limit: int) -> Sequence[Client]:
        return await self._store.page(after, limit)

    async def add(self, client: Client, secret: str | None, origin: Origin) -> Client:
        """The client as it is kept; `secret` for the methods with one. Recorded durably, then stored.

        Raises BadInput as `check_client` does, Conflict `client_exists`.
        """
        if secret is not None and len(secret) < LEAST_SECRET:
            raise BadInput("weak_secret", f"a client's secret has at least {LEAST_SECRET} characters", "let it be made")
        if client.id == self._trust_domain:  # its ID tokens would be for the audience that the gateway accepts
            raise BadInput("invalid_client_metadata", "the trust domain's name is nobody's client_id")
        if client.spiffe_id == self._gateway:
            raise BadInput("invalid_client_metadata", "everybody comes through the gateway: it is nobody's proof")
        kept = check_client(self.proved_by(client, secret), self.profile)
        if await self._store.get(kept.id) is not None:
            raise Conflict("client_exists", "there is a client of this id", "delete it first, or choose another id")
        event = self._event(origin, None, kept.shown())
        await self._recorder.record(event)
        kept = await self._store.add(kept)
        self._known.pop(kept.id, None)
        return kept

    def proved_by(self, client: Client, secret: str | None) -> Client:
        """The client as it would be kept."""
        secret_hash = self.hash(secret) if secret else b""
        return msgspec.structs.replace(client, secret_hash=secret_hash, created_at=self._clock.now())

    async def change(self, client_id: str, changes: Mapping[str, Any], secret: str | None, origin: Origin) -> Client:
        """The client as it is kept; its tokens stand, a former secret is worth nothing. Recorded durably, then stored.

        Raises NotFound `no_such_client`, BadInput as `check_client` does, Conflict `changed_meanwhile`.
        """
        before = await self.show(client_id)
        wanted = msgspec.structs.replace(before, **changes)
        if secret is not None:
            if len(secret) < LEAST_SECRET:
                raise BadInput("weak_secret", f"a client's secret has at least {LEAST_SECRET} characters", "make one")
            wanted = msgspec.structs.replace(wanted, secret_hash=self.hash(secret))
        kept = check_client(wanted, self.profile)
        if kept == before:
            return before
        told = kept.shown() | ({"proof": "new"} if secret is not None else {})
        await self._recorder.record(self._event(origin, before.shown(), told))
        if not await self._store.replace(before, kept):
            raise Conflict("changed_meanwhile", "somebody else changed this client", "look at it, then try again")
        self._known.pop(client_id, None)
        return kept

    async def delete(self, client_id: str, origin: Origin) -> Client:
        """Its tokens and refresh families are refused from then on. Raises NotFound `no_such_client`."""
        client = await self.show(client_id)
        await self._recorder.record(self._event(origin, client.shown(), None))
        await self._store.delete(client_id, self._clock.now())
        self._known.pop(client_id, None)
        return client

    def hash(self, secret: str) -> bytes:
        """Keyed, because a person may have chosen it."""
        return hmac.digest(self._key, secret.encode("utf-8", "replace"), "sha256")

    def _event(self, origin: Origin, before: dict[str, Any] | None, after: dict[str, Any] | None) -> Event:
        about = after or before or {}
        return origin.stamp(
            Event(
                type=EventType.CLIENT_CHANGED,
                at=self._clock.now(),
                success=True,
                severity=Severity.MEDIUM,
                before=before,
                after=after,
                details={"client": about.get("id")},
            )
        )


def after(deleted_at: float) -> float:
    """When a client of the same id may begin: tokens tell whole seconds, and instances may give some to the deleted one
    for as long as they remember it. What is older is not the new one's, so a tie must fall to the old one."""
    return math.floor(deleted_at + REMEMBERED) + 1.0


def new_secret() -> str:
    """256 random bits in base64url."""
    return base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
