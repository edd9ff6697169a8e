"""`rempart doctor`: is the installation well, and why does a process get an identity, or none."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from .control import status as ask_status
from .output import print_json, print_table
from .state import JsonOption, StateOption, call, state_dir

app = typer.Typer(add_completion=False, rich_markup_mode=None)
LEAST_FREE = 256 << 20
SOON = 60.0


@dataclass(frozen=True, slots=True)
class Check:
    """`ok` None: can't be told from here."""

    about: str
    ok: bool | None
    found: str
    remedy: str = ""


@app.command()
def doctor(
    pid: Annotated[
        int | None, typer.Argument(help="Also say why this process gets its identity, or none", min=1)
    ] = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """What is wrong, and what to do about it. Exit code 1 when something is, or when the process gets no identity."""
    directory = state_dir(state)
    document = ask_status(directory)
    checks = [*_installation(directory, document)]
    diagnosis: dict[str, Any] | None = None
    if pid is not None:
        diagnosis = call(directory, "identity", "GET", f"/diagnosis/{pid}")
        checks += _of_process(directory, diagnosis)
    if as_json:
        print_json({"checks": [asdict(check) for check in checks], "process": diagnosis})
    else:
        _print(checks, diagnosis)
    if any(check.ok is False for check in checks):
        raise SystemExit(1)


def _installation(directory: Path, document: dict[str, Any]) -> Iterator[Check]:
    down = [f"{one['name']} ({one['state']})" for one in document["processes"] if one["state"] != "ready"]
    yield Check(
        "processes", not down, ", ".join(down) or f"{len(document['processes'])} are ready", "`rempart logs NAME`"
    )
    status = directory.stat()
    open_to = oct(stat.S_IMODE(status.st_mode))
    yield Check(
        "state directory", not status.st_mode & 0o022, f"{directory}, mode {open_to}", f"chmod go-w {directory}"
    )
    free = shutil.disk_usage(directory).free
    yield Check(
        "disk",
        free >= LEAST_FREE,
        f"{free >> 20} MiB free",
        "without room nothing can be recorded, so nothing is decided",
    )
    yield from _trust(directory)


def _trust(directory: Path) -> Iterator[Check]:
    now = time.time()
    for authority in call(directory, "identity", "GET", "/authorities")["authorities"]:
        active = authority.get("active")
        if authority["kind"] == "jwt" or not isinstance(active, dict):
            yield Check(
                f"authority {authority['kind']}",
                bool(active),
                "signs" if active else "nothing signs",
                "`rempart logs identity`",
            )
            continue
        left = active["not_after"] - now
        found = f"the issuing CA is valid for {left / 3600:.1f} h more"
        if now < active["not_before"]:
            found = "the issuing CA is not valid yet: the clock was set back"
        valid = active["not_before"] <= now and left > SOON
        yield Check(
            f"authority {authority['kind']}", valid, found, "see that the clock is right, then `rempart logs identity`"
        )
        roots = [root for root in authority["roots"] if root["not_before"] <= now < root["not_after"]]
        yield Check(
            f"bundle {authority['kind']}",
            bool(roots),
            f"{len(roots)} of {len(authority['roots'])} roots are valid now",
            "see that the clock is right",
        )
    for partner in call(directory, "identity", "GET", "/partners")["partners"]:
        name = f"partner {partner['trust_domain']}"
        if partner["failure"]:
            yield Check(name, False, partner["failure"], "ask who runs that trust domain")
        else:
            yield Check(
                name,
                bool(partner["roots"]),
                f"bundle {partner['sequence']}, {len(partner['roots'])} roots",
                "wait for its first bundle, or give one",
            )


def _of_process(directory: Path, diagnosis: dict[str, Any]) -> Iterator[Check]:
    pid, granted = diagnosis["pid"], diagnosis["granted"]
    for problem in diagnosis["problems"]:
        yield Check("identity", False, problem, "`rempart status`")
    names = ", ".join(one["spiffe_id"] for one in granted)
    yield Check(
        f"process {pid}",
        bool(granted),
        names or "no entry matches",
        "see the entries below that come closest; `rempart entry apply`",
    )
    socket = directory / "run" / "workload.sock"
    yield _reaches(socket, diagnosis)
    yield _knows(pid, socket)


def _reaches(socket: Path, who: dict[str, Any]) -> Check:
    """Could that process connect? As its uid and groups, in its own view of the file system."""
    root = Path(f"/proc/{who['pid']}/root")
    place = Path("/")
    try:
        for part in socket.parts[1:]:
            if not _may(os.stat(f"{root}{place}"), who, 0o1):
                return Check(
                    "socket",
                    False,
                    f"uid {who['uid']} may not enter {place}",
                    "let it, or start it under `rempart up`",
                )
            place /= part
        found = os.stat(f"{root}{place}")
    except PermissionError:
        return Check(
            "socket", None, "another user's process: its file system can't be looked at from here", "run this as root"
        )
    except OSError as error:
        return Check(
            "socket", False, f"{place} is not there for the process: {error.strerror}", "mount it into its container"
        )
    if not stat.S_ISSOCK(found.st_mode):
        return Check("socket", False, f"{socket} is no socket", "`rempart status`")
    if not _may(found, who, 0o2):
        return Check(
            "socket", False, f"uid {who['uid']} may not write to {socket}", "its mode is not what `rempart up` made"
        )
    return Check("socket", True, f"uid {who['uid']} can connect to {socket}")


def _may(status: os.stat_result, who: dict[str, Any], bit: int) -> bool:
    if who["uid"] == 0:
        return True
    if status.st_uid == who["uid"]:
        bit <<= 6
    elif status.st_gid in (who["gid"], *who["groups"]):
        bit <<= 3
    return bool(status.st_mode & bit)


def _knows(pid: int, socket: Path) -> Check:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return Check(
            "environment", None, "another user's process: its environment can't be read from here", "run this as root"
        )
    given = next(
        (
            one.partition(b"=")[2].decode(errors="replace")
            for one in environment
            if one.startswith(b"SPIFFE_ENDPOINT_SOCKET=")
        ),
        "",
    )
    if not given:
        return Check(
            "environment", None, "SPIFFE_ENDPOINT_SOCKET is not set", f"set it to unix://{socket}, or name the socket"
        )
    same = given.removeprefix("unix:").lstrip("/") == str(socket).lstrip("/")
    return Check("environment", same, f"SPIFFE_ENDPOINT_SOCKET is {given[:200]}", f"set it to unix://{socket}")


def _print(checks: Sequence[Check], diagnosis: dict[str, Any] | None) -> None:
    words = {True: "ok", False: "WRONG", None: "?"}
    print_table(
        ("", "about", "found", "remedy"),
        [(words[one.ok], one.about, one.found, "" if one.ok else one.remedy) for one in checks],
    )
    if diagnosis is None:
        return
    print(f"\nselectors of process {diagnosis['pid']}")
    for selector in diagnosis["selectors"]:
        print(f"  {selector}")
    if diagnosis["granted"]:
        return
    print("\nentries that come closest" if diagnosis["nearest"] else "\nno entry shares a selector with it")
    for entry in diagnosis["nearest"]:
        expired = ", and it has expired" if entry["expired"] else ""
        print(f"  {entry['spiffe_id']}  {entry['matched']} of {entry['of']} selectors match{expired}  ({entry['id']})")
        for missing in entry["missing"]:
            instead = ", ".join(missing["has"]) or "nothing of that kind"
            print(f"    wants {missing['selector']}, has {instead}")
