"""`rempart user import`: accounts from CSV or from a Keycloak realm export; running it again changes nothing."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from rempart.kernel.errors import BadInput

from .output import print_json, print_table, say
from .state import JsonOption, StateOption, call, state_dir

_FIELDS = ("email", "role", "name", "payment_limit", "password", "password_hash", "totp", "disabled")
_BATCH = 20
_LONGEST = 320  # characters of one value: a batch fits into a request
_MOST = 256 << 20  # bytes of a file
Texts = list[str] | None


@dataclass(frozen=True, slots=True)
class Line:
    """What is to be imported, and where it stands: a line of CSV, or a user's name."""

    place: str
    account: dict[str, Any] | None = field(default=None, repr=False)
    error: str = ""
    notes: tuple[str, ...] = ()


def import_users(
    file: Path,
    keycloak: Annotated[
        bool, typer.Option("--keycloak", help="FILE is a Keycloak realm export: JSON, or the directory of `--dir`")
    ] = False,
    role_map: Annotated[
        Texts, typer.Option("--map", help="REALM-ROLE=ROLE or CLIENT/ROLE=ROLE of a Keycloak export; the first counts")
    ] = None,
    role: Annotated[str, typer.Option("--role", help="Role of those for whom none is given")] = "user",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done")] = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create accounts; those whose address has one stay as they are. Exit code 1 when some could not be used.

    The first line of CSV names the columns: email, and any of role, name, payment_limit, password, password_hash,
    totp, disabled.
    """
    lines = _from_keycloak(file, role_map or [], role) if keycloak else _from_csv(read_text(file), file, role)
    done = [{"place": line.place, "outcome": "refused", "error": line.error} for line in lines if line.error]
    usable = [line for line in lines if line.account is not None]
    for start in range(0, len(usable), _BATCH):
        batch = usable[start : start + _BATCH]
        body = {"accounts": [line.account for line in batch], "dry_run": dry_run}
        answers = call(state_dir(state), "people", "POST", "/users/import", body, timeout=300)["users"]
        done += [{"place": line.place, **answer} for line, answer in zip(batch, answers, strict=True)]
        say(f"{min(start + _BATCH, len(usable))} of {len(usable)}")
    _report(lines, done, as_json)
    if any(entry["outcome"] == "refused" for entry in done):
        raise SystemExit(1)


def _report(lines: Sequence[Line], done: list[dict[str, Any]], as_json: bool) -> None:
    notes = [{"place": line.place, "note": note} for line in lines for note in line.notes]
    counts = Counter(entry["outcome"] for entry in done)
    if as_json:
        print_json({"users": done, "notes": notes, "counts": counts})
        return
    print_table(
        ("where", "email", "outcome", "role", "generated password", "error"),
        [
            [entry.get(key) for key in ("place", "email", "outcome", "role", "password", "error")]
            for entry in done
            if entry["outcome"] != "exists"
        ],
    )
    for note in notes:
        say(f"{note['place']}: {note['note']}")
    say(", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in sorted(counts.items())) or "nothing")


def read_text(file: Path) -> str:
    try:
        if file.stat().st_size > _MOST:
            raise BadInput("too_large", f"{file} is larger than {_MOST >> 20} MiB", "split it")
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("bad_file", f"{file}: {error}", "give a readable file in UTF-8") from None


def realm_of(file: Path) -> Path:
    """The file itself, or of a directory the one realm there. Raises BadInput `bad_file`."""
    if not file.is_dir():
        return file
    realms = sorted(file.glob("*-realm.json"))
    if len(realms) != 1:
        raise BadInput("bad_file", f"{file}: {len(realms)} realms are there", "give the file of the one that counts")
    return realms[0]


def _from_keycloak(file: Path, pairs: list[str], role: str) -> list[Line]:
    """A directory is what `kc.sh export --dir` makes: NAME-realm.json, and NAME-users-N.json beside it."""
    from rempart.people.administration.keycloak import read_realm

    realm = realm_of(file)
    users = sorted(file.glob(realm.name.removesuffix("realm.json") + "users-*.json")) if file.is_dir() else []
    mapping = dict(pair.partition("=")[::2] for pair in pairs)
    if not all(mapping.values()):
        raise BadInput("bad_usage", "--map needs REALM-ROLE=ROLE", "as in --map staff=user")
    found = read_realm(read_text(realm), mapping, role, *(read_text(one) for one in users))
    return [Line(one.name, one.account, one.error, one.notes) for one in found]


def _from_csv(text: str, file: Path, role: str) -> list[Line]:
    """Faults of the header spoil the whole file, those of a line that line only."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[Line] = []
    try:
        header = [column.strip() for column in next(reader, [])]
        unknown = [column for column in header if column not in _FIELDS]
        if unknown or "email" not in header or len(set(header)) != len(header):
            why = f"unknown column {unknown[0]!r}" if unknown else "the header line names email and each column once"
            raise BadInput("bad_csv", f"{file}:1: {why}", "columns: " + ", ".join(_FIELDS))
        for row in reader:
            if row:
                lines.append(_line(f"{file.name}:{reader.line_num}", header, row, role))
    except csv.Error as error:
        raise BadInput("bad_csv", f"{file}:{reader.line_num}: {error}", "correct that line") from None
    return lines


def _line(place: str, header: list[str], row: list[str], role: str) -> Line:
    if len(row) != len(header):
        return Line(place, error=f"it has {len(row)} values for {len(header)} columns")
    if any(len(value) > _LONGEST for value in row):
        return Line(place, error=f"a value is longer than {_LONGEST} characters")
    account: dict[str, Any] = {"role": role} | {
        name: value.strip() if name not in ("password",) else value
        for name, value in zip(header, row, strict=True)
        if value
    }
    if "email" not in account:
        return Line(place, error="the e-mail address is missing")
    if "payment_limit" in account:
        if not (account["payment_limit"].isascii() and account["payment_limit"].isdecimal()):
            return Line(place, error="payment_limit is not a number of cents")
        account["payment_limit"] = int(account["payment_limit"])
    if "disabled" in account:
        if account["disabled"].lower() not in ("true", "false"):
            return Line(place, error="disabled is not true or false")
        account["disabled"] = account["disabled"].lower() == "true"
    return Line(place, account)
