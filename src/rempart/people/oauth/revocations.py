"""Certificates that prove nobody any more: those that the operator takes away, and those on their authority's list.

How a path is judged, from the client's own certificate up:
 1. none of it was taken away, the topmost authority included;
 2. none of it is on the list of the authority above it, where that gave one;
 3. that list is of now: one that is out of date vouches for nobody (RFC 5280 section 6.3.3: undetermined).
What counts is read from the store, so that instances agree within `REMEMBERED` seconds; a change made by this process
counts at its next use. Whose certificate falls loses what it was given under it: the client's access tokens end.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from rempart.crypto.client_chain import Authorities, Link, fingerprint, vouched_authorities
from rempart.crypto.revocation_list import RevocationList, kept_list, read_list
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Conflict, NotFound
from rempart.kernel.event import Event, EventType, Recorder, Severity
from rempart.people.model import Origin

REMEMBERED = 1.0  # seconds for which another instance's change may go unnoticed
MOST = 1000  # certificates taken away by hand, and lists
_MOST_SEEN = 4096
_SEEN_EVERY = 6 * 3600.0  # seconds: well within what the store keeps
KEPT = 2 * 86400.0  # seconds after its last use that a certificate is known: longer than its tokens live
_HEX = frozenset("0123456789abcdef")


class TakenAway(msgspec.Struct, frozen=True):
    """`digest`: SHA-256 of the certificate's DER. `note`: the operator's words."""

    digest: bytes
    note: str
    at: float


class KeptList(msgspec.Struct, frozen=True):
    """The newest list of an authority, by the authority's `key_id`; `digest` is SHA-256 of it."""

    issuer: bytes
    digest: bytes
    at: float


class Seen(msgspec.Struct, frozen=True):
    """A certificate that proved a client, with the path that it had."""

    client_id: str
    path: tuple[Link, ...]


class RevocationStore(Protocol):
    """All writes are durable when they return, and end the tokens of clients for which `hit` is true in the same
    transaction; they answer which. Raise Unavailable."""

    async def taken(self) -> Sequence[TakenAway]: ...

    async def lists(self) -> Sequence[KeptList]: ...

    async def der(self, issuer: bytes) -> bytes | None: ...

    async def take(self, taken: TakenAway, hit: Callable[[Seen], bool]) -> Sequence[str]: ...

    async def put(self, kept: KeptList, der: bytes, hit: Callable[[Seen], bool]) -> Sequence[str]: ...

    async def drop(self, id: bytes) -> bool:
        """What was taken away is given back, or that authority's list is forgotten; False where there is none."""

    async def see(self, seen: Seen, now: float) -> None: ...


