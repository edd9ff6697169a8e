"""`rempart user`: people, their roles and limits, their sessions. Passwords come from stdin, never from arguments."""

from __future__ import annotations

import select
import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from rempart.kernel.errors import BadInput

from .breached_list import app as breached_list
from .output import print_json, print_table, say, shown_time
from .state import JsonOption, StateOption, call, state_dir
from .user_import import import_users

app = typer.Typer(no_args_is_help=True, help="People: accounts, roles, limits")
UserArgument = Annotated[str, typer.Argument(help="Id or e-mail address", metavar="USER")]
_COLUMNS = ("id", "email", "display_name", "role", "payment_limit", "disabled", "second_factor")
_SILENCE = 30.0  # seconds to wait for a password on a pipe


@app.command()
def add(
    email: Annotated[str, typer.Option("--email", help="E-mail address")],
    role: Annotated[str, typer.Option("--role", help="A role, see `rempart role list`")],
    name: Annotated[str | None, typer.Option("--name", help="Display name")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Most that one payment may be, in cents")] = None,
    totp: Annotated[str | None, typer.Option("--totp", help="Secret of a one-time-code app, base 32")] = None,
    invite: Annotated[bool, typer.Option("--invite", help="Mail a link to choose the password by")] = False,
    language: Annotated[str, typer.Option("--language", help="Of that mail: en or fr")] = "en",
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create an account. The password comes from stdin, or is generated and printed once, or chosen by the invited."""
    body: dict[str, Any] = {"email": email, "role": role, "name": name, "payment_limit": limit, "totp": totp}
    body |= {"invite": True, "language": language} if invite else {"password": _password_from_stdin()}
    _one(call(state_dir(state), "people", "POST", "/users", body), as_json)


@app.command("list")
def list_users(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Every account."""
    users: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        page = call(state_dir(state), "people", "GET", f"/users?after={quote(after)}")
        users += page["users"]
        after = page.get("next")
    if as_json:
        print_json({"users": users})
    else:
        print_table(_COLUMNS, [[user[column] for column in _COLUMNS] for user in users])


@app.command()
def show(user: UserArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """One account."""
    _one(call(state_dir(state), "people", "GET", _path(user)), as_json)


@app.command()
def disable(user: UserArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Refuse this person from now on; ends their sessions."""
    _one(call(state_dir(state), "people", "PATCH", _path(user), {"disabled": True}), as_json)


@app.command()
def enable(user: UserArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Let a disabled person log in again."""
    _one(call(state_dir(state), "people", "PATCH", _path(user), {"disabled": False}), as_json)


@app.command()
def role(user: UserArgument, role: str, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Give another role; ends their sessions."""
    _one(call(state_dir(state), "people", "PATCH", _path(user), {"role": role}), as_json)


@app.command("reset-password")
def reset_password(
    user: UserArgument,
    totp: Annotated[str | None, typer.Option("--totp", help="New secret of a one-time-code app, base 32")] = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set the password from stdin, or generate and print one; ends their sessions."""
    body = {"password": _password_from_stdin(), "totp": totp}
    _one(call(state_dir(state), "people", "POST", f"{_path(user)}/password", body), as_json)


@app.command()
def link(
    user: UserArgument,
    kind: Annotated[str, typer.Option("--kind", help="reset, invite or factor-reset")] = "reset",
    language: Annotated[str, typer.Option("--language", help="en or fr")] = "en",
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mail a single-use link: to choose a new password, or to remove the second factors."""
    document = call(state_dir(state), "people", "POST", f"{_path(user)}/link", {"kind": kind, "language": language})
    if as_json:
        print_json(document)
    else:
        say(f"sent: {document['sent']}")


@app.command("reset-factors")
def reset_factors(user: UserArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Remove every second factor of somebody who lost theirs; ends their sessions."""
    _one(call(state_dir(state), "people", "DELETE", f"{_path(user)}/factors"), as_json)


@app.command()
def limit(user: UserArgument, cents: str, state: StateOption = None, as_json: JsonOption = False) -> None:
    """The most that one payment of this person may be, in cents, or `none`."""
    if cents != "none" and not (cents.isascii() and cents.isdecimal()):
        raise BadInput("bad_payment_limit", f"{cents[:40]!r} is not a number of cents", "give a whole number, or none")
    body = {"payment_limit": None if cents == "none" else int(cents)}
    _one(call(state_dir(state), "people", "PATCH", _path(user), body), as_json)


@app.command()
def erase(user: UserArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Disable for good and forget name and address; the id is never given again."""
    _one(call(state_dir(state), "people", "DELETE", _path(user)), as_json)


app.command("import")(import_users)
app.add_typer(breached_list, name="breached-list")


@app.command()
def sessions(user: UserArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Where this person is logged in."""
    document = call(state_dir(state), "people", "GET", f"{_path(user)}/sessions")
    if as_json:
        print_json(document)
        return
    print_table(
        ("id", "kind", "since", "last used", "until", "network", "program"),
        [
            [
                s["id"],
                s["kind"],
                shown_time(s["created_at"]),
                shown_time(s["last_used_at"]),
                shown_time(s["expires_at"]),
                s["network"],
                s["user_agent"],
            ]
            for s in document["sessions"]
        ],
    )


@app.command()
def revoke(
    user: UserArgument,
    session: Annotated[str | None, typer.Option("--session", help="Only this session; default all")] = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """End sessions: their refresh tokens are refused from now on."""
    document = call(state_dir(state), "people", "POST", f"{_path(user)}/revoke", {"session": session})
    if as_json:
        print_json(document)
    else:
        say(f"ended: {document['revoked']}")


def _path(user: str) -> str:
    return f"/users/{quote(user, safe='')}"


def _one(user: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(user)
        return
    print_table(_COLUMNS, [[user[column] for column in _COLUMNS]])
    if "password" in user:
        say("generated password, shown only now:")
        print(user["password"])


def _password_from_stdin() -> str | None:
    """The first line of a pipe or file; None for a terminal, for nothing, or for a pipe that stays silent."""
    if sys.stdin is None or sys.stdin.closed or sys.stdin.isatty():
        return None
    try:
        if not select.select([sys.stdin.fileno()], [], [], _SILENCE)[0]:
            say("nothing came on stdin: a password is generated")
            return None
        return sys.stdin.readline(4096).rstrip("\r\n") or None
    except OSError:  # a closed descriptor, or a stand-in without one
        return None
    except UnicodeDecodeError:
        raise BadInput("bad_password", "the password on stdin is not UTF-8") from None
