"""`[workloads]` of rempart.toml: who may register identities."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from .check import Reader

_PATH = re.compile(r"/|(/[A-Za-z0-9._-]+)+")


@dataclass(frozen=True, slots=True)
class Registrar:
    """A workload that may register SPIFFE IDs at and below `paths`."""

    spiffe_id: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpstreamFiles:
    """PEM files of a CA that signs for the trust domain in place of a root of ours."""

    cert: Path
    key: Path
    bundle: Path | None


@dataclass(frozen=True, slots=True)
class WorkloadSettings:
    registrars: tuple[Registrar, ...] = ()
    upstream: UpstreamFiles | None = None
    public_url: str = ""


def read_workloads(workloads: Reader, directory: Path, domain: str) -> WorkloadSettings:
    """Paths count from `directory`, where rempart.toml lies."""
    return WorkloadSettings(
        registrars=_registrars(workloads, domain),
        upstream=_upstream(workloads, directory),
        public_url=workloads.text("public_url", pattern=r"https://[a-z0-9.-]+(:[0-9]{1,5})?"),
    )


def _upstream(workloads: Reader, directory: Path) -> UpstreamFiles | None:
    reader = workloads.table("upstream")
    if not reader.content:
        return None
    cert, key = reader.text("cert", required=True), reader.text("key", required=True)
    bundle = reader.text("bundle")
    reader.no_more()
    return UpstreamFiles(directory / cert, directory / key, directory / bundle if bundle else None)


def _registrars(workloads: Reader, domain: str) -> tuple[Registrar, ...]:
    """`[[workloads.registrar]]`: `spiffe_id`, `paths`."""
    found = []
    for reader in workloads.tables("registrar"):
        spiffe_id = reader.spiffe_id("spiffe_id", default="")
        if not spiffe_id.startswith(f"spiffe://{domain}/") and not reader.failed("spiffe_id"):
            reader.refuse("spiffe_id", "a registrar is a workload of this trust domain", f"write spiffe://{domain}/…")
        paths = reader.words("paths")
        if not paths or not all(_PATH.fullmatch(path) for path in paths):
            reader.refuse("paths", "a registrar needs the paths below which it may register", 'write ["/jobs"]')
        reader.no_more()
        found.append(Registrar(spiffe_id, paths))
    return tuple(found)
