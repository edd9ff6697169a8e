"""`rempart bundle show|export`: the public keys of the trust domain."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Annotated, Any
from urllib.parse import quote

import typer

from rempart.kernel.clock import rfc3339
from rempart.kernel.errors import BadInput

from .output import print_json, print_table, say
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(no_args_is_help=True)


@app.command()
def show(state: StateOption = None, as_json: JsonOption = False) -> None:
    """What is in the bundle, the issuing authorities that are active, and what is known of partner trust domains."""
    directory = state_dir(state)
    bundle = call(directory, "identity", "GET", "/bundle")
    partners = call(directory, "identity", "GET", "/partners")["partners"]
    authorities = call(directory, "identity", "GET", "/authorities")["authorities"]
    if as_json:
        print_json({"bundle": bundle, "authorities": authorities, "partners": partners})
        return
    print(f"sequence {bundle['spiffe_sequence']}\n")
    until = {root["sha256"]: root["not_after"] for one in authorities for root in one.get("roots", ())}
    until |= {key["kid"]: key["until"] for one in authorities if one["kind"] == "jwt" for key in one["keys"]}
    print_table(["use", "key", "key id, or SHA-256", "until"], [_row(key, until) for key in bundle["keys"]])
    print()
    print_table(["signs", "serial, or key id", "until", "next", "below root"], [_signer(one) for one in authorities])
    if partners:
        print()
        columns = ["partner", "sequence", "roots", "url", "failure"]
        print_table(
            columns, [(p["trust_domain"], p["sequence"], len(p["roots"]), p["url"], p["failure"]) for p in partners]
        )


def _row(key: dict[str, Any], until: dict[str, float]) -> tuple[str, ...]:
    name = key.get("kid") or hashlib.sha256(base64.b64decode(key["x5c"][0])).hexdigest()
    return key["use"], f"{key['kty']} {key.get('crv', '')}", name, rfc3339(until[name]) if name in until else ""


def _signer(one: dict[str, Any]) -> tuple[str, ...]:
    active = one["active"]
    if not isinstance(active, dict):
        return one["kind"], active or "nothing signs", "", "", ""
    following = rfc3339(one["rotate_at"]) if one["rotate_at"] else ""
    return one["kind"], active["serial"], rfc3339(active["not_after"]), following, (one["signed_by"] or "")[:16]


@app.command()
def refresh(
    trust_domain: Annotated[str, typer.Argument(help="The partner's", show_default=False)],
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask a partner for its bundle now: after a compromise there, nobody should wait until it is due."""
    answer = call(state_dir(state), "identity", "POST", f"/partners/{quote(trust_domain, safe='')}/refresh")
    if as_json:
        print_json(answer)
    else:
        say(f"{answer['trust_domain']} is at bundle {answer['sequence']} with {answer['roots']} roots")


@app.command()
def servers(state: StateOption = None, as_json: JsonOption = False) -> None:
    """The servers that share the trust domain: which live, and what each publishes."""
    answer = call(state_dir(state), "identity", "GET", "/servers")
    if as_json:
        print_json(answer)
        return
    rows = [
        (
            one["id"] + (" (this)" if one["this"] else ""),
            "lives" if one["alive"] else "silent",
            one["seen"],
            " ".join(root[:16] for root in one["roots"]),
            " ".join(one["keys"]),
        )
        for one in answer["servers"]
    ]
    print_table(["server", "", "tells bundle", "roots", "JWT keys"], rows)


@app.command()
def export(
    format_: Annotated[str, typer.Option("--format", help="spiffe (JSON) or pem (X.509 roots)")] = "spiffe",
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """The bundle, to be given to others, on stdout."""
    if format_ not in ("spiffe", "pem"):
        raise BadInput("bad_format", f"{format_!r} is not a format", "use spiffe or pem")
    if format_ == "pem":
        answer = call(state_dir(state), "identity", "GET", "/bundle.pem")
        if as_json:
            print_json(answer)
        else:
            typer.echo(answer["pem"], nl=False)
        return
    bundle = call(state_dir(state), "identity", "GET", "/bundle")
    if as_json:
        print_json(bundle)
    else:
        typer.echo(json.dumps(bundle, indent=2))
