"""`[audit]` of rempart.toml: where the log is kept, how long, who witnesses it, and where events go besides."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rempart.audit.intake import RECORDS
from rempart.crypto.cosigning import CosignatureVerifier
from rempart.kernel.errors import BadInput

from .audit_sinks import SinkSettings, read_sinks
from .audit_store import LogStoreSettings, read_retention, read_store
from .check import Reader


@dataclass(frozen=True, slots=True)
class WitnessSetting:
    url: str
    key: str


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """A checkpoint counts as witnessed once `quorum` of the witnesses cosigned it."""

    witnesses: tuple[WitnessSetting, ...] = ()
    quorum: int = 0
    sinks: tuple[SinkSettings, ...] = ()
    store: LogStoreSettings = field(default_factory=LogStoreSettings)
    retention: Mapping[str, int] = field(default_factory=dict)  # days by class of event
    readers_from: tuple[str, ...] = ()  # networks; none: anywhere
    records: Mapping[str, list[str]] = field(default_factory=dict)  # by program: as `audit.intake.types_with`


def read_audit(reader: Reader, directory: Path) -> AuditSettings:
    witnesses = tuple(_witness(one) for one in reader.tables("witness"))
    quorum = reader.number("quorum", len(witnesses), at_most=max(1, len(witnesses))) if witnesses else 0
    if len({witness.key for witness in witnesses}) < len(witnesses):
        reader.refuse("witness", "a witness is named twice", "name each once")
    sinks = read_sinks(reader.tables("sink"), directory)
    store, retention = read_store(reader), read_retention(reader)
    return AuditSettings(witnesses, quorum, sinks, store, retention, _networks(reader), _records(reader))


def _records(reader: Reader) -> dict[str, list[str]]:
    """`[audit.records]`: which programs may tell of what happens outside of Rempart, by group of events."""
    table = reader.table("records")
    found: dict[str, list[str]] = {}
    for group in sorted(RECORDS):
        for program in table.words(group):
            found.setdefault(program, []).append(group)
    table.no_more()
    return found


def check_records(root: Reader, records: Mapping[str, list[str]], hosts: Mapping[str, str]) -> None:
    """`hosts`: where each program runs; empty: here."""
    for program in records.keys() - hosts.keys():
        root.problems.add(("audit", "records"), f"there is no program {program!r}", f"there are: {', '.join(hosts)}")
    for program in sorted(name for name in records if hosts.get(name)):
        why = f"{program!r} runs on another host, whose agent is not believed that"
        root.problems.add(("audit", "records"), why, "name a program of this host")


def _networks(reader: Reader) -> tuple[str, ...]:
    """Where auditors may read from through the gateway, in CIDR notation (RFC 4632, RFC 4291 section 2.3)."""
    found = reader.words("readers_from")
    for text in found:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            reader.refuse("readers_from", f"{text[:60]!r} is no network", 'write ["10.0.0.0/8", "2001:db8::/32"]')
    return found


def _witness(reader: Reader) -> WitnessSetting:
    url = reader.text("url", required=True, pattern=r"https?://[!-~]+")
    key = reader.text("key", required=True)
    if key:
        try:
            CosignatureVerifier.parse(key)
        except BadInput as error:
            reader.refuse("key", error.reason, error.remedy)
    reader.no_more()
    return WitnessSetting(url, key)
