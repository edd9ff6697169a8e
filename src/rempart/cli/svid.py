"""`rempart svid x509|jwt`: identities of the calling workload, from its Workload API."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from rempart.kernel.clock import rfc3339
from rempart.kernel.errors import BadInput, Unavailable

from .output import print_json, print_table, say
from .state import JsonOption, StateOption, state_dir

app = typer.Typer(no_args_is_help=True)


def endpoint(state: Path | None) -> str:
    """`--state` names the system, else `$SPIFFE_ENDPOINT_SOCKET`, else it is the default state directory."""
    if state is None and (given := os.environ.get("SPIFFE_ENDPOINT_SOCKET")):
        return given
    return f"unix://{state_dir(state)}/run/workload.sock"


@app.command()
def x509(
    write: Annotated[
        Path | None, typer.Option("--write", help="Write svid.pem, key.pem and bundle.pem into this directory")
    ] = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """The caller's X.509-SVIDs. The private key is shown to nobody; --write puts it into a file of mode 0600."""
    from rempart.crypto.x509 import Certificate
    from rempart.sdk.spiffe import fetch_x509_svids

    svids = fetch_x509_svids(endpoint(state))
    if write is not None:
        _write(
            write,
            {
                "svid.pem": svids[0].certificate_pem(),
                "key.pem": svids[0].private_key_pem(),
                "bundle.pem": svids[0].bundle_pem(),
            },
        )
        say(f"wrote svid.pem, key.pem and bundle.pem of {svids[0].spiffe_id} to {write}")
    rows = [(svid, Certificate.parse(svid.chain[0])) for svid in svids]
    if as_json:
        print_json(
            {
                "svids": [
                    {
                        "spiffe_id": svid.spiffe_id,
                        "hint": svid.hint,
                        "serial": leaf.serial,
                        "not_before": rfc3339(leaf.not_before),
                        "not_after": rfc3339(leaf.not_after),
                        "certificate": svid.certificate_pem(),
                        "bundle": svid.bundle_pem(),
                    }
                    for svid, leaf in rows
                ]
            }
        )
        return
    print_table(
        ["SPIFFE ID", "serial", "valid until", "hint"],
        [(svid.spiffe_id, leaf.serial, rfc3339(leaf.not_after), svid.hint) for svid, leaf in rows],
    )


@app.command()
def jwt(
    audience: Annotated[list[str], typer.Option("--audience", help="Who the token is for; may be repeated")],
    spiffe_id: Annotated[str, typer.Option("--spiffe-id", help="Which identity, where the caller has several")] = "",
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """A JWT-SVID for an audience, on stdout."""
    from rempart.sdk.spiffe import fetch_jwt_svid

    svid = fetch_jwt_svid(audience, spiffe_id, endpoint(state))
    if as_json:
        print_json({"spiffe_id": svid.spiffe_id, "token": svid.token, "hint": svid.hint, "audience": audience})
    else:
        typer.echo(svid.token)


def _write(directory: Path, files: dict[str, str]) -> None:
    """Each file is written beside its place and moved over it; a reader sees the old one or the new one."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = directory.stat()
        if status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise BadInput(
                "open_directory", f"{directory} is open to others", f"chmod 700 {directory}, or name another"
            )
        for name, text in files.items():
            temporary = directory / f".{name}.{secrets.token_hex(8)}"
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, directory / name)
    except OSError as error:
        raise Unavailable("write_failed", f"{directory} can't be written: {error.strerror}", "name another") from None
