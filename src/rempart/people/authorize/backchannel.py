"""Telling clients that a session ended (OpenID Connect Back-Channel Logout section 2.5), outside any request.

A delivery is leased, sent, and then either done or put off; killed in between, its lease runs out and it is sent again:
at least once, which the token's `sid` and `jti` make harmless. It goes to the address that the operator registered for
the client, as it is at that moment, and to no other.
"""

from __future__ import annotations

import asyncio

from rempart.kernel.clock import Clock
from rempart.kernel.event import Event, EventType, Recorder, Severity

from .id_tokens import IdTokens
from .model import told_of_logout
from .ports import Clients, Delivery, LogoutSender, LogoutStore

LEASE = 60.0  # seconds: longer than a sender may take
_OVERLAP = 60.0  # seconds looked at again: a slow transaction, or another instance whose clock is behind
BATCH = 16  # sent side by side
DELAYS = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0)  # seconds before each further attempt


class BackChannel:
    """`deliver` is to be called every second or so, by each instance.

    `looking_back`: seconds for which changes of accounts are looked at when the process starts.
    """

    def __init__(
        self,
        store: LogoutStore,
        clients: Clients,
        sender: LogoutSender,
        id_tokens: IdTokens,
        recorder: Recorder,
        clock: Clock,
        *,
        looking_back: float,
    ) -> None:
        self._looked = clock.now() - looking_back
        self._store, self._clients, self._sender = store, clients, sender
        self._id_tokens, self._recorder, self._clock = id_tokens, recorder, clock

    async def deliver(self) -> int:
        """Send what is due; how many. Raises Unavailable when the store or the record is down: what is due stays."""
        now = self._clock.now()
        await self._store.superseded(self._looked - _OVERLAP, now)
        self._looked = now
        due = await self._store.due(now, LEASE, BATCH)
        await asyncio.gather(*(self._one(delivery) for delivery in due))
        return len(due)

    async def sweep(self) -> int:
        """Forget sessions that are long over."""
        return await self._store.sweep(self._clock.now())

    async def _one(self, delivery: Delivery) -> None:
        client = await self._clients.get(delivery.client_id)
        if client is None or not told_of_logout(client):
            await self._store.done(delivery.id)
            return
        token = self._id_tokens.logout(client, delivery.account_id, delivery.session_id)
        taken = await self._sender.post(client.backchannel_logout_uri, token)
        if not taken and delivery.attempts < len(DELAYS):
            await self._store.again(delivery.id, self._clock.now() + DELAYS[delivery.attempts])
            return
        await self._recorder.record(
            Event(
                type=EventType.SESSION_ENDED,
                at=self._clock.now(),
                success=taken,
                severity=Severity.INFO if taken else Severity.MEDIUM,
                reason="" if taken else "the client could not be told",
                person=delivery.account_id,
                details={
                    "client": client.id,
                    "session": delivery.session_id,
                    "attempts": delivery.attempts + 1,
                    "told": taken,
                },
            )
        )
        await self._store.done(delivery.id)
