"""`rempart keys`: the keys that sign access tokens, and the authorities that sign identities."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from rempart.kernel.errors import BadInput

from .control import ask, connect, not_running
from .output import print_json, print_table, say, shown_time
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(no_args_is_help=True, help="Signing keys and authorities: list and rotate")

TOKENS = "tokens"
ROOTS = {"spiffe-root": "spiffe", "web-root": "web"}
LOG = "log"
ISSUING = {"spiffe-issuing": "spiffe", "web-issuing": "web", "jwt-svid": "jwt"}


@app.command("list")
def list_keys(state: StateOption = None, as_json: JsonOption = False) -> None:
    """The ring of token keys: next → active → verify-only → retired; roots, issuing CAs, JWT-SVID keys, the log's."""
    directory = state_dir(state)
    # a server without people issues no tokens
    has_people = (directory / "run" / "admin" / "people.sock").exists()
    document = call(directory, "people", "GET", "/keys") if has_people else {"keys": []}
    authorities = call(directory, "identity", "GET", "/authorities")["authorities"]
    log_keys = call(directory, "sequencer", "GET", "/log-keys")["keys"]
    if as_json:
        print_json({**document, "authorities": authorities, "log_keys": log_keys})
        return
    if has_people:
        _print(document, False)
    rows = _rows(authorities)
    for key in log_keys:
        now = "signing" if key["signs"] else "verify-only"
        rows.append(["log", now, key["key"].split("+")[1], shown_time(key["until"]), ""])
    print_table(("authority", "state", "sha256 or kid", "until", "next step"), rows)


