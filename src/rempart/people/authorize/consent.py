"""What a person let a client have: asked once per client and scope, listed, revocable."""

from __future__ import annotations

from collections.abc import Sequence

from rempart.kernel.clock import Clock
from rempart.kernel.event import Event, EventType, Recorder

from ..model import Origin
from ..oauth.model import Client
from .model import Consent
from .ports import ConsentStore, Families


class Consents:
    """Every change is recorded before it takes effect: a crash leaves a record of what didn't happen, never a consent
    that nobody recorded.
    """

    def __init__(self, store: ConsentStore, families: Families, recorder: Recorder, clock: Clock) -> None:
        self._store, self._families, self._recorder, self._clock = store, families, recorder, clock

    async def covers(self, account_id: str, client: Client, scopes: Sequence[str]) -> bool:
        return set(scopes) <= set(await self._held(account_id, client))

    async def grant(self, account_id: str, client: Client, scopes: Sequence[str], origin: Origin) -> None:
        """Add these scopes to what the client has. Raises Unavailable."""
        held = await self._held(account_id, client)
        after = Consent(
            account_id=account_id,
            client_id=client.id,
            client_name=client.name,
            scopes=tuple(dict.fromkeys((*held, *scopes))),
            granted_at=self._clock.now(),
        )
        await self._record(account_id, client.id, held, after.scopes, origin)
        await self._store.put(after)

    async def _held(self, account_id: str, client: Client) -> Sequence[str]:
        """What was given to an earlier client of the same id is not this one's."""
        consent = await self._store.get(account_id, client.id)
        return consent.scopes if consent is not None and consent.granted_at >= client.created_at else ()

    async def of_account(self, account_id: str) -> Sequence[Consent]:
        """In the order of client ids."""
        return await self._store.of_account(account_id)

    async def revoke(self, account_id: str, client_id: str, origin: Origin) -> bool:
        """False when there was none. What the client holds for this account ends, too."""
        before = await self._store.get(account_id, client_id)
        if before is None:
            return False
        await self._record(account_id, client_id, before.scopes, (), origin)
        await self._store.delete(account_id, client_id)
        await self._families.revoke_all(account_id, "consent revoked", self._clock.now(), client_id=client_id)
        return True

    async def _record(
        self, account_id: str, client_id: str, before: Sequence[str], after: Sequence[str], origin: Origin
    ) -> None:
        await self._recorder.record(
            origin.stamp(
                Event(
                    type=EventType.CONSENT_CHANGED,
                    at=self._clock.now(),
                    success=True,
                    person=account_id,
                    before={"scopes": list(before)},
                    after={"scopes": list(after)},
                    details={"client": client_id},
                )
            )
        )
