"""`rempart user`: people, their roles and limits, their sessions. Passwords come from stdin, never from arguments."""

from __future__ import annotations

import csv
import select
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from rempart.kernel.errors import BadInput

from .output import print_json, print_table, say
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(no_args_is_help=True, help="People: accounts, roles, limits")
UserArgument = Annotated[str, typer.Argument(help="Id or e-mail address", metavar="USER")]
_COLUMNS = ("id", "email", "display_name", "role", "payment_limit", "disabled", "second_factor")
_FIELDS = ("email", "role", "name", "payment_limit", "password", "password_hash", "totp")
_BATCH = 20
_SILENCE = 30.0  # seconds to wait for a password on a pipe


@app.command()
def add(
    email: Annotated[str, typer.Option("--email", help="E-mail address")],
    role: Annotated[str, typer.Option("--role", help="user, admin, finance, audit, devops, customer or service")],
    name: Annotated[str | None, typer.Option("--name", help="Display name")] = None,
    limit: Annotated[int | None, typer.Option("--limit", help="Most that one payment may be, in cents")] = None,
    totp: Annotated[str | None, typer.Option("--totp", help="Secret of a one-time-code app, base 32")] = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create an account. The password is read from stdin, or generated and printed once."""
    body: dict[str, Any] = {"email": email, "role": role, "name": name, "payment_limit": limit, "totp": totp}
    body["password"] = _password_from_stdin()
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


@app.command("import")
def import_users(file: Path, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Create accounts from CSV; exit code 1 when some of them could not be created.

    The header line names the columns: email, role, and any of name, payment_limit, password, password_hash, totp.
    """
    accounts = _read_csv(file)
    done: list[dict[str, Any]] = []
    for start in range(0, len(accounts), _BATCH):
        batch = {"accounts": accounts[start : start + _BATCH]}
        done += call(state_dir(state), "people", "POST", "/users/import", batch, timeout=120)["users"]
        say(f"{len(done)} of {len(accounts)}")
    if as_json:
        print_json({"users": done})
    else:
        rows = [
            [user["email"], user.get("id"), user.get("role"), user.get("password"), user.get("error")] for user in done
        ]
        print_table(("email", "id", "role", "generated password", "error"), rows)
    if any("error" in user for user in done):
        raise SystemExit(1)


@app.command()
def sessions(user: UserArgument, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Where this person is logged in."""
    document = call(state_dir(state), "people", "GET", f"{_path(user)}/sessions")
    if as_json:
        print_json(document)
        return
    print_table(
        ("id", "since", "last used", "until", "network", "program"),
        [
            [
                s["id"],
                _time(s["created_at"]),
                _time(s["last_used_at"]),
                _time(s["expires_at"]),
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


def _read_csv(file: Path) -> list[dict[str, Any]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = list(csv.DictReader(lines, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput("bad_csv", f"{file}: {error}", "give a CSV file in UTF-8 with a header line") from None
    accounts: list[dict[str, Any]] = []
    for number, row in enumerate(rows, 2):
        unknown = [str(column) for column in row if column not in _FIELDS]
        if unknown or None in row.values() or not row.get("email") or not row.get("role"):
            why = (
                f"unknown column {unknown[0]!r}"
                if unknown
                else "a value is missing or email and role are not both given"
            )
            raise BadInput("bad_csv", f"{file}:{number}: {why}", "columns: " + ", ".join(_FIELDS))
        account: dict[str, Any] = {field: value for field, value in row.items() if value}
        if "payment_limit" in account:
            if not account["payment_limit"].isdecimal():
                raise BadInput("bad_csv", f"{file}:{number}: payment_limit is not a number of cents")
            account["payment_limit"] = int(account["payment_limit"])
        accounts.append(account)
    return accounts


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%SZ}"
