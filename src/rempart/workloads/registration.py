"""The registration entries: fixed ones from `rempart.toml`, and those that are applied while the system runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Conflict, Denied, NotFound, RempartError, Unavailable
from rempart.kernel.event import Event, EventType, Recorder
from rempart.kernel.ids import new_id
from rempart.kernel.spiffe import SpiffeId

from .agents.model import AGENTS, SERVER, selectors_of
from .entry_index import EntryIndex
from .model import OF_AGENTS, Entry, Facts
from .ports import EntryStore
from .registrar import Registrar

T = TypeVar("T")
Step = tuple[Entry | None, Entry | None]
"""An entry before and after."""
PREFIX = "entry"
"""Ids of applied entries begin so; others come from elsewhere and are not ours to prune."""
RESERVED = "/rempart"
MAX_ENTRIES = 10_000
KEPT_EXPIRED = 86400.0
"""Seconds that an expired entry is still shown before it is deleted."""
_TOGETHER = 256
_SWEEP = 60.0


def check_id(spiffe_id: SpiffeId, trust_domain: str) -> None:
    """That it may be registered; raises BadInput `foreign_trust_domain` | `reserved_id` | `bad_spiffe_id`."""
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
    """What one `apply` did, or would do. `changed` is before and after; `unchanged` were there, word for word."""

    created: tuple[Entry, ...]
    changed: tuple[tuple[Entry, Entry], ...]
    removed: tuple[Entry, ...]
    unchanged: tuple[Entry, ...]

    @property
    def empty(self) -> bool:
        return not (self.created or self.changed or self.removed)


class Registration:
    """Reads come from memory; changes are recorded, then stored, then announced. One event loop."""

    def __init__(
        self,
        trust_domain: str,
        fixed: Sequence[Entry],
        store: EntryStore,
        recorder: Recorder,
        clock: Clock,
        announce: Callable[[Sequence[Entry]], None],
    ) -> None:
        self._trust_domain = trust_domain
        self._server = f"spiffe://{trust_domain}{SERVER}"
        self._fixed = tuple(fixed)
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._announce = announce
        self._applied: dict[str, Entry] = {entry.id: entry for entry in store.load()}
        self._changing = asyncio.Lock()
        self._reindex()

    def _reindex(self) -> None:
        agents = f"spiffe://{self._trust_domain}{AGENTS}"
        entries = [*self._fixed, *(self._applied[key] for key in sorted(self._applied))]
        self._index = EntryIndex(entries, agents=agents, server=self._server)

    def entries(self) -> Sequence[Entry]:
        """Fixed ones first, then the applied ones by id."""
        return self._index.entries

    def parents(self, spiffe_id: str, facts: Sequence[str] = ()) -> frozenset[str]:
        """What the agent of that id and those facts may be called as a parent: itself, and node aliases for it."""
        aliases, now = self._index.aliases, self._clock.now()
        found = selectors_of(spiffe_id, facts) if aliases else frozenset()
        return frozenset((spiffe_id, *(str(alias.spiffe_id) for alias in aliases if alias.matches(found, now))))

    def of_agent(self, spiffe_id: str, facts: Sequence[str] = ()) -> list[Entry]:
        """Those of the agent of that id and those facts."""
        parents = sorted(self.parents(spiffe_id, facts))
        return [entry for parent in parents for entry in self._index.of_parent.get(parent, ())]

    def known(self, id_: str) -> Entry | None:
        return self._index.by_id.get(id_)

    def matching(self, facts: Facts) -> list[Entry]:
        """Those of this host all of whose selectors are among the facts, one for each hint or id: the fixed one, else
        the oldest."""
        return self._index.identities(facts.selectors, self._clock.now())

    def asks_for(self) -> frozenset[tuple[str, str]]:
        """(type, kind) of every selector in use: what is dear to find out is found out only when it counts."""
        return self._index.kinds

    def next_expiry(self) -> float | None:
        """When the next entry expires, so that streams look again then."""
        return self._index.next_expiry(self._clock.now())

    def is_admin(self, spiffe_id: str) -> bool:
        """Does an entry give this id and the right to administer entries?"""
        now = self._clock.now()
        return any(
            entry.admin and str(entry.spiffe_id) == spiffe_id and (entry.expires_at is None or now < entry.expires_at)
            for entry in self._index.entries
        )

    def plan(self, wanted: Sequence[Entry], *, prune: bool = False, registrar: Registrar | None = None) -> Applied:
        """What `apply` would do now. Changes nothing; raises as `apply`."""
        known = {entry.registration: entry for entry in self.entries()}
        created: list[Entry] = []
        changed: list[tuple[Entry, Entry]] = []
        unchanged: list[Entry] = []
        seen = set()
        for entry in wanted:
            check_id(entry.spiffe_id, self._trust_domain)
            self._check_selectors(entry)
            if entry.registration in seen:
                raise BadInput("duplicate_entry", f"{entry.spiffe_id} is there twice with the same selectors")
            seen.add(entry.registration)
            before = known.get(entry.registration)
            if before is None:
                created.append(replace(entry, id=new_id(PREFIX)))
            elif before.fixed:
                raise Conflict(
                    "fixed_entry", f"{entry.spiffe_id} is declared in rempart.toml", "change it there and restart"
                )
            elif before.same_as(entry):
                unchanged.append(before)
            else:
                changed.append((before, replace(entry, id=before.id)))
        removed = [
            entry
            for entry in self._applied.values()
            if prune and entry.registration not in seen and entry.id.startswith(PREFIX)
        ]
        if registrar is not None:
            declared = self._declared()
            removed = [e for e in removed if registrar.covers(e) and e.parent_id != self._server]
            for entry in (*created, *(one for pair in changed for one in pair)):
                registrar.check(entry, declared)
                self._check_no_alias(entry, registrar)
        if len(self._applied) + len(created) - len(removed) > MAX_ENTRIES:
            raise Conflict("too_many_entries", f"there would be more than {MAX_ENTRIES} entries", "delete some")
        return Applied(tuple(created), tuple(changed), tuple(removed), tuple(unchanged))

    def _check_selectors(self, entry: Entry) -> None:
        """An entry that nobody could ever match is a mistake: processes and agents have selectors of their own."""
        alias = entry.parent_id == self._server
        for selector in entry.selectors:
            if (selector.type in OF_AGENTS) is not alias:
                who = "an agent" if alias else "a process"
                raise BadInput(
                    "bad_selector",
                    f"{entry.spiffe_id}: {who} never has {selector}",
                    f"entries for agents (node aliases) have parent_id: {self._server}",
                )

    def _check_no_alias(self, entry: Entry, registrar: Registrar) -> None:
        """One more alias of an id gives every entry below it to other hosts, whoever registered those. Raises Denied
        `privileged_entry`."""
        if entry.parent_id == self._server:
            raise Denied(
                "privileged_entry",
                f"{registrar.spiffe_id} may not make {entry.spiffe_id} a node alias",
                "use `rempart entry apply` on the host",
            )

    def _check_left(self, removed: Sequence[Entry], created: Sequence[Entry] = ()) -> None:
        """Raises Conflict `alias_in_use`: what is below an alias would become this host's."""
        if left := self._left_behind(removed, created):
            why = f"there are entries with the parent {min(left)}, which is no node alias any more then"
            raise Conflict("alias_in_use", why, "delete those first, or with it")

    def _left_behind(self, removed: Sequence[Entry], created: Sequence[Entry] = ()) -> set[str]:
        """Ids that would be aliases no more, and are parents of entries."""
        if not any(entry.parent_id == self._server for entry in removed):
            return set()
        gone = {entry.id for entry in removed}
        staying = [*(entry for entry in self.entries() if entry.id not in gone), *created]
        were = {str(entry.spiffe_id) for entry in removed if entry.parent_id == self._server}
        are = {str(entry.spiffe_id) for entry in staying if entry.parent_id == self._server}
        return (were - are) & {entry.parent_id for entry in staying}

    def _declared(self) -> set[SpiffeId]:
        return {entry.spiffe_id for entry in self.entries() if entry.fixed or entry.admin or entry.downstream}

    async def apply(
        self, wanted: Sequence[Entry], who: str, *, prune: bool = False, registrar: Registrar | None = None
    ) -> Applied:
        """Create what is new and change what is different, all or nothing; with `prune` delete what isn't named (by a
        registrar: of its own). An entry is the same registration as another when id, parent and selectors are equal:
        applying a file twice changes nothing. `who` is a local user, or the registrar's SPIFFE ID.

        Raises BadInput (`check_id`, `duplicate_entry`), Conflict `fixed_entry` | `too_many_entries` | `alias_in_use`,
        Denied `outside_registrar` | `privileged_entry` | `declared_id`.
        """

        def decide() -> tuple[Applied, list[Step]]:
            plan = self.plan(wanted, prune=prune, registrar=registrar)
            self._check_left(plan.removed, plan.created)
            steps: list[Step] = [(None, entry) for entry in plan.created]
            return plan, [*steps, *plan.changed, *((entry, None) for entry in plan.removed)]

        return await self._transact(decide, who, registrar)

    def find(self, name: str) -> list[Entry]:
        """By entry id or by SPIFFE ID; raises NotFound `unknown_entry`."""
        found = [entry for entry in self.entries() if name in (entry.id, str(entry.spiffe_id))]
        if not found:
            raise NotFound("unknown_entry", f"there is no entry {name[:200]!r}", "see `rempart entry list`")
        return found

    async def delete(self, name: str, who: str, *, registrar: Registrar | None = None) -> list[Entry]:
        """Every applied entry of that id; its holders' streams end.

        Raises NotFound `unknown_entry`, Conflict `fixed_entry` | `alias_in_use`, Denied as `apply`.
        """

        def decide() -> tuple[list[Entry], list[Step]]:
            removed = [entry for entry in self.find(name) if not entry.fixed]
            if not removed:
                raise Conflict("fixed_entry", f"{name} is declared in rempart.toml", "remove it there and restart")
            for entry in removed:
                if registrar is not None:
                    registrar.check(entry, self._declared())
                    self._check_no_alias(entry, registrar)
            self._check_left(removed)
            return removed, [(entry, None) for entry in removed]

        return await self._transact(decide, who, registrar)

    async def sweep(self) -> None:
        """Delete what expired long ago."""

        def decide() -> tuple[None, list[Step]]:
            long_ago = self._clock.now() - KEPT_EXPIRED
            gone = [e for e in self._applied.values() if e.expires_at is not None and e.expires_at < long_ago]
            while left := self._left_behind(gone):
                gone = [entry for entry in gone if str(entry.spiffe_id) not in left]
            return None, [(entry, None) for entry in gone]

        await self._transact(decide, None, None)

    async def keep_swept(self) -> None:
        """For ever; what fails is tried again."""
        while True:
            with contextlib.suppress(RempartError):
                await self.sweep()
            await asyncio.sleep(_SWEEP)

    async def refresh(self) -> None:
        """Take over what others changed; here nobody else does. Raises Unavailable."""

    async def latest(self) -> None:
        """The same where it can be done now: for who only looks."""
        with contextlib.suppress(Unavailable):
            await self.refresh()

    async def _transact(
        self, decide: Callable[[], tuple[T, list[Step]]], who: str | None, registrar: Registrar | None
    ) -> T:
        """Do what is decided by the entries as they are."""
        async with self._changing:
            result, steps = decide()
            await self._change(steps, who, registrar)
            return result

    async def _change(self, steps: Sequence[Step], who: str | None, registrar: Registrar | None) -> None:
        """(before, after) of each entry: record, store, announce."""
        if not steps:
            return
        for first in range(0, len(steps), _TOGETHER):  # they share the journal's writes
            batch = steps[first : first + _TOGETHER]
            await asyncio.gather(*(self._record(who, registrar, before, after) for before, after in batch))
        put = [after for _, after in steps if after is not None]
        remove = [before.id for before, after in steps if before is not None and after is None]
        await self._write(put, remove)
        self._keep(put, remove)

    async def _write(self, put: Sequence[Entry], remove: Sequence[str]) -> None:
        await asyncio.to_thread(self._store.replace, put, remove)

    def _keep(self, put: Iterable[Entry], remove: Iterable[str]) -> None:
        put, ids = list(put), list(remove)
        before = [self._applied[id_] for id_ in (*ids, *(entry.id for entry in put)) if id_ in self._applied]
        for id_ in ids:
            self._applied.pop(id_, None)
        self._applied.update((entry.id, entry) for entry in put)
        self._reindex()
        self._announce([*before, *put])

    async def _record(
        self, who: str | None, registrar: Registrar | None, before: Entry | None, after: Entry | None
    ) -> None:
        subject = after or before
        reason = "created" if before is None else "changed" if after is not None else "deleted"
        await self._recorder.record(
            Event(
                type=EventType.ENTRY_CHANGED,
                at=self._clock.now(),
                success=True,
                operator=who if registrar is None else None,
                workload=str(subject.spiffe_id) if subject else None,
                service="identity",
                reason=reason if who else "expired",
                before=before.document() if before else None,
                after=after.document() if after else None,
                details={"registrar": who} if registrar is not None else {},
            )
        )
