"""SPIRE's registration entries, as `spire-server entry show -output json` prints them, into entries of ours.

The format is protojson of `spire.api.types.Entry`: 64-bit numbers are text, SPIFFE IDs are `{trust_domain, path}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput, RempartError

from .model import OF_AGENTS, Selector

_SERVER = "/spire/server"


@dataclass(frozen=True, slots=True)
class Converted:
    """`entries` as `entry_document.parse_document` takes them; `skipped`: (SPIRE's entry id, why) of the others."""

    entries: tuple[dict[str, Any], ...]
    skipped: tuple[tuple[str, str], ...]


def convert(text: str | bytes, *, parent: str = "") -> Converted:
    """`parent`: the agent in whose place this host stands; entries of other parents are not its.

    Raises BadInput `bad_spire_entries`, and `several_parents` where there are several and none was named: this host
    would take on the identities of them all.
    """
    try:
        document = strict_json.loads(text)
    except BadInput as error:
        raise _bad(error.reason) from None
    listed = document.get("entries") if isinstance(document, dict) else None
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise _bad("there is no list of entries")
    entries: list[dict[str, Any]] = []
    skipped: list[tuple[str, str]] = []
    parents = set()
    for entry in listed:
        name = str(entry.get("id", ""))[:100]
        converted = _entry(entry)
        unknown = _unknown(converted["selectors"])
        kinds = {selector.partition(":")[0] for selector in converted["selectors"]}
        # an agent with a join token has an alias below itself, by its own id
        if converted["parent_id"].endswith(_SERVER) or kinds & OF_AGENTS:
            skipped.append((name, "it is for an agent or an alias of nodes, not for a workload"))
        elif parent and converted["parent_id"] != parent:
            skipped.append((name, f"its parent is {converted['parent_id']}"))
        elif entry.get("store_svid") is True:
            skipped.append((name, "its SVID is for a secret store, which is not offered here"))
        elif unknown:
            skipped.append((name, unknown))
        else:
            parents.add(converted["parent_id"])
            entries.append(converted)
    if len(parents) > 1:
        raise BadInput(
            "several_parents",
            f"these entries are for {len(parents)} different agents: {', '.join(sorted(parents)[:5])}",
            "name the one that this host stands for: --parent SPIFFE_ID",
        )
    return Converted(tuple(entries), tuple(skipped))


def _entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return {
            "spiffe_id": _id(entry["spiffe_id"]),
            "parent_id": _id(entry["parent_id"]),
            "selectors": [f"{one['type']}:{one['value']}" for one in entry["selectors"]],
            "ttl": {"x509": int(entry.get("x509_svid_ttl", 0)), "jwt": int(entry.get("jwt_svid_ttl", 0))},
            "dns_names": list(entry.get("dns_names", [])),
            "federates_with": list(entry.get("federates_with", [])),
            "admin": entry.get("admin", False),
            "downstream": entry.get("downstream", False),
            "hint": entry.get("hint", ""),
            "expires_at": int(entry.get("expires_at", 0)) or None,
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _bad(f"entry {str(entry.get('id'))[:100]!r} is not as SPIRE prints them") from None


def _id(value: Mapping[str, str]) -> str:
    return f"spiffe://{value['trust_domain']}{value['path']}"


def _unknown(selectors: list[str]) -> str:
    for selector in selectors:
        try:
            Selector.parse(selector)
        except RempartError as error:
            return error.reason
    return ""


def _bad(why: str) -> BadInput:
    return BadInput(
        "bad_spire_entries",
        f"this is not what SPIRE prints: {why}",
        "use the output of `spire-server entry show -output json`",
    )
