"""`rempart bundle show|export`: the public keys of the trust domain."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from rempart.kernel.errors import BadInput

from .output import print_json, print_table
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(no_args_is_help=True)


@app.command()
def show(state: StateOption = None, as_json: JsonOption = False) -> None:
    """What is in the bundle, the issuing authorities that are active, and what is known of partner trust domains."""
    directory = state_dir(state)
    bundle = call(directory, "identity", "GET", "/bundle")
    partners = call(directory, "identity", "GET", "/partners")["partners"]
    if as_json:
        authorities = call(directory, "identity", "GET", "/authorities")["authorities"]
        print_json({"bundle": bundle, "authorities": authorities, "partners": partners})
        return
    rows = [(key["use"], key.get("kid", ""), f"{key['kty']} {key.get('crv', '')}") for key in bundle["keys"]]
    print_table(["use", "key id", "key"], rows)
    print(f"sequence {bundle['spiffe_sequence']}")
    if partners:
        columns = ["partner", "sequence", "roots", "url", "failure"]
        print_table(
            columns, [(p["trust_domain"], p["sequence"], len(p["roots"]), p["url"], p["failure"]) for p in partners]
        )


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
