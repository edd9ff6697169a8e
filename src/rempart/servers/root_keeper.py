"""Replaces the roots: on the operator's word, or at half of a root's life. No peer is refused meanwhile.

Every step is recorded, then written, then shown; a step whose writing fails is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Any

from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Conflict, RempartError, Unavailable
from rempart.kernel.event import EventType, Severity
from rempart.workloads.root_rotation import NewRoot, Root, RootSet

from .root_store import RootStore, Signer

OVERLAP = 600.0
SCHEDULED_OVERLAP = 86400.0
GRACE = 5.0
"""Seconds that a compromised root is still trusted once its successor signs, and before that beside it: in each of the
two every stream is told what changed."""
LEAST_GRACE = 2.0
"""Identity looks every second."""
MARGIN = 60.0
"""Seconds that an old root is trusted beyond the last moment at which what it vouches for may be valid."""
PUBLISHED_WITHIN = 60.0
_STEP = 1.0
_LOOK = 0.1
_RETRY = 30.0

Make = Callable[[str], Awaitable[NewRoot]]
Tell = Callable[[EventType, str, Severity, dict[str, object]], Awaitable[None]]


class RootKeeper:
    """Of the roots that there are; `make`: a new root of a kind, its key sealed; `issuing_ttl`: seconds that an issuing
    CA of each kind lives. One event loop."""

    def __init__(
        self,
        store: RootStore,
        make: Make,
        issuing_ttl: Mapping[str, float],
        tell: Tell,
        clock: Clock,
        *,
        margin: float = MARGIN,
    ) -> None:
        self._store, self._make, self._ttl, self._tell, self._clock = store, make, issuing_ttl, tell, clock
        self._margin = margin
        self._sets = {kind: roots for kind in issuing_ttl if (roots := store.load(kind)) is not None}
        self._published: dict[str, frozenset[str]] = {}
        self._changing = asyncio.Lock()

    def _set(self, kind: str) -> RootSet:
        if kind not in self._sets:
            raise BadInput("bad_authority", f"{kind[:80]!r} is not an authority", "use spiffe or web")
        return self._sets[kind]

    def current(self, kind: str) -> Root:
        """The root that signs now. Raises BadInput `bad_authority`."""
        return self._set(kind).current

    async def signer(self, kind: str) -> Signer:
        """What signs now. Where the upstream authority has already got another root, which is prepared, that one.

        Raises BadInput `bad_authority`, and as `RootStore.signer`.
        """
        async with self._changing:
            roots = self._set(kind)
            try:
                return self._store.signer(roots.current)
            except Unavailable:
                if roots.next is None:
                    raise
                signer = self._store.signer(roots.next)
            after = roots.activate(self._clock.now(), vouches_for=self._ttl[kind] + self._margin)
            await self._record(kind, roots, after, f"the new {kind} root signs: the old one can't any more", None)
            self._keep(kind, after)
            return signer

    async def told(self, kind: str, published: Collection[str]) -> dict[str, Any]:
        """For identity, which says what it publishes and learns what it should: `RootSet.document`."""
        async with self._changing:
            before = self._set(kind)
            self._published[kind] = frozenset(published)
            after = before.publish(published, self._clock.now())
            if after is not before:
                self._keep(kind, after)
            return self._sets[kind].document()

    async def rotate(self, kind: str, *, overlap: float, operator: str | None) -> dict[str, Any]:
        """Prepare a new root; the rest follows by itself. Raises BadInput, Conflict `rotation_under_way`."""
        if not 1 <= overlap <= 30 * 86400:
            raise BadInput("bad_overlap", f"an overlap of {overlap} s makes no sense", "1 second to 30 days")
        async with self._changing:
            before = self._set(kind)
            before.prepare(before.current, overlap)  # refuses before a key is made
            after = before.prepare(await self._successor(kind), overlap)
            why = "asked for by the operator" if operator else "half of its life is over, or the upstream authority's"
            await self._record(kind, before, after, f"a new {kind} root is trusted beside the old one: {why}", operator)
            self._keep(kind, after)
            return after.document()

    async def replace_compromised(self, kind: str, *, grace: float, operator: str) -> AsyncIterator[dict[str, Any]]:
        """Replace a root whose key leaked. Yields `RootSet.document` at each phase; the last one, of phase `steady`,
        when identity tells nobody any more that the old one is trusted.

        Raises BadInput `bad_authority` | `bad_overlap`, Unavailable `not_published`.
        """
        if not LEAST_GRACE <= grace <= 86400:
            raise BadInput("bad_overlap", f"an overlap of {grace} s makes no sense", "2 seconds to one day")
        async with self._changing:
            before = self._set(kind)
            after = before.hasten(grace, grace)
            if after.phase == "steady":
                after = after.prepare(await self._successor(kind), grace).hasten(grace, grace)
            why = f"the {kind} root is compromised: another one takes its place at once"
            await self._record(kind, before, after, why, operator, Severity.HIGH)
            self._keep(kind, after)
        going = after.next.fingerprint if after.next else ""
        deadline = self._clock.monotonic() + 2 * grace + PUBLISHED_WITHIN
        shown = ""
        while self._clock.monotonic() < deadline:
            now = self._sets[kind]
            alone = now.current.fingerprint == going
            done = now.phase == "steady" and alone and self._published.get(kind) == frozenset({going})
            if now.phase != shown and (done or now.phase != "steady"):
                shown = now.phase
                yield now.document()
            if done:
                return
            await asyncio.sleep(_LOOK)
        raise Unavailable(
            "not_published",
            f"the {kind} root is being replaced, but identity does not follow",
            "see that identity runs: `rempart status`; it goes on by itself: `rempart keys list`",
        )

    async def step(self, kind: str) -> None:
        """Do what is due now."""
        now = self._clock.now()
        async with self._changing:
            before = self._sets[kind]
            after = before.advance(now, vouches_for=self._ttl[kind] + self._margin)
            if after is not before:
                what = "signs from now on" if after.previous else "alone is trusted: nothing of the old one is valid"
                await self._record(kind, before, after, f"the new {kind} root {what}", None)
                self._keep(kind, after)
            due = after.is_due(now) and not self._store.is_upstream(kind)
            changed = after.phase == "steady" and self._store.has_changed(kind, after.current)
        if due or changed:
            await self.rotate(kind, overlap=OVERLAP if changed else SCHEDULED_OVERLAP, operator=None)

    async def keep(self) -> None:
        """For ever. A step that fails is an alarm, and is tried again."""
        while True:
            wait = _STEP
            for kind in self._sets:
                try:
                    await self.step(kind)
                except RempartError as error:
                    wait = _RETRY
                    why = f"the {kind} root could not be rotated: {error.reason}"
                    await self._tell(EventType.ALARM, why, Severity.HIGH, {"authority": f"{kind}-root"})
            await asyncio.sleep(wait)

    async def _successor(self, kind: str) -> Root:
        """Raises Conflict `upstream_root`, Unavailable `bad_upstream` and as `make`."""
        if not self._store.is_upstream(kind):
            return self._store.keep(await self._make(kind))
        root = self._store.upstream_root()
        if root.certificate == self._sets[kind].current.certificate:
            raise Conflict(
                "upstream_root",
                "this root is an upstream authority's, which has no other one",
                "replace the files that [workloads.upstream] names first",
            )
        return root

    def _keep(self, kind: str, after: RootSet) -> None:
        self._store.save(kind, after)
        self._sets[kind] = after

    async def _record(
        self,
        kind: str,
        before: RootSet,
        after: RootSet,
        why: str,
        operator: str | None,
        severity: Severity = Severity.INFO,
    ) -> None:
        details: dict[str, object] = {
            "authority": f"{kind}-root",
            "phase": after.phase,
            "signing": after.current.fingerprint,
            "trusted": [root.fingerprint for root in after.roots],
            "trusted_before": [root.fingerprint for root in before.roots],
        }
        if operator:
            details["operator"] = operator
        await self._tell(EventType.AUTHORITY_ROTATED, why, severity, details)
