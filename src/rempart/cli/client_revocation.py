"""`rempart client revocation`: certificates of clients, and authorities above them, that prove nobody any more."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Annotated

import typer

from rempart.kernel.errors import BadInput

from .client_files import read_at_most
from .output import print_json, print_table, say, shown_time
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(no_args_is_help=True, help="Clients' certificates that were taken away")
_MOST = 4 << 20  # bytes of a file


@app.command()
def add(
    certificate: Annotated[
        str, typer.Argument(metavar="CERT", help="PEM file of the certificate, or its SHA-256 in hex")
    ],
    note: Annotated[str, typer.Option("--note", help="Why, for the record")] = "",
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take away a client's certificate, or an authority with all below it: it proves nobody from its next use on, and
    tokens that were given for it end."""
    bare = certificate.replace(":", "").lower()
    fingerprint = len(bare) == 64 and all(digit in "0123456789abcdef" for digit in bare)
    text = bare if fingerprint else read_at_most(Path(certificate), _MOST).decode("ascii", "replace")
    body = {"certificate": text, "note": note}
    document = call(state_dir(state), "people", "POST", "/revocations", body)
    if as_json:
        print_json(document)
    else:
        say(f"revoked {document['id']}")


@app.command("import")
def bring(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Its list (CRL), PEM or DER; - for stdin")],
    issuer: Annotated[
        Path | None, typer.Option("--issuer", help="PEM of the intermediate that signed it, below mtls_client_ca")
    ] = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring an authority's revocation list in force, in place of its former one. To be done again before it expires:
    an expired list vouches for nobody."""
    data = sys.stdin.buffer.read(_MOST + 1) if file == "-" else read_at_most(Path(file), _MOST)
    if len(data) > _MOST:
        raise BadInput("unreadable_file", f"{file} is larger than {_MOST} bytes")
    issuers = read_at_most(issuer, _MOST).decode("ascii", "replace") if issuer else ""
    body = {"list": base64.b64encode(data).decode(), "issuers": issuers}
    document = call(state_dir(state), "people", "POST", "/revocations/lists", body)
    if as_json:
        print_json(document)
    else:
        until = shown_time(document["next_at"])
        say(f"{document['certificates']} certificates of {document['issuer']} are revoked; good until {until}")


@app.command("list")
def list_all(state: StateOption = None, as_json: JsonOption = False) -> None:
    """What was taken away, and the lists in force."""
    document = call(state_dir(state), "people", "GET", "/revocations")
    if as_json:
        print_json(document)
        return
    rows = [[one["id"], "certificate", one["note"], shown_time(one["at"])] for one in document["certificates"]]
    for one in document["lists"]:
        until = f"until {shown_time(one['next_at'])}" + ("" if one["current"] else ", OUT OF DATE")
        what = f"{one['certificates']} certificates of {one['issuer']}, {until}"
        rows.append([one["id"], "list", what, shown_time(one["at"])])
    print_table(("id", "what", "", "since"), rows)


@app.command()
def remove(
    id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it")],
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a certificate back, or forget an authority's list."""
    bare = id.replace(":", "").lower()
    if not bare.isalnum():
        raise BadInput("bad_usage", f"{id!r} is no id of a revocation", "see `rempart client revocation list`")
    call(state_dir(state), "people", "DELETE", f"/revocations/{bare}")
    if as_json:
        print_json({"id": bare})
    else:
        say(f"removed {bare}")
