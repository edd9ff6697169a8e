"""`rempart client change`: other addresses, scopes or keys, or a new secret, while its tokens stand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from rempart.kernel.errors import BadInput

from .client_files import keys_of, secret_from_stdin, thumbprint_of, words_of
from .output import print_json, say
from .state import JsonOption, StateOption, call, state_dir

Texts = list[str] | None


def change(  # nosec B107 - a URI, no password
    client_id: Annotated[str, typer.Argument(metavar="ID", help="The client_id", show_default=False)],
    new_secret: Annotated[
        bool, typer.Option("--new-secret", help="Make one and print it once; the old is dead")
    ] = False,
    secret_stdin: Annotated[bool, typer.Option("--secret-stdin", help="Read its new secret from stdin")] = False,
    jwk: Annotated[Path | None, typer.Option("--jwk", help="Its public key or key set, JSON")] = None,
    cert: Annotated[Path | None, typer.Option("--cert", help="Its certificate, PEM")] = None,
    cert_subject: Annotated[str | None, typer.Option("--cert-subject", help="dns:NAME, uri:URI or dn:DN")] = None,
    name: Annotated[str | None, typer.Option("--name", help="What people are shown")] = None,
    redirect_uri: Annotated[Texts, typer.Option("--redirect-uri", help="All of them, in place of those of now")] = None,
    post_logout_redirect_uri: Annotated[Texts, typer.Option("--post-logout-redirect-uri", help="All of them")] = None,
    backchannel_logout_uri: Annotated[
        str | None, typer.Option("--backchannel-logout-uri", help='Told of logouts; "" for none')
    ] = None,
    grant: Annotated[Texts, typer.Option("--grant", help="All of them")] = None,
    scope: Annotated[Texts, typer.Option("--scope", help="All of them; refreshed tokens lose the others")] = None,
    audience: Annotated[Texts, typer.Option("--audience", help="All of them")] = None,
    serves: Annotated[Texts, typer.Option("--serves", help="All of them")] = None,
    access_ttl: Annotated[int | None, typer.Option("--access-ttl", help="Life of access tokens, seconds")] = None,
    refresh_ttl: Annotated[int | None, typer.Option("--refresh-ttl", help="How long it may refresh, seconds")] = None,
    id_token_alg: Annotated[str | None, typer.Option("--id-token-alg", help="RS256, ES256 or EdDSA")] = None,
    consent: Annotated[bool | None, typer.Option("--consent/--no-consent", help="Ask people before")] = None,
    dpop: Annotated[bool | None, typer.Option("--dpop/--no-dpop", help="Tokens are always bound to its key")] = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what is named and leave the rest. What the client holds stays good."""
    if new_secret and secret_stdin:
        raise BadInput("bad_usage", "--new-secret and --secret-stdin exclude each other", "give one of them")
    body: dict[str, Any] = {
        "name": name,
        "secret": "" if new_secret else secret_from_stdin() if secret_stdin else None,
        "jwks": keys_of(jwk) if jwk else None,
        "certificate": thumbprint_of(cert) if cert else None,
        "certificate_subject": cert_subject,
        "redirect_uris": redirect_uri,
        "post_logout_redirect_uris": post_logout_redirect_uri,
        "backchannel_logout_uri": backchannel_logout_uri,
        "grants": grant,
        "scopes": words_of(scope),
        "audiences": audience,
        "serves": serves,
        "access_ttl": access_ttl,
        "refresh_ttl": refresh_ttl,
        "id_token_signed_response_alg": id_token_alg,
        "consent": consent,
        "dpop_bound": dpop,
    }
    given = {field: value for field, value in body.items() if value is not None}
    if not given:
        raise BadInput("bad_usage", "nothing is named that shall change", "see `rempart client change --help`")
    path = f"/clients/{quote(client_id, safe='')}"
    document = call(state_dir(state), "people", "PATCH", path, given)
    if as_json:
        print_json(document)
        return
    say(f"changed {document['id']}")
    if "secret" in document:
        say("its new secret, shown only now:")
        print(document["secret"])
