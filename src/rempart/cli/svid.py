"""`rempart svid x509|jwt`: identities of the calling workload, from its Workload API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from rempart.kernel.clock import rfc3339
from rempart.kernel.errors import BadInput

from . import svid_follow
from .output import print_json, print_table, say
from .state import JsonOption, StateOption, state_dir

app = typer.Typer(no_args_is_help=True)


def endpoint(state: Path | None) -> str:
    """`--state` names the system, else `$SPIFFE_ENDPOINT_SOCKET`, else it is the default state directory."""
    if state is None and (given := os.environ.get("SPIFFE_ENDPOINT_SOCKET")):
        return given
    return f"unix://{state_dir(state)}/run/workload.sock"


FollowOption = Annotated[bool, typer.Option("--follow", help="Stay, and write again at each renewal")]
ExecOption = Annotated[str, typer.Option("--exec", help="Command to run after each renewal (no shell)")]
SignalOption = Annotated[str, typer.Option("--signal", help="HUP, USR1, USR2, INT or TERM after each renewal")]
PidFileOption = Annotated[Path | None, typer.Option("--pid-file", help="Whose process gets the signal")]


@app.command()
def x509(
    write: Annotated[
        Path | None,
        typer.Option("--write", help="Write svid.pem, key.pem, bundle.pem and combined.pem into this directory"),
    ] = None,
    follow: FollowOption = False,
    exec_: ExecOption = "",
    signal: SignalOption = "",
    pid_file: PidFileOption = None,
    hint: Annotated[str, typer.Option(help="Which identity to write, where the caller has several")] = "",
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """The caller's X.509-SVIDs. The private key is shown to nobody; --write puts it into a file of mode 0600."""
    from rempart.crypto.x509 import Certificate
    from rempart.sdk.spiffe import X509Svid, fetch_x509_svids
    from rempart.sdk.svid_files import follow_x509, write_files, x509_contents

    notice = _notice(follow, write, exec_, signal, pid_file)

    def put(svid: X509Svid) -> str:
        write_files(_place(write), x509_contents(svid))
        until = rfc3339(Certificate.parse(svid.chain[0]).not_after)
        return (
            f"wrote svid.pem, key.pem, bundle.pem and combined.pem of {svid.spiffe_id} to {write}, valid until {until}"
        )

    if follow:
        svid_follow.follow(follow_x509(endpoint(state), hint), put, notice)
        return
    svids = fetch_x509_svids(endpoint(state))
    if write is not None:
        chosen = [svid for svid in svids if not hint or svid.hint == hint]
        if not chosen:
            raise BadInput("unknown_hint", f"no identity of this process has the hint {hint!r}", "leave --hint out")
        say(put(chosen[0]))
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
    write: Annotated[Path | None, typer.Option("--write", help="Write the token to this file, mode 0600")] = None,
    follow: FollowOption = False,
    exec_: ExecOption = "",
    signal: SignalOption = "",
    pid_file: PidFileOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """A JWT-SVID for an audience, on stdout or in a file."""
    from rempart.sdk.spiffe import fetch_jwt_svid
    from rempart.sdk.svid_files import follow_jwt, write_files

    notice = _notice(follow, write, exec_, signal, pid_file)

    def put(token: str) -> str:
        place = _place(write)
        write_files(place.parent, {place.name: token.encode()})
        return f"wrote a JWT-SVID for {', '.join(audience)} to {place}"

    if follow:
        svid_follow.follow(follow_jwt(endpoint(state), audience, spiffe_id), put, notice)
        return
    svid = fetch_jwt_svid(audience, spiffe_id, endpoint(state))
    if write is not None:
        say(put(svid.token))
    elif as_json:
        print_json({"spiffe_id": svid.spiffe_id, "token": svid.token, "hint": svid.hint, "audience": audience})
    else:
        typer.echo(svid.token)


def _notice(follow: bool, write: Path | None, command: str, signal: str, pid_file: Path | None) -> svid_follow.Notice:
    """Raises BadInput `bad_usage` for options that have nothing to do."""
    if follow and write is None:
        raise BadInput("bad_usage", "--follow keeps files fresh, and no --write says where", "add --write")
    if (command or signal or pid_file) and not follow:
        raise BadInput("bad_usage", "--exec, --signal and --pid-file are for renewals", "add --follow")
    return svid_follow.Notice.parse(command, signal, pid_file)


def _place(write: Path | None) -> Path:
    if write is None:
        raise BadInput("bad_usage", "nothing says where to write", "add --write")
    return write.absolute()
