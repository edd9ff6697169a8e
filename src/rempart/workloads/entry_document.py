"""Registration entries as people write them: YAML files for `rempart entry apply`, and the same shape as JSON.

    entries:
      - spiffe_id: spiffe://bank.example/batch
        selectors: ["unix:uid:1000", {type: unix, value: "path:/usr/bin/batch"}]
        ttl: 600                 # seconds, optional; or {x509: 600, jwt: 60}
        dns_names: [batch.internal]
        federates_with: [partner.example]
        admin: false             # its holder may administer entries
        downstream: false
        parent_id: spiffe://bank.example/spire/agent/x509pop/1
        hint: internal
        expires_at: 2027-01-01T00:00:00Z

A file may also hold one entry alone, without the list. Unknown keys are refused and all errors are shown together,
each with its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from rempart.kernel.errors import BadInput, RempartError
from rempart.kernel.spiffe import SpiffeId, parse_trust_domain

from .model import Entry, Selector
from .registration import check_id

MAX_TTL = 7 * 86400
MAX_FEDERATED = 64
_KEYS = frozenset(
    (
        *("spiffe_id", "selectors", "parent_id", "ttl", "dns_names", "hint", "expires_at"),
        *("federates_with", "admin", "downstream"),
    )
)
_DNS = re.compile(r"(?=.{1,253}\Z)([a-z0-9_]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_HINT = re.compile(r"[A-Za-z0-9_. -]{0,64}")
REMEDY = "correct these lines; docs/workloads.md shows the format"


LINE = object()
"""In a map, the line that it began on, where a parser told: no key of a document can equal it."""


def parse_document(document: Any, trust_domain: str, *, name: str = "entries") -> list[Entry]:
    """Of what a parser made: a list of entries, or `{"entries": [...]}`. Raises BadInput `bad_entries` with every error
    as `name:line: what`."""
    errors: list[str] = []
    if isinstance(document, dict) and "spiffe_id" in document:
        document = [document]
    if isinstance(document, dict):
        top = {key for key in document if key is not LINE}
        if top != {"entries"}:
            raise BadInput("bad_entries", f"{name}:1: the one key here is `entries`", REMEDY)
        document = document["entries"]
    if not isinstance(document, list) or not document:
        raise BadInput("bad_entries", f"{name}:1: there is no list of entries", REMEDY)
    entries = []
    for number, item in enumerate(document, 1):
        line = item.get(LINE) if isinstance(item, dict) else None
        where = f"{name}:{line}" if line else f"{name}: entry {number}"
        entry = _entry(item, trust_domain, where, errors)
        if entry is not None:
            entries.append(entry)
    if errors:
        raise BadInput("bad_entries", "\n".join(errors[:50]), REMEDY)
    return entries


def _entry(item: Any, trust_domain: str, where: str, errors: list[str]) -> Entry | None:
    if not isinstance(item, dict):
        errors.append(f"{where}: an entry is a map of spiffe_id, selectors and more")
        return None
    before = len(errors)
    item = {key: value for key, value in item.items() if key is not LINE}
    for key in sorted(set(item) - _KEYS, key=str):
        errors.append(f"{where}: unknown key {str(key)[:80]!r}; known: {', '.join(sorted(_KEYS))}")
    spiffe_id = None
    try:
        spiffe_id = SpiffeId.parse(_text(item, "spiffe_id", where, errors))
        check_id(spiffe_id, trust_domain)
    except RempartError as error:
        errors.append(f"{where}: {error.reason}; {error.remedy}")
    selectors = _selectors(item.get("selectors"), where, errors)
    parent = _text(item, "parent_id", where, errors) if "parent_id" in item else ""
    if parent:
        try:
            SpiffeId.parse(parent)
        except RempartError as error:
            errors.append(f"{where}: parent_id: {error.reason}")
    ttl, jwt_ttl = _ttls(item.get("ttl", 0), where, errors)
    names = item.get("dns_names", [])
    if not isinstance(names, list) or not all(isinstance(n, str) and _DNS.fullmatch(n) for n in names):
        errors.append(f"{where}: dns_names is a list of lower-case DNS names")
    hint = _text(item, "hint", where, errors) if "hint" in item else ""
    if not _HINT.fullmatch(hint):
        errors.append(f"{where}: hint is up to 64 letters, digits, spaces, dots, dashes and underscores")
    expires_at = _time(item.get("expires_at"), where, errors)
    flags = {name: item.get(name, False) for name in ("admin", "downstream")}
    for name, value in flags.items():
        if not isinstance(value, bool):
            errors.append(f"{where}: {name} is true or false")
    federates_with = _trust_domains(item.get("federates_with", []), trust_domain, where, errors)
    if len(errors) > before or spiffe_id is None:
        return None
    return Entry(
        id="",
        spiffe_id=spiffe_id,
        selectors=selectors,
        parent_id=parent,
        ttl=ttl,
        jwt_ttl=jwt_ttl,
        dns_names=tuple(names),
        federates_with=federates_with,
        **flags,
        hint=hint,
        expires_at=expires_at,
    )


def _ttls(value: Any, where: str, errors: list[str]) -> tuple[int, int]:
    """Seconds of X.509-SVIDs and of JWT-SVIDs: one number is for both."""
    parts = {key: part for key, part in value.items() if key is not LINE} if isinstance(value, dict) else None
    x509, jwt = (value, value) if parts is None else (parts.pop("x509", 0), parts.pop("jwt", 0))
    for ttl in (x509, jwt):
        if parts or isinstance(ttl, bool) or not isinstance(ttl, int) or not 0 <= ttl <= MAX_TTL:
            errors.append(
                f"{where}: ttl is a number of seconds from 1 to {MAX_TTL}, or 0 for the default, "
                "or {x509: seconds, jwt: seconds}"
            )
            return 0, 0
    return x509, jwt


def _trust_domains(value: Any, own: str, where: str, errors: list[str]) -> tuple[str, ...]:
    """`partner.example` or `spiffe://partner.example`, sorted."""
    if not isinstance(value, list) or len(value) > MAX_FEDERATED or not all(isinstance(name, str) for name in value):
        errors.append(f"{where}: federates_with is a list of up to {MAX_FEDERATED} trust domains")
        return ()
    found = set()
    for name in value:
        try:
            found.add(parse_trust_domain(name.removeprefix("spiffe://")))
        except RempartError as error:
            errors.append(f"{where}: federates_with: {error.reason}")
    if own in found:
        errors.append(f"{where}: federates_with names this trust domain itself")
    return tuple(sorted(found))


def _text(item: Mapping[str, Any], key: str, where: str, errors: list[str]) -> str:
    value = item.get(key)
    if isinstance(value, str):
        return value
    errors.append(f"{where}: {key} is missing" if value is None else f"{where}: {key} is not text")
    return ""


def _selectors(value: Any, where: str, errors: list[str]) -> frozenset[Selector]:
    if not isinstance(value, list) or not value:
        errors.append(f'{where}: selectors is a list that is not empty, as in ["unix:uid:1000"]')
        return frozenset()
    found = set()
    for item in value:
        text = item
        if isinstance(item, dict):
            parts = {key: part for key, part in item.items() if key is not LINE}
            if set(parts) == {"type", "value"} and all(isinstance(part, str) for part in parts.values()):
                text = f"{parts['type']}:{parts['value']}"
        if not isinstance(text, str):
            errors.append(f"{where}: a selector is text, or a map of type and value")
            continue
        try:
            found.add(Selector.parse(text))
        except RempartError as error:
            errors.append(f"{where}: {error.reason}" + (f"; {error.remedy}" if error.remedy else ""))
    return frozenset(found)


def _time(value: Any, where: str, errors: list[str]) -> float | None:
    """Seconds since the epoch, or RFC 3339 with its offset."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            value = False
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1 << 40:
        errors.append(f"{where}: expires_at is a time as in 2027-01-01T00:00:00Z, or seconds since 1970")
        return None
    return float(value)