class Revocations:
    """`forget(client_id)` is called for each client whose tokens were ended."""

    def __init__(
        self,
        store: RevocationStore,
        recorder: Recorder,
        clock: Clock,
        authorities: Authorities,
        forget: Callable[[str], None],
    ) -> None:
        self._store, self._recorder, self._clock = store, recorder, clock
        self._authorities, self._forget = authorities, forget
        self._taken: frozenset[bytes] = frozenset()
        self._lists: dict[bytes, tuple[bytes, RevocationList]] = {}  # by issuer, with its digest
        self._read_at = float("-inf")
        self._seen: OrderedDict[tuple[str, bytes], float] = OrderedDict()

    async def why_not(self, path: Sequence[Link]) -> str:
        """For the record; "" for a path that stands. Raises Unavailable."""
        await self._refresh()
        return self._judge(path, self._taken, [kept for _, kept in self._lists.values()])

    async def see(self, client_id: str, path: tuple[Link, ...]) -> None:
        """This certificate proved that client: what falls with it is known from now on."""
        key = (client_id, hashlib.sha256(b"".join(link.digest for link in path)).digest())
        now = self._clock.now()
        if now - self._seen.get(key, 0.0) >= _SEEN_EVERY:
            await self._store.see(Seen(client_id, path), now)
            self._seen[key] = now
            if len(self._seen) > _MOST_SEEN:
                self._seen.popitem(last=False)

    async def take(self, certificate: str, note: str, origin: Origin) -> TakenAway:
        """Of a client or an authority, as PEM or as SHA-256 in hex. Recorded durably, then in force.

        Raises BadInput `bad_certificate`, `too_many_revocations`, Conflict `already_revoked`.
        """
        digest = _digest(certificate)
        known = await self._store.taken()
        if any(one.digest == digest for one in known):
            raise Conflict("already_revoked", "this certificate is taken away already")
        _check_room(len(known))
        taken = TakenAway(digest, note, self._clock.now())
        await self._record(origin, None, {"sha256": digest.hex(), "note": note})
        self._changed(await self._store.take(taken, lambda seen: any(one.digest == digest for one in seen.path)))
        return taken

    async def read_list(self, data: bytes, issuers: str, origin: Origin) -> RevocationList:
        """The list replaces its authority's former one. `issuers`: PEM of intermediates that may have signed it.

        Raises BadInput `bad_revocation_list`, `bad_authorities`, `too_many_revocations`, Conflict `older_list`.
        """
        now = self._clock.now()
        authorities = vouched_authorities(issuers, self._authorities, now) if issuers else self._authorities
        found = read_list(data, authorities, now)
        former = await self._list(found.issuer)
        if former is None:
            _check_room(len(await self._store.lists()))
        elif (found.number, found.made_at) < (former.number, former.made_at):
            raise Conflict("older_list", "a newer list of this authority is in force", "give the newest one")
        kept = KeptList(found.issuer, hashlib.sha256(found.der).digest(), now)
        await self._record(origin, _told(former), _told(found))
        self._changed(
            await self._store.put(kept, found.der, lambda seen: bool(self._judge(seen.path, frozenset(), [found])))
        )
        return found

    async def drop(self, id: str, origin: Origin) -> None:
        """Give a certificate back, or forget an authority's list. Raises NotFound `no_such_revocation`."""
        raw = bytes.fromhex(id) if len(id) == 64 and _HEX.issuperset(id) else b""
        shown = await self.shown()
        before = next((one for one in (*shown["certificates"], *shown["lists"]) if raw.hex() == one["id"]), None)
        if before is None:
            remedy = "see `rempart client revocation list`"
            raise NotFound("no_such_revocation", "nothing of this id is revoked", remedy)
        await self._record(origin, before, None)
        await self._store.drop(raw)
        self._changed(())

    async def shown(self) -> dict[str, Any]:
        now = self._clock.now()
        lists = [(kept, await self._list(kept.issuer)) for kept in await self._store.lists()]
        return {
            "certificates": [
                {"id": one.digest.hex(), "note": one.note, "at": one.at} for one in await self._store.taken()
            ],
            "lists": [
                {"id": kept.issuer.hex(), "at": kept.at, "current": found.next_at > now, **(_told(found) or {})}
                for kept, found in lists
                if found
            ],
        }

    def _judge(self, path: Sequence[Link], taken: frozenset[bytes], lists: Sequence[RevocationList]) -> str:
        if any(link.digest in taken for link in path):  # step 1
            return "its certificate, or an authority's above it, was taken away"
        for link in path:
            above = next((one for one in lists if one.issuer == link.issuer), None)
            if above is not None and above.revoked(link.serial):  # step 2
                return "its certificate, or an authority's above it, is on the authority's revocation list"
            if above is not None and above.next_at <= self._clock.now():  # step 3
                return f"the revocation list of {above.issuer_name} is out of date"
        return ""

    async def _refresh(self) -> None:
        now = self._clock.monotonic()
        if now - self._read_at < REMEMBERED:
            return
        taken, lists = await self._store.taken(), {}
        for kept in await self._store.lists():
            known = self._lists.get(kept.issuer)
            if known is None or known[0] != kept.digest:
                der = await self._store.der(kept.issuer)
                known = (kept.digest, kept_list(der, kept.issuer)) if der is not None else None
            if known is not None:
                lists[kept.issuer] = known
        self._taken, self._lists, self._read_at = frozenset(one.digest for one in taken), lists, now

    async def _list(self, issuer: bytes) -> RevocationList | None:
        der = await self._store.der(issuer)
        return kept_list(der, issuer) if der is not None else None

    def _changed(self, clients: Sequence[str]) -> None:
        self._read_at = float("-inf")
        for client_id in clients:
            self._forget(client_id)

    async def _record(self, origin: Origin, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
        event = Event(
            type=EventType.CLIENT_CHANGED,
            at=self._clock.now(),
            success=True,
            severity=Severity.MEDIUM,
            before={"revocation": before} if before else None,
            after={"revocation": after} if after else None,
        )
        await self._recorder.record(origin.stamp(event))


def _told(found: RevocationList | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "issuer": found.issuer_name,
        "number": str(found.number),
        "made_at": found.made_at,
        "next_at": found.next_at,
        "certificates": found.count,
    }


def _digest(certificate: str) -> bytes:
    text = certificate.strip().replace(":", "").lower()
    if len(text) == 64 and _HEX.issuperset(text):
        return bytes.fromhex(text)
    return fingerprint(certificate)


def _check_room(count: int) -> None:
    if count >= MOST:
        raise BadInput("too_many_revocations", f"there are {MOST} already", "let the authority put them on its list")