@app.command()
def rotate(
    authority: Annotated[
        str, typer.Option("--authority", help=f"What to rotate: {', '.join((TOKENS, LOG, *ISSUING, *ROOTS))}")
    ] = TOKENS,
    retire_now: Annotated[
        str | None, typer.Option("--retire-now", metavar="KID", help="This key leaked: refuse its tokens from now on")
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(
            help="Seconds that both are trusted before the new one signs; default 600, if compromised 5. "
            "For the log: that both sign; default a week"
        ),
    ] = None,
    compromised: Annotated[
        bool, typer.Option("--compromised", help="Its key leaked: end all trust in it now, and wait until that is so")
    ] = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Sign with the next key; the old one verifies until what it signed has expired, so nobody is logged out.

    A new root is first trusted beside the old one, signs when everybody has had the overlap to learn it, and the old
    one is removed once nothing below it is valid: the command returns at once, `rempart keys list` shows the phase.
    With --compromised the old one goes as soon as everybody has certificates of the new one. What a leaked issuing CA
    signed is trusted as long as its root is, so then the root is replaced.
    """
    directory = state_dir(state)
    if retire_now is not None and authority != TOKENS:
        raise BadInput("bad_option", "--retire-now is for token keys", f"leave out --authority {authority}")
    if compromised and authority in (TOKENS, LOG):
        instead = "for a token key: --retire-now KID" if authority == TOKENS else "for the log's: --overlap 0"
        raise BadInput("bad_option", "--compromised is for authorities", instead)
    if authority == LOG:
        _rotate_log(directory, overlap, as_json)
        return
    if overlap is not None and authority not in ROOTS and not compromised:
        raise BadInput("bad_option", "--overlap is for roots", f"use --authority {' or '.join(ROOTS)}")
    if authority == TOKENS:
        body = {} if retire_now is None else {"retire_now": retire_now}
        _print(call(directory, "people", "POST", "/keys/rotate", body), as_json)
    elif compromised and authority in (*ISSUING, *ROOTS):
        _replace_compromised(directory, authority, overlap, as_json)
    elif authority in ISSUING:
        answer = call(directory, "identity", "POST", f"/authorities/{ISSUING[authority]}/rotate")
        if as_json:
            print_json(answer)
        else:
            say(f"{authority} signs with a new key")
    elif authority in ROOTS:
        _rotate_root(directory, authority, overlap, as_json)
    else:
        raise BadInput(
            "unknown_authority",
            f"there is no authority {authority[:80]!r}",
            f"use {', '.join((TOKENS, *ISSUING, *ROOTS))}",
        )


def _rotate_root(directory: Path, authority: str, overlap: float | None, as_json: bool) -> None:
    question: dict[str, Any] = {"op": "rotate-root", "authority": ROOTS[authority]}
    if overlap is not None:
        question["overlap"] = overlap
    with connect(directory) as connection:
        answer = next(ask(connection, question), None)
    if answer is None:
        raise not_running(directory)
    if as_json:
        print_json(answer)
    else:
        say(f"a new {authority} is trusted beside the old one; it signs after the overlap: see `rempart keys list`")


def _replace_compromised(directory: Path, authority: str, overlap: float | None, as_json: bool) -> None:
    """Prints how long the old one was trusted, and who may not have heard of it."""
    from rempart.mesh.model import Limits

    kind = ISSUING.get(authority) or ROOTS[authority]
    started = time.monotonic()
    more = {} if overlap is None else {"overlap": overlap}
    if kind == "jwt":
        body = {"compromised": True, **more}
        gone_at = call(directory, "identity", "POST", "/authorities/jwt/rotate", body)["old_gone_at"]
        while not _jwt_keys_gone(directory, gone_at):
            time.sleep(0.2)
    else:
        question = {"op": "rotate-root", "authority": kind, "compromised": True, **more}
        with connect(directory, timeout=2 * (overlap or 0) + 120) as connection:
            for document in ask(connection, question):
                if not as_json:
                    say(_PHASES[document["phase"]].format(kind=kind))
                if document["phase"] == "steady":
                    break
    took = time.monotonic() - started
    refresh = call(directory, "identity", "GET", "/bundle")["spiffe_refresh_hint"]
    if as_json:
        print_json(
            {
                "authority": authority,
                "trusted_for": took,
                "connections_for": Limits().max_connection_s,
                "partners_for": refresh,
            }
        )
        return
    say(f"the old one was trusted for {took:.1f} s more; now nobody who follows the Workload API or SDS trusts it")
    say(
        f"still to end: connections that are open (within {Limits().max_connection_s:.0f} s), partner trust domains "
        f"(within {refresh} s), and whoever keeps a copy of the bundle: give those the new one"
    )


_PHASES = {
    "prepared": "a new {kind} root is trusted beside the old one",
    "retiring": "it signs; everybody gets new certificates",
    "steady": "the old one is not in any bundle any more",
}


def _jwt_keys_gone(directory: Path, gone_at: float) -> bool:
    authorities = call(directory, "identity", "GET", "/authorities")["authorities"]
    keys = next(one["keys"] for one in authorities if one["kind"] == "jwt")
    return all(key["until"] > gone_at for key in keys)


def _rows(authorities: list[dict[str, Any]]) -> list[list[str]]:
    rows: list[list[str]] = []
    for one in authorities:
        if one["kind"] == "jwt":
            for key in one["keys"]:
                active = "active" if key["kid"] == one["active"] else "published"
                rows.append(["jwt-svid", active, key["kid"], shown_time(key["until"]), ""])
            continue
        rotation = one["root_rotation"]
        at = _next_step(rotation)
        for root in one["roots"]:
            signs = "signing" if root["sha256"] == one["signed_by"] else "trusted"
            rows.append([f"{one['kind']}-root", signs, root["sha256"][:16], shown_time(root["not_after"]), at])
        if one["active"]:
            active = one["active"]
            step = f"rotates {shown_time(one['rotate_at'])}"
            until = shown_time(active["not_after"])
            rows.append([f"{one['kind']}-issuing", "signing", active["sha256"][:16], until, step])
    return rows


def _next_step(rotation: dict[str, Any]) -> str:
    if rotation.get("phase") == "prepared":
        return f"new one signs {shown_time(rotation['activate_at'])}".strip()
    if rotation.get("phase") == "retiring":
        return f"old one goes {shown_time(rotation['retire_at'])}"
    return ""


def _print(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    print_table(
        ("kid", "algorithm", "state", "created", "signs since", "until"),
        [
            [
                key["kid"],
                key["algorithm"],
                key["state"],
                *(shown_time(key[at]) for at in ("created_at", "activated_at", "retires_at")),
            ]
            for key in document["keys"]
        ],
    )


def _rotate_log(directory: Path, overlap: float | None, as_json: bool) -> None:
    body = {} if overlap is None else {"overlap": overlap}
    answer = call(directory, "sequencer", "POST", "/log-keys/rotate", body)
    if as_json:
        print_json(answer)
        return
    say(f"checkpoints are signed by {answer['keys'][-1]['key']}")
    say(
        "give it to auditors and witnesses; its announcement, which the old key signed: "
        f"`rempart audit prove {answer['event']}`"
    )
