"""A workload that may administer entries (requirement F8: a CI agent): which ones, and never more than its own part."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from rempart.kernel.errors import Denied
from rempart.kernel.spiffe import SpiffeId

from .model import Entry


@dataclass(frozen=True, slots=True)
class Registrar:
    """`paths`: it may register ids at and below these; `/` is the whole trust domain. `others`: all registrars' ids."""

    spiffe_id: str
    paths: tuple[str, ...]
    others: frozenset[str] = frozenset()

    def covers(self, entry: Entry) -> bool:
        """Its own to change and to delete. What an operator made privileged is nobody else's."""
        return not entry.admin and not entry.downstream and self._below(entry.spiffe_id)

    def check(self, entry: Entry, declared: Collection[SpiffeId]) -> None:
        """`declared`: ids of rempart.toml and of privileged entries. A second entry would give them to somebody else,
        and with the id of a registrar what that one may do.

        Raises Denied `outside_registrar` | `privileged_entry` | `declared_id`.
        """
        if not self._below(entry.spiffe_id):
            raise Denied(
                "outside_registrar",
                f"{self.spiffe_id} may not register {entry.spiffe_id}",
                f"it may register ids below: {', '.join(self.paths)}",
            )
        if entry.admin or entry.downstream:
            raise Denied(
                "privileged_entry",
                f"{entry.spiffe_id}: only the operator makes, changes or deletes admin and downstream entries",
                "use `rempart entry apply` on the host",
            )
        if entry.spiffe_id in declared or str(entry.spiffe_id) in self.others:
            raise Denied(
                "declared_id",
                f"{entry.spiffe_id} is declared in rempart.toml, privileged, or a registrar",
                "register another id",
            )

    def _below(self, spiffe_id: SpiffeId) -> bool:
        return any((spiffe_id.path + "/").startswith(path.rstrip("/") + "/") for path in self.paths)
