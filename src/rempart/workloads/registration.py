"""The registration entries: fixed ones from `rempart.toml`, and those that operators apply while the system runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Conflict, NotFound
from rempart.kernel.event import Event, EventType, Recorder
from rempart.kernel.ids import new_id
from rempart.kernel.spiffe import SpiffeId

from .model import Entry, Facts
from .ports import EntryStore

RESERVED = "/rempart"
MAX_ENTRIES = 10_000


def check_id(spiffe_id: SpiffeId, trust_domain: str) -> None:
    """That an operator may register it; raises BadInput `foreign_trust_domain` | `reserved_id` | `bad_spiffe_id`."""
    if spiffe_id.trust_domain != trust_domain:
        raise BadInput(
            "foreign_trust_domain",
            f"{spiffe_id} is not in this trust domain",
            f"entries here begin with spiffe://{trust_domain}/",
        )
    if not spiffe_id.path:
        raise BadInput("bad_spiffe_id", f"{spiffe_id} names the trust domain and no workload", "add a path")
    if spiffe_id.path == RESERVED or spiffe_id.path.startswith(RESERVED + "/"):
        raise BadInput("reserved_id", f"{spiffe_id} is Rempart's own", f"use a path outside {RESERVED}/")


@dataclass(frozen=True)
class Applied:
    """What one `apply` did. `unchanged` entries were there already, word for word."""

    created: tuple[Entry, ...]
    changed: tuple[Entry, ...]
    unchanged: tuple[Entry, ...]


class Registration:
    """Reads come from memory; changes are recorded, then stored, then announced. One event loop."""

    def __init__(
        self,
        trust_domain: str,
        fixed: Sequence[Entry],
        store: EntryStore,
        recorder: Recorder,
        clock: Clock,
        announce: Callable[[], None],
    ) -> None:
        self._trust_domain = trust_domain
        self._fixed = tuple(fixed)
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._announce = announce
        self._applied: dict[str, Entry] = {entry.id: entry for entry in store.load()}
        self._changing = asyncio.Lock()

    def entries(self) -> list[Entry]:
        """Fixed ones first, then the applied ones by id."""
        return [*self._fixed, *(self._applied[key] for key in sorted(self._applied))]

    def matching(self, facts: Facts) -> list[Entry]:
        """Every entry all of whose selectors are among the facts; of several for one id and hint, the first."""
        now = self._clock.now()
        found: dict[tuple[str, str], Entry] = {}
        for entry in self.entries():
            if entry.matches(facts.selectors, now):
                found.setdefault((str(entry.spiffe_id), entry.hint), entry)
        return list(found.values())

    def wants_program_hash(self) -> bool:
        return any(s.kind == "sha256" for entry in self.entries() for s in entry.selectors)

    def next_expiry(self) -> float | None:
        """When the next entry expires, so that streams look again then."""
        now = self._clock.now()
        return min(
            (e.expires_at for e in self.entries() if e.expires_at is not None and e.expires_at > now), default=None
        )

    async def apply(self, wanted: Sequence[Entry], operator: str) -> Applied:
        """Create what is new and change what is different, all or nothing. An entry is the same registration as another
        when id and selectors are equal: applying a file twice changes nothing.

        Raises BadInput (`check_id`, `duplicate_entry`), Conflict `fixed_entry` | `too_many_entries`.
        """
        async with self._changing:
            known = {(entry.spiffe_id, entry.selectors): entry for entry in self.entries()}
            created: list[Entry] = []
            changed: list[tuple[Entry, Entry]] = []
            unchanged: list[Entry] = []
            seen: set[tuple[SpiffeId, Any]] = set()
            for entry in wanted:
                check_id(entry.spiffe_id, self._trust_domain)
                identity = (entry.spiffe_id, entry.selectors)
                if identity in seen:
                    raise BadInput("duplicate_entry", f"{entry.spiffe_id} is there twice with the same selectors")
                seen.add(identity)
                before = known.get(identity)
                if before is None:
                    created.append(replace(entry, id=new_id("entry")))
                elif before.fixed:
                    raise Conflict(
                        "fixed_entry", f"{entry.spiffe_id} is declared in rempart.toml", "change it there and restart"
                    )
                elif before.same_as(entry):
                    unchanged.append(before)
                else:
                    changed.append((before, replace(entry, id=before.id)))
            if len(self._applied) + len(created) > MAX_ENTRIES:
                raise Conflict("too_many_entries", f"there would be more than {MAX_ENTRIES} entries", "delete some")
            for entry in created:
                await self._record(operator, None, entry)
            for before, entry in changed:
                await self._record(operator, before, entry)
            put = [*created, *(entry for _, entry in changed)]
            if put:
                await asyncio.to_thread(self._store.replace, put, ())
                self._applied.update((entry.id, entry) for entry in put)
                self._announce()
            return Applied(tuple(created), tuple(entry for _, entry in changed), tuple(unchanged))

    def find(self, name: str) -> list[Entry]:
        """By entry id or by SPIFFE ID; raises NotFound `unknown_entry`."""
        found = [entry for entry in self.entries() if name in (entry.id, str(entry.spiffe_id))]
        if not found:
            raise NotFound("unknown_entry", f"there is no entry {name[:200]!r}", "see `rempart entry list`")
        return found

    async def delete(self, name: str, operator: str) -> list[Entry]:
        """Every applied entry of that id; its holders' streams end.

        Raises NotFound `unknown_entry`, Conflict `fixed_entry`.
        """
        async with self._changing:
            found = self.find(name)
            removed = [entry for entry in found if not entry.fixed]
            if not removed:
                raise Conflict("fixed_entry", f"{name} is declared in rempart.toml", "remove it there and restart")
            for entry in removed:
                await self._record(operator, entry, None)
            await asyncio.to_thread(self._store.replace, (), [entry.id for entry in removed])
            for entry in removed:
                self._applied.pop(entry.id, None)
            self._announce()
            return removed

    async def _record(self, operator: str, before: Entry | None, after: Entry | None) -> None:
        subject = after or before
        await self._recorder.record(
            Event(
                type=EventType.ENTRY_CHANGED,
                at=self._clock.now(),
                success=True,
                operator=operator,
                workload=str(subject.spiffe_id) if subject else None,
                service="identity",
                reason="deleted" if after is None else "created" if before is None else "changed",
                before=before.document() if before else None,
                after=after.document() if after else None,
            )
        )
