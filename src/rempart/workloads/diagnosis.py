"""Why a process gets an identity, or none: what attestation finds out of it, and which entries come closest.

Gives nothing, issues nothing and records nothing; for the operator only, who may read every entry anyway:
`GET /diagnosis/{pid}` on the admin socket.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rempart.kernel.clock import Clock
from rempart.kernel.errors import NotFound, Unavailable
from rempart.protocols.http_pages import Ask, Page, Route, json_page

from .attestation import Attestor
from .model import Entry, Facts, Selector
from .ports import KnownEntries, Supervisor, X509Signer
from .process import Process

NEAREST = 10


class Diagnosis:
    def __init__(
        self, attestor: Attestor, entries: KnownEntries, supervisor: Supervisor, signer: X509Signer, clock: Clock
    ) -> None:
        self._attestor, self._entries, self._supervisor = attestor, entries, supervisor
        self._signer, self._clock = signer, clock

    def routes(self) -> list[Route]:
        return [Route("GET", "/diagnosis/{}", self.show)]

    async def show(self, ask: Ask, pid: str) -> Page:
        if not pid.isascii() or not pid.isdigit() or len(pid) > 9:
            raise NotFound("no_such_process", f"{pid[:40]!r} is the number of no process")
        return json_page(await self.of(int(pid)))

    async def of(self, pid: int) -> dict[str, Any]:
        """`{pid, uid, gid, groups, selectors, granted, nearest, problems}`; what is in `problems` keeps even those who
        match from getting anything. Raises NotFound `no_such_process`, Denied `caller_changed`."""
        process = Process.numbered(pid)
        try:
            facts = await self._attestor.attest(process, wanted=self._entries.asks_for())
            process.verify_same()
        finally:
            process.close()
        now = self._clock.now()
        matching = self._entries.matching(facts)
        others = [entry for entry in self._entries.entries() if entry not in matching]
        nearest = sorted(others, key=lambda entry: _distance(entry, facts))[:NEAREST]
        return {
            "pid": pid,
            "uid": process.uid,
            "gid": process.gid,
            "groups": sorted(int(one.value) for one in facts.selectors if one.kind == "supplementary_gid"),
            "selectors": sorted(map(str, facts.selectors)),
            "granted": [_described(entry, facts, now) for entry in matching],
            "nearest": [_described(entry, facts, now) for entry in nearest if entry.selectors & facts.selectors],
            "problems": await self._problems(),
        }

    async def _problems(self) -> list[str]:
        found = []
        try:
            await self._supervisor.roots("spiffe", [])
        except Unavailable as error:
            found.append(f"{error.reason}: nobody has a `supervisor:` selector, and no issuing CA can be renewed")
        now = self._clock.now()
        roots = self._signer.roots
        if not any(root.not_before <= now < root.not_after for root in roots):
            found.append("no root of the trust bundle is valid now: see that the clock is right")
        return found


def _distance(entry: Entry, facts: Facts) -> tuple[int, int, str]:
    """Fewest missing first, then most that match."""
    missing = len(entry.selectors - facts.selectors)
    return missing, missing - len(entry.selectors), entry.id


def _described(entry: Entry, facts: Facts, now: float) -> dict[str, Any]:
    missing = sorted(entry.selectors - facts.selectors)
    expired = entry.expires_at is not None and entry.expires_at <= now
    return {
        "id": entry.id,
        "spiffe_id": str(entry.spiffe_id),
        "matched": len(entry.selectors) - len(missing),
        "of": len(entry.selectors),
        "missing": [{"selector": str(one), "has": _instead(one, facts.selectors)} for one in missing],
        "expired": expired,
    }


def _instead(selector: Selector, found: frozenset[Selector]) -> Sequence[str]:
    """What the process has of the same kind."""
    return sorted(str(one) for one in found if (one.type, one.kind) == (selector.type, selector.kind))
