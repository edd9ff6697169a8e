"""Registration entries that lie in SPIRE's server: implements `workloads.ports.SharedEntryStore`.

SPIRE knows no transaction over several entries and no revision of all of them. So a change that SPIRE refuses in part
is told with what was done, and the revision here counts the different listings that were seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from rempart.kernel.errors import Conflict, RempartError, Unavailable
from rempart.kernel.spiffe import SpiffeId
from rempart.protocols.spire import server_pb2 as wire
from rempart.workloads.model import Entry, EntryChanges, Selector
from rempart.workloads.ports import EntriesMoved

from .spire_api import SpireApi

FIXED = "rempart.toml-"
"""Begins the ids of entries that come from rempart.toml, of this host and of others."""
_ALREADY_EXISTS, _NOT_FOUND = 6, 5

_Done = tuple[str, int, str]
"""An entry's id, a gRPC code and what SPIRE says to it."""
Translate = Callable[[Selector], Selector]
"""A selector as SPIRE's attestors find it; raises BadInput `spire_selector`."""


class SpireEntryStore:
    """`parent` is the SPIFFE ID of the agent (or of its alias) on this host: of entries that name no other one."""

    def __init__(self, api: SpireApi, trust_domain: str, parent: str, translate: Translate) -> None:
        self._api, self._trust_domain, self._parent, self._translate = api, trust_domain, parent, translate
        self._fixed = f"{FIXED}{hashlib.sha256(parent.encode()).hexdigest()[:12]}-"
        self._revision = 0
        self._seen = b""
        self._known: frozenset[str] = frozenset()
        self.foreign = 0
        """Entries of SPIRE that can't be shown here: of nodes, and with selectors of attestors that we don't have."""

    async def changes(self, revision: int) -> EntryChanges | None:
        listed = [entry for entry in await self._api.entries() if not entry.id.startswith(self._fixed)]
        digest = hashlib.sha256()
        for entry in sorted(listed, key=lambda one: one.id):
            digest.update(entry.SerializeToString(deterministic=True))
        if digest.digest() != self._seen:
            self._revision += 1
            self._seen = digest.digest()
        if self._revision == revision:
            return None
        found = [read for one in listed if (read := self._read(one)) is not None]
        self.foreign = len(listed) - len(found)
        self._known = frozenset(entry.id for entry in found)
        return EntryChanges(self._revision, tuple(found), self._known)

    async def replace(self, put: Sequence[Entry], remove: Sequence[str], revision: int) -> int:
        """Raises EntriesMoved when somebody else made or deleted one of them meanwhile, Conflict `spire_refused`."""
        made = [self._write(entry) for entry in put]
        new = [entry for entry in made if entry.id not in self._known]
        old = [entry for entry in made if entry.id in self._known]
        done = await self._put(new, old)
        if remove:
            results = await self._api.delete(list(remove))
            done += [(id_, *one) for id_, one in zip(remove, results, strict=True) if one[0] != _NOT_FOUND]
        self._check(done)
        after = await self.changes(0)
        return after.revision if after else self._revision

    async def close(self) -> None:
        await self._api.close()

    async def keep_fixed(self, fixed: Sequence[Entry]) -> None:
        """Make those of rempart.toml what `fixed` says, and no others of that kind. Raises as `replace`."""
        there = {entry.id: entry for entry in await self._api.entries() if entry.id.startswith(self._fixed)}
        wanted = {entry.id: entry for entry in (self._write(replace(one, id=self._fixed_id(one))) for one in fixed)}
        gone = [id_ for id_ in there if id_ not in wanted]
        new = [entry for id_, entry in wanted.items() if id_ not in there]
        changed = [entry for id_, entry in wanted.items() if id_ in there and not _same(entry, there[id_])]
        done: list[_Done] = []
        if gone:  # first: SPIRE has one entry of an id, a parent and selectors
            done = [(id_, *one) for id_, one in zip(gone, await self._api.delete(gone), strict=True)]
        self._check([*done, *await self._put(new, changed)])

    def _fixed_id(self, entry: Entry) -> str:
        """The same after each start; of another host's it differs by the parent."""
        what = "\n".join([str(entry.spiffe_id), *sorted(map(str, entry.selectors))])
        return self._fixed + hashlib.sha256(what.encode()).hexdigest()[:20]

    async def _put(self, new: Sequence[wire.Entry], old: Sequence[wire.Entry]) -> list[_Done]:
        done: list[_Done] = []
        for entries, act in ((old, self._api.update), (new, self._api.create)):
            if entries:
                done += [(entry.id, *one) for entry, one in zip(entries, await act(entries), strict=True)]
        return done

    def _check(self, done: Sequence[_Done]) -> None:
        failed = [one for one in done if one[1]]
        if not failed:
            return
        self._seen = b""
        if len(failed) == len(done) and {code for _, code, _ in failed} <= {_ALREADY_EXISTS, _NOT_FOUND}:
            raise EntriesMoved
        id_, code, why = failed[0]
        raise Conflict(
            "spire_refused",
            f"SPIRE did {len(done) - len(failed)} of {len(done)} changes; of {id_} it says: {why} ({code})",
            "see `rempart entry list`, correct the entries and apply them again",
        )

    def _write(self, entry: Entry) -> wire.Entry:
        selectors = sorted(map(self._translate, entry.selectors))
        return wire.Entry(
            id=entry.id,
            spiffe_id=_id(str(entry.spiffe_id)),
            parent_id=_id(entry.parent_id or self._parent),
            selectors=[wire.Selector(type=one.type, value=f"{one.kind}:{one.value}") for one in selectors],
            x509_svid_ttl=entry.ttl,
            jwt_svid_ttl=entry.jwt_ttl,
            federates_with=[f"spiffe://{name}" for name in entry.federates_with],
            admin=entry.admin,
            downstream=entry.downstream,
            expires_at=int(entry.expires_at or 0),
            dns_names=entry.dns_names,
            hint=entry.hint,
        )

    def _read(self, entry: wire.Entry) -> Entry | None:
        parent = f"spiffe://{entry.parent_id.trust_domain}{entry.parent_id.path}"
        if entry.parent_id.path == "/spire/server" or entry.store_svid:
            return None
        try:
            selectors = frozenset(Selector.parse(f"{one.type}:{one.value}") for one in entry.selectors)
            spiffe_id = SpiffeId.parse(f"spiffe://{entry.spiffe_id.trust_domain}{entry.spiffe_id.path}")
        except RempartError:
            return None
        return Entry(
            id=entry.id,
            spiffe_id=spiffe_id,
            selectors=selectors,
            parent_id="" if parent == self._parent else parent,
            ttl=entry.x509_svid_ttl,
            jwt_ttl=entry.jwt_svid_ttl,
            dns_names=tuple(entry.dns_names),
            federates_with=tuple(sorted(name.removeprefix("spiffe://") for name in entry.federates_with)),
            admin=entry.admin,
            downstream=entry.downstream,
            hint=entry.hint,
            expires_at=float(entry.expires_at) if entry.expires_at else None,
        )


