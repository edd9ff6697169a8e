"""`rempart migrate spire`: take over from a SPIRE of the same trust domain, while both go on."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from rempart.kernel.errors import BadInput

from .output import print_json, say
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(no_args_is_help=True)
NAME = "spire"
DAYS = 30
_Authorities = tuple[list[bytes], list[tuple[str, bytes, float]]]
"""Roots (DER); JWT keys: id, public key, end in seconds since the epoch."""


@app.callback()
def group() -> None:
    """Move workloads from another system to this one."""


@app.command()
def spire(
    server_socket: Annotated[
        Path, typer.Option(help="Administrative socket of spire-server", show_default=True)
    ] = Path("/tmp/spire-server/private/api.sock"),  # nosec B108 - SPIRE's own default
    parent: Annotated[str, typer.Option(help="SPIFFE ID of the SPIRE agent that this host stands for")] = "",
    days: Annotated[int, typer.Option(help="How long SPIRE's authorities are trusted here, at most", min=1)] = DAYS,
    finish: Annotated[bool, typer.Option("--finish", help="Trust SPIRE's authorities no more")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; show which entries would come")] = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trust SPIRE's authorities here and ours there, and take over its entries. Run it again while SPIRE still makes
    new keys; at the end run it with --finish."""
    directory = state_dir(state)
    if finish:
        call(directory, "identity", "DELETE", f"/adopted/{NAME}")
        say("SPIRE's authorities are trusted no more: what SPIRE has signed is refused from now on")
        return
    until = time.time() + days * 86400
    known = call(directory, "identity", "GET", "/adopted")
    ours = _ours(directory, known["adopted"], until)
    talk = _talk(server_socket, known["trust_domain"], parent, ours, dry_run=dry_run)
    bundle, entries, skipped = asyncio.run(talk)
    if not dry_run:
        call(directory, "identity", "POST", f"/adopted/{NAME}", {**bundle, "until": until})
    answer: dict[str, Any] = {"created": [], "changed": [], "unchanged": [], "removed": []}
    if entries:
        answer = call(directory, "identity", "POST", "/entries", {"entries": entries, "dry_run": dry_run}, timeout=120)
    for name, why in skipped:
        say(f"skipped {name}: {why}")
    if as_json:
        print_json({"roots": len(bundle["roots"]), "jwt_keys": len(bundle["keys"]), "skipped": len(skipped), **answer})
    else:
        counts = ", ".join(f"{len(answer[what])} {what}" for what in ("created", "changed", "unchanged"))
        trusted = f"{len(bundle['roots'])} roots and {len(bundle['keys'])} JWT keys of SPIRE"
        say(f"{'would be' if dry_run else 'done'}: entries {counts}; trusted as well: {trusted}")
    if skipped:
        raise SystemExit(1)


def _ours(directory: Path, adopted: Mapping[str, Any], until: float) -> _Authorities:
    """What is in the bundle without what was adopted. `until`: the end of keys of other servers, which tell none."""
    from rempart.crypto.public_jwk import jwk_spki
    from rempart.crypto.x509 import pem_to_ders

    bundle = call(directory, "identity", "GET", "/bundle")
    authorities = call(directory, "identity", "GET", "/authorities")["authorities"]
    ends = {key["kid"]: key["until"] for one in authorities if one["kind"] == "jwt" for key in one["keys"]}
    theirs = {der for one in adopted.values() for pem in one["roots"] for der in pem_to_ders(pem)}
    theirs_too = {key["kid"] for one in adopted.values() for key in one["keys"]}
    roots = [base64.b64decode(key["x5c"][0]) for key in bundle["keys"] if key["use"] == "x509-svid"]
    keys = [key for key in bundle["keys"] if key["use"] == "jwt-svid" and key["kid"] not in theirs_too]
    shown = [(key["kid"], jwk_spki(key), float(ends.get(key["kid"], until))) for key in keys]
    return [der for der in roots if der not in theirs], shown


async def _talk(
    socket: Path, trust_domain: str, parent: str, ours: _Authorities, *, dry_run: bool
) -> tuple[dict[str, Any], list[dict[str, Any]], list[tuple[str, str]]]:
    """SPIRE's authorities, its entries as ours, and those that can't be. `ours`: what SPIRE is to trust as well."""
    import json

    from google.protobuf.json_format import MessageToDict

    from rempart.backends.spire_api import SpireApi
    from rempart.backends.spire_trust import spire_bundle, to_append
    from rempart.workloads.spire_entries import convert

    api = SpireApi(socket)
    try:
        bundle = spire_bundle(await api.bundle(), trust_domain)
        listed = [MessageToDict(one, preserving_proto_field_name=True) for one in await api.entries()]
        if not dry_run:
            await api.append_bundle(to_append(*ours))
    finally:
        await api.close()
    kids = {kid for kid, _, _ in ours[1]}
    roots = [one.pem().decode() for one in bundle.roots if one.der not in ours[0]]
    keys = [dict(key) for key in bundle.jwt_keys if key["kid"] not in kids]
    if not roots:
        raise BadInput("nothing_to_adopt", "SPIRE has no authority of its own", "see `spire-server bundle show`")
    ready = [one for one in listed if not str(one.get("id", "")).startswith("rempart.toml-")]
    converted = convert(json.dumps({"entries": ready}), parent=parent)
    return {"roots": roots, "keys": keys}, list(converted.entries), list(converted.skipped)
