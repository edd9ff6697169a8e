"""What `POST /entries` takes and gives, for the operator and for registrars alike.

`{"files": [{"name", "yaml"}…]}`, `{"yaml": text, "name": file}` or `{"entries": […]}`, each with `"prune": true` and
`"dry_run": true` where wanted → `{"created", "changed", "removed", "unchanged": [entries], "dry_run"}`; a changed entry
also has `"before"`: what was different.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput
from rempart.protocols.http_pages import Ask

from .entry_document import parse_document
from .model import Entry
from .registrar import Registrar
from .registration import MAX_ENTRIES, Applied, Registration

MAX_REQUEST = 16 << 20


@dataclass(frozen=True, slots=True)
class EntryRequest:
    entries: tuple[Entry, ...]
    prune: bool
    dry_run: bool


async def read(ask: Ask, trust_domain: str) -> EntryRequest:
    """Raises BadInput `bad_entries`. Parsing is done in a thread: others are served meanwhile."""
    body = await ask.body(MAX_REQUEST, code="bad_entries", remedy="split the file")
    return await asyncio.to_thread(_parse, body, trust_domain)


def _parse(body: bytes, trust_domain: str) -> EntryRequest:
    document = strict_json.loads(body)
    if not isinstance(document, dict):
        return EntryRequest(tuple(parse_document(document, trust_domain)), prune=False, dry_run=False)
    flags = {name: document.pop(name, False) for name in ("prune", "dry_run")}
    if not all(isinstance(flag, bool) for flag in flags.values()):
        raise BadInput("bad_entries", "prune and dry_run are true or false")
    if "yaml" in document:
        document = {"files": [document]}
    files = document.get("files")
    entries = parse_document(document, trust_domain) if files is None else _files(files, trust_domain)
    if len(entries) > MAX_ENTRIES:
        raise BadInput("bad_entries", f"there are more than {MAX_ENTRIES} entries", "leave some out")
    return EntryRequest(tuple(entries), flags["prune"], flags["dry_run"])


def _files(files: object, trust_domain: str) -> list[Entry]:
    """The mistakes of all files are shown together."""
    from .entry_yaml import parse_yaml  # loaded once there is YAML

    if not isinstance(files, list) or not files:
        raise BadInput("bad_entries", "there is no file")
    entries: list[Entry] = []
    errors: list[BadInput] = []
    for file in files:
        text = file.get("yaml") if isinstance(file, dict) else None
        name = file.get("name", "entries.yaml") if isinstance(file, dict) else None
        if not isinstance(text, str) or not isinstance(name, str):
            raise BadInput("bad_entries", "a file is a map of name and yaml")
        try:
            entries += parse_yaml(text, trust_domain, name=name)
        except BadInput as error:
            errors.append(error)
    if errors:
        raise BadInput("bad_entries", "\n".join(error.reason for error in errors), errors[0].remedy)
    return entries


async def apply(
    registration: Registration, wanted: EntryRequest, who: str, registrar: Registrar | None = None
) -> dict[str, Any]:
    """Do it, or with `dry_run` only say what would be done. Raises as `Registration.apply`."""
    if wanted.dry_run:
        await registration.refresh()
        applied = registration.plan(wanted.entries, prune=wanted.prune, registrar=registrar)
    else:
        applied = await registration.apply(wanted.entries, who, prune=wanted.prune, registrar=registrar)
    return {**_shown(applied), "dry_run": wanted.dry_run}


def _shown(applied: Applied) -> dict[str, Any]:
    shown: dict[str, Any] = {
        name: [entry.document() for entry in getattr(applied, name)] for name in ("created", "removed", "unchanged")
    }
    shown["changed"] = [_changed(before.document(), after.document()) for before, after in applied.changed]
    return shown


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {**after, "before": {name: value for name, value in before.items() if after[name] != value}}
