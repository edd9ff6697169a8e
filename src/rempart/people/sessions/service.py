"""Opening, finding, raising and ending sessions; every change is recorded before it is answered, and what takes
something from somebody before it is done: a record that can't be written costs nobody their session.

A token is 256 random bits, kept as SHA-256. A session bound to a key dies when a use comes without proof of it:
somebody else holds the token. Where there is no key, signals of the place only ask for authentication again.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from starlette.requests import Request

from rempart.crypto.dbsc import DeviceKey
from rempart.kernel.clock import Clock
from rempart.kernel.event import Event, EventType, Recorder, Severity
from rempart.kernel.ids import new_id
from rempart.people.collapse import Collapse
from rempart.people.model import Authenticated, Origin
from rempart.people.ports import AccountStore

from .cookies import token_of
from .device_keys import DeviceKeys
from .model import KEEP, LIMITS, Doubted, Kind, Limits, Opened, Session, Stored
from .ports import SessionEnding, SessionStore
from .sealing import opened, sealed
from .signals import THRESHOLD, signals

_TOUCH_AFTER = 60.0  # seconds: a session's `seen_at` is that precise, and a tenth of its idle time where that is less
_LEARNS_WITHIN = 10.0  # seconds from the server's binding a session until its browser must send the short cookie
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


class Sessions:
    """`key` seals sessions at rest and is no other purpose's. An account has `keep` living sessions at most."""

    def __init__(
        self,
        store: SessionStore,
        accounts: AccountStore,
        recorder: Recorder,
        refusals: Collapse,
        clock: Clock,
        *,
        key: bytes,
        limits: Mapping[Kind, Limits] = LIMITS,
        keep: int = KEEP,
        device_keys: DeviceKeys | None = None,
        ending: Sequence[SessionEnding] = (),
    ) -> None:
        self._store, self._accounts, self._clock = store, accounts, clock
        self._recorder, self._refusals = recorder, refusals
        self._key, self._limits, self._keep, self._ending = key, limits, keep, ending
        self._device_keys = device_keys

    async def open(
        self,
        who: Authenticated,
        kind: Kind,
        origin: Origin,
        *,
        key: str | None = None,
        replaces: Session | None = None,
    ) -> Opened:
        """A new session. `replaces` is what the same client held before: it ends. Raises Unavailable."""
        if replaces is not None:
            await self.end(replaces.id, "replaced", origin)
        now = self._clock.now()
        session = self._fresh(new_id("ses"), who, kind, key, now, now, origin)
        token, token_hash = _new_token()
        for superseded in await self._store.open(sealed(session, token_hash, self._key), keep=self._keep):
            await self._ended(superseded, session.account_id, "too_many", origin)
        await self._record(EventType.SESSION_OPENED, session, origin)
        return Opened(token, session)

    async def find(self, token: str, origin: Origin, *, proof: str | None = None) -> Session | Doubted | None:
        """The living session of this token. `proof` is the thumbprint of a key that the caller saw proved.

        None when there is none, or its account is disabled or changed since. Raises Unavailable.
        """
        if not _TOKEN.fullmatch(token):
            return None
        now, token_hash = self._clock.now(), _hash(token)
        stored = await self._store.find(token_hash, now)
        session = await self._valid(stored)
        if session is None:
            return None
        if session.device_key and not self._device_proved(session, origin, now):
            await self._suspect(session, ("device_key",), THRESHOLD, origin)
            return Doubted(session, ("device_key",), THRESHOLD)
        if session.key is not None and session.key != proof and not session.device_key:
            await self.end_in_other_hands(session, origin)
            return None
        changed = signals(session, origin)
        score = sum(changed.values())
        if score >= THRESHOLD:
            await self._suspect(session, tuple(changed), score, origin)
            return Doubted(session, tuple(changed), score)
        if now - session.seen_at < min(_TOUCH_AFTER, self._limits[session.kind].idle / 10):
            return session
        ends_at = self._end_of(session.kind, session.auth_time, now)
        if not await self._store.touch(token_hash, now, ends_at):
            return None  # it ended this moment
        return replace(session, seen_at=now, ends_at=ends_at)

    async def current(self, request: Request, origin: Origin) -> Session | None:
        """Of the request's cookie; a doubted one counts as none. Raises Unavailable."""
        token = token_of(request)
        found = await self.find(token, origin) if token else None
        return found if isinstance(found, Session) else None

    async def alive(self, session_id: str) -> Session | None:
        """By its public id: for what was granted under it. Touches nothing. Raises Unavailable."""
        return await self._valid(await self._store.by_id(session_id, self._clock.now()))

    async def raise_privilege(self, session: Session, who: Authenticated, origin: Origin) -> Opened:
        """The same session under a new token after its person proved more, or proved it again; the old token is dead.

        What was proved before counts on, unless the session is doubted here: then whoever holds the token may not be
        who proved it. Somebody else's proof, or a session that ended meanwhile, opens a new one. Raises Unavailable.
        """
        now = self._clock.now()
        old = await self._store.by_id(session.id, now)
        current = await self._valid(old)
        key = None if session.device_key else session.key  # a browser is asked for a key of its device anew
        if old is None or current is None or current.account_id != who.account.id:
            return await self.open(who, session.kind, origin, key=key, replaces=current)
        proved = not current.device_key or self._device_proved(current, origin, now)
        if proved and sum(signals(current, origin).values()) < THRESHOLD:
            who = replace(who, amr=tuple(dict.fromkeys((*current.amr, *who.amr))))
        raised = self._fresh(current.id, who, current.kind, key, current.created_at, now, origin)
        token, token_hash = _new_token()
        await self._record(EventType.SESSION_OPENED, raised, origin, reason="privilege raised")
        if not await self._store.replace(old.token_hash, sealed(raised, token_hash, self._key)):
            return await self.open(who, session.kind, origin, key=key)
        return Opened(token, raised)

    async def held(self, token: str) -> Session | None:
        """Whose token this is, whatever is proved and from wherever: for who comes to prove. Raises Unavailable."""
        return await self._valid(await self._store.find(_hash(token), self._clock.now()))

    async def bind(self, token: str, session: Session, key: DeviceKey, origin: Origin) -> Session | None:
        """From now on the browser must prove this key of its device. None when the session ended meanwhile."""
        bound = replace(session, key=key.thumbprint, device_key=key.jwk, bound_at=self._clock.now())
        await self._record(EventType.SESSION_OPENED, bound, origin, reason="bound to a key of its device")
        token_hash = _hash(token)
        return bound if await self._store.replace(token_hash, sealed(bound, token_hash, self._key)) else None

    async def end_in_other_hands(self, session: Session, origin: Origin) -> None:
        """Somebody who holds its token signed with another key than its own."""
        await self._end(session, "the key it is bound to was not proved", origin, Severity.HIGH)

    async def end(self, session_id: str, why: str, origin: Origin) -> bool:
        """False when there was none. Raises Unavailable."""
        stored = await self._store.by_id(session_id, self._clock.now())
        return stored is not None and await self._end(stored, why, origin)

    async def list(self, account_id: str) -> Sequence[Session]:
        """Living ones, newest first. Raises Unavailable."""
        account = await self._accounts.get(account_id)
        if account is None or account.disabled:
            return []
        stored = await self._store.of_account(account_id, self._clock.now())
        sessions = (opened(one, self._key) for one in stored)
        return [session for session in sessions if session.epoch == account.epoch]

    async def end_all(self, account_id: str, why: str, origin: Origin, *, keep: str | None = None) -> int:
        """Every session of the account but `keep`; how many ended. Raises Unavailable."""
        ended = 0
        for stored in await self._store.of_account(account_id, self._clock.now()):
            if stored.id != keep:
                ended += await self._end(stored, why, origin)
        return ended

    async def end_superseded(self, account_id: str) -> int:
        """End properly what a change of the account has cut off already: who must hear of it hears. How many."""
        account = await self._accounts.get(account_id)
        ended = 0
        for stored in await self._store.of_account(account_id, self._clock.now()):
            if account is None or account.disabled or opened(stored, self._key).epoch != account.epoch:
                ended += await self._end(stored, "the account was changed or disabled", Origin())
        return ended

    async def sweep(self) -> int:
        return await self._store.sweep(self._clock.now())

    def _device_proved(self, session: Session, origin: Origin, now: float) -> bool:
        """A browser learns in the background that its session is bound: what it sent before that counts a little."""
        if self._device_keys is None:
            return False
        return now - session.bound_at < _LEARNS_WITHIN or self._device_keys.proves(origin.device_proof, session)

    async def _valid(self, stored: Stored | None) -> Session | None:
        if stored is None:
            return None
        session = opened(stored, self._key)
        account = await self._accounts.get(session.account_id)
        if account is None or account.disabled or account.epoch != session.epoch:
            return None
        return session

    async def _end(
        self, session: Session | Stored, why: str, origin: Origin, severity: Severity = Severity.INFO
    ) -> bool:
        for listener in self._ending:
            await listener.session_ends(session.id, session.account_id)
        await self._record_end(session.id, session.account_id, why, origin, severity)
        ended = await self._store.end(session.id)
        for listener in self._ending:  # once more, for what was granted while it ended
            await listener.session_ends(session.id, session.account_id)
        return ended

    async def _ended(self, session_id: str, account_id: str, why: str, origin: Origin) -> None:
        for listener in self._ending:
            await listener.session_ends(session_id, account_id)
        await self._record_end(session_id, account_id, why, origin, Severity.INFO)

    def _fresh(
        self,
        session_id: str,
        who: Authenticated,
        kind: Kind,
        key: str | None,
        created_at: float,
        now: float,
        origin: Origin,
    ) -> Session:
        return Session(
            id=session_id,
            account_id=who.account.id,
            kind=kind,
            epoch=who.account.epoch,
            amr=who.amr,
            auth_time=who.auth_time,
            key=key,
            network=origin.network,
            user_agent=origin.user_agent,
            locale=origin.locale,
            created_at=created_at,
            seen_at=now,
            ends_at=self._end_of(kind, who.auth_time, now),
        )

    def _end_of(self, kind: Kind, auth_time: float, now: float) -> float:
        limits = self._limits[kind]
        return min(now + limits.idle, auth_time + limits.absolute)

    async def _record(self, kind: EventType, session: Session, origin: Origin, *, reason: str = "") -> None:
        details = {"kind": str(session.kind), "amr": list(session.amr), "bound_to_key": session.key is not None}
        await self._recorder.record(
            _event(kind, self._clock.now(), session.id, session.account_id, origin, reason, details)
        )

    async def _record_end(self, session_id: str, account_id: str, why: str, origin: Origin, severity: Severity) -> None:
        event = _event(EventType.SESSION_ENDED, self._clock.now(), session_id, account_id, origin, why, {})
        await self._recorder.record(replace(event, severity=severity))

    async def _suspect(self, session: Session, changed: tuple[str, ...], score: int, origin: Origin) -> None:
        details = {"signals": list(changed), "score": score}
        event = _event(
            EventType.SESSION_SUSPECT, self._clock.now(), session.id, session.account_id, origin, "", details
        )
        event = replace(event, success=False, severity=Severity.MEDIUM, reason="used from elsewhere: asked again")
        await self._refusals.record(event, session.id, origin.network)


def _event(
    kind: EventType,
    at: float,
    session_id: str,
    account_id: str,
    origin: Origin,
    reason: str,
    details: Mapping[str, Any],
) -> Event:
    return origin.stamp(
        Event(
            type=kind,
            at=at,
            success=True,
            reason=reason,
            person=account_id,
            details={**details, "session": session_id},
        )
    )


def _new_token() -> tuple[str, bytes]:
    token = base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()
    return token, _hash(token)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
