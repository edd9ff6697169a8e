"""What an agent knows of its trust domain: its entries and the bundles, as its server told it last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rempart.crypto.x509 import Certificate
from rempart.kernel.clock import Clock
from rempart.kernel.errors import BadInput, Unavailable
from rempart.workloads.entry_index import EntryIndex
from rempart.workloads.foreign_bundle import ForeignBundle, parse_bundle
from rempart.workloads.model import Entry, Facts

from .messages import Synced


class Knowledge:
    """A `KnownEntries` and `PartnerBundles`. `announce` is called when it changes, with the entries that did where only
    entries did. One event loop."""

    def __init__(self, trust_domain: str, clock: Clock, announce: Callable[[Sequence[Entry] | None], None]) -> None:
        self.trust_domain = trust_domain
        self._clock, self._announce = clock, announce
        self._index = EntryIndex([])
        self._synced: Synced | None = None
        self._bundle: ForeignBundle | None = None
        self._partners: Mapping[str, ForeignBundle] = {}

    @property
    def version(self) -> str:
        return self._synced.version if self._synced else ""

    @property
    def synced(self) -> Synced:
        """Raises Unavailable `not_synchronised`."""
        if self._synced is None:
            raise Unavailable("not_synchronised", "the agent has heard nothing of its server yet", "see its journal")
        return self._synced

    @property
    def bundle(self) -> ForeignBundle:
        """Of our own trust domain. Raises Unavailable `not_synchronised`."""
        if self._bundle is None:
            raise Unavailable("not_synchronised", "the agent knows no bundle yet", "see its journal")
        return self._bundle

    @property
    def roots(self) -> tuple[Certificate, ...]:
        return self._bundle.roots if self._bundle else ()

    def trust(self, bundle: str) -> None:
        """Of our own trust domain; one older than what is known is passed over. Raises BadInput `bad_bundle`."""
        told = parse_bundle(bundle, self.trust_domain, ours=())
        if not told.roots:
            raise BadInput("bad_bundle", "the bundle has no root")
        if self._bundle is None or (told.sequence or 0) >= (self._bundle.sequence or 0):
            self._bundle = told

    def learn(self, synced: Synced, parent_id: str) -> None:
        """All or nothing. Raises BadInput for what no server would send."""
        entries = [entry.entry(parent_id) for entry in synced.entries]
        ours = [root.fingerprint for root in parse_bundle(synced.bundle, self.trust_domain, ours=()).roots]
        partners = {name: parse_bundle(text, name, ours=ours) for name, text in synced.partners.items()}
        self.trust(synced.bundle)
        before, known = self._synced, {entry.id: entry for entry in self._index.entries}
        self._index, self._partners, self._synced = EntryIndex(entries), partners, synced
        if before is None or _but_entries(before) != _but_entries(synced):
            self._announce(None)
        else:
            now = {entry.id: entry for entry in entries}
            both = [(known.get(name), now.get(name)) for name in known.keys() | now.keys()]
            self._announce([one for pair in both if pair[0] != pair[1] for one in pair if one is not None])

    def forget_entries(self) -> None:
        """Nobody here is anybody any more."""
        if self._synced is not None:
            self._index, self._synced = EntryIndex([]), None
            self._announce(None)

    # -- KnownEntries, PartnerBundles --------------------------------------------------------------------------------

    def entries(self) -> Sequence[Entry]:
        return self._index.entries

    def matching(self, facts: Facts) -> list[Entry]:
        return self._index.identities(facts.selectors, self._clock.now())

    def asks_for(self) -> frozenset[tuple[str, str]]:
        return self._index.kinds

    def next_expiry(self) -> float | None:
        return self._index.next_expiry(self._clock.now())

    def bundles(self, trust_domains: Sequence[str]) -> Sequence[ForeignBundle]:
        return [self._partners[name] for name in trust_domains if name in self._partners]


def _but_entries(synced: Synced) -> tuple[object, ...]:
    return synced.bundle, synced.partners, synced.issuer, synced.kid, synced.generation, synced.adopted