def _same(one: wire.Entry, other: wire.Entry) -> bool:
    def shown(entry: wire.Entry) -> bytes:
        copy = wire.Entry()
        copy.CopyFrom(entry)
        copy.revision_number = 0
        selectors = sorted((selector.type, selector.value) for selector in copy.selectors)
        del copy.selectors[:]
        copy.selectors.extend(wire.Selector(type=type_, value=value) for type_, value in selectors)
        return copy.SerializeToString(deterministic=True)

    return shown(one) == shown(other)


def _id(text: str) -> wire.SpiffeId:
    parsed = SpiffeId.parse(text)
    return wire.SpiffeId(trust_domain=parsed.trust_domain, path=parsed.path)


async def agent_of(api: SpireApi, trust_domain: str) -> str:
    """The only agent that SPIRE knows. Raises Unavailable `no_spire_agent` when there is none, or several."""
    ids = [f"spiffe://{agent.id.trust_domain}{agent.id.path}" for agent in await api.agents() if not agent.banned]
    if len(ids) != 1:
        raise Unavailable(
            "no_spire_agent",
            f"SPIRE has {len(ids)} agents in {trust_domain}: which one is on this host can't be told",
            'write its id, or that of an alias of nodes: [workloads.spire] parent_id = "spiffe://…"',
        )
    return ids[0]
