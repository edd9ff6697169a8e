"""`rempart client`: programs registered for OAuth. Secrets come from stdin or are made here, never from arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from rempart.kernel.errors import BadInput

from .client_change import change
from .client_files import keys_of, secret_from_stdin, thumbprint_of, words_of
from .client_import import import_clients
from .client_revocation import app as revocation
from .output import print_json, print_table, say, shown_time
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(no_args_is_help=True, help="Clients: programs that use OAuth")
app.add_typer(revocation, name="revocation")
app.command("import")(import_clients)
app.command()(change)
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The client_id", show_default=False)]
Texts = list[str] | None


@app.command()
def add(  # nosec B107 - an algorithm and a URI, no password
    client_id: IdArgument,
    public: Annotated[bool, typer.Option("--public", help="It can keep no secret: a browser or device app")] = False,
    secret_stdin: Annotated[bool, typer.Option("--secret-stdin", help="Read its secret from stdin")] = False,
    jwk: Annotated[Path | None, typer.Option("--jwk", help="Its public key or key set, JSON")] = None,
    cert: Annotated[Path | None, typer.Option("--cert", help="Its certificate, PEM: it authenticates by mTLS")] = None,
    cert_subject: Annotated[
        str,
        typer.Option("--cert-subject", help="dns:NAME, uri:URI or dn:DN that an authority of [gateway] vouches for"),
    ] = "",
    spiffe_id: Annotated[str, typer.Option("--spiffe-id", help="The workload that it is, proved by mTLS")] = "",
    name: Annotated[str | None, typer.Option("--name", help="What people are shown")] = None,
    redirect_uri: Annotated[Texts, typer.Option("--redirect-uri", help="Exact; repeat for more")] = None,
    post_logout_redirect_uri: Annotated[Texts, typer.Option("--post-logout-redirect-uri", help="Exact")] = None,
    backchannel_logout_uri: Annotated[str, typer.Option("--backchannel-logout-uri", help="Told of logouts")] = "",
    grant: Annotated[Texts, typer.Option("--grant", help="Grant type, such as client_credentials")] = None,
    scope: Annotated[Texts, typer.Option("--scope", help="What it may ask for; repeat for more")] = None,
    audience: Annotated[Texts, typer.Option("--audience", help="Whom its tokens may be for; default: us")] = None,
    serves: Annotated[Texts, typer.Option("--serves", help="Audience that it is: may introspect its tokens")] = None,
    access_ttl: Annotated[int | None, typer.Option("--access-ttl", help="Life of access tokens, seconds")] = None,
    refresh_ttl: Annotated[
        int | None, typer.Option("--refresh-ttl", help="How long it may refresh after a sign-in, seconds")
    ] = None,
    id_token_alg: Annotated[
        str, typer.Option("--id-token-alg", help="Its ID tokens' signature: RS256, ES256 or EdDSA; default: ours")
    ] = "",
    consent: Annotated[bool, typer.Option("--consent", help="Ask people before it gets anything")] = False,
    dpop: Annotated[bool, typer.Option("--dpop", help="Its tokens are always bound to its key")] = False,
    mtls_bound: Annotated[bool, typer.Option("--mtls-bound", help="Its tokens are bound to its certificate")] = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a client. Without any proof named, a secret of 256 bits is made and printed once."""
    proofs = {"--public": public, "--secret-stdin": secret_stdin, "--jwk": jwk is not None, "--cert": cert is not None}
    given = [option for option, is_given in proofs.items() if is_given]
    if len(given) > 1:
        raise BadInput("bad_usage", f"{' and '.join(given)} exclude each other", "give one of them")
    body: dict[str, Any] = {
        "id": client_id,
        "name": name,
        "method": "none" if public else None,
        "secret": secret_from_stdin() if secret_stdin else None,
        "jwks": keys_of(jwk) if jwk else [],
        "certificate": thumbprint_of(cert) if cert else "",
        "certificate_subject": cert_subject,
        "spiffe_id": spiffe_id,
        "redirect_uris": redirect_uri or [],
        "post_logout_redirect_uris": post_logout_redirect_uri or [],
        "backchannel_logout_uri": backchannel_logout_uri,
        "grants": grant or [],
        "scopes": words_of(scope),
        "audiences": audience or [],
        "serves": serves or [],
        "access_ttl": access_ttl,
        "refresh_ttl": refresh_ttl,
        "id_token_signed_response_alg": id_token_alg,
        "consent": consent,
        "dpop_bound": dpop,
        "certificate_bound": mtls_bound,
    }
    _one(call(state_dir(state), "people", "POST", "/clients", body), as_json)


@app.command("list")
def list_clients(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Every client."""
    clients: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        page = call(state_dir(state), "people", "GET", f"/clients?after={quote(after)}")
        clients += page["clients"]
        after = page.get("next")
    if as_json:
        print_json({"clients": clients})
    else:
        rows = [[c["id"], c["name"], c["method"], _short(c["grants"]), " ".join(c["scopes"])] for c in clients]
        print_table(("id", "name", "method", "grants", "scopes"), rows)


@app.command()
def show(client_id: IdArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """One client."""
    _one(call(state_dir(state), "people", "GET", f"/clients/{quote(client_id, safe='')}"), as_json)


@app.command()
def delete(client_id: IdArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Delete a client: what it holds is refused from now on."""
    document = call(state_dir(state), "people", "DELETE", f"/clients/{quote(client_id, safe='')}")
    if as_json:
        print_json(document)
    else:
        say(f"deleted {document['id']}")


@app.command()
def invite(
    ttl: Annotated[int, typer.Option("--ttl", help="Seconds that it is good for")] = 86400,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """An initial access token with which one client registers itself (RFC 7591), printed once."""
    document = call(state_dir(state), "people", "POST", "/clients/invitations", {"ttl": ttl})
    if as_json:
        print_json(document)
    else:
        print(document["initial_access_token"])


def _one(client: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(client)
        return
    shown = {name: value for name, value in client.items() if value not in ("", [], None, False) and name != "secret"}
    if "created_at" in shown:
        shown["created_at"] = shown_time(shown["created_at"])
    rows = [[name, " ".join(map(str, value)) if isinstance(value, list) else value] for name, value in shown.items()]
    print_table(("", ""), rows)
    if "secret" in client:
        say("its secret, shown only now:")
        print(client["secret"])


def _short(grants: list[str]) -> str:
    return " ".join(grant.rpartition(":")[2] for grant in grants)
