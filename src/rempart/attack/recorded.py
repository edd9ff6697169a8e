"""Attacks on the record: changing a copy of the log in ways that only a verifier sees, writing into it from outside.

What follows `R-log-` is done to a copy of the log's files, as somebody who owns the disk would; the rest goes through
the gateway, and the record is read afterwards.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rempart.crypto.signing import NoteSigner

from .host import Tamper, copy_log, tampered
from .model import Actor, Attack, Outcome, Trace, blocked, got_through, not_tried, refused
from .record import find
from .scene import Scene
from .wire import NoAnswer, Reply

_LOG = Path("data", "sequencer", "log")


def attacks() -> Iterator[Attack]:
    for id, title, tried, change in _CHANGES:
        yield Attack(
            f"R-log-{id}",
            Actor.INSIDER,
            title,
            f"{tried}, in a copy of the log",
            "the verifier finds it",
            lambda scene, change=change: tampered(scene, change),  # type: ignore[misc]  # mypy infers no default argument
        )
    yield Attack(
        "R-log-set-back",
        Actor.INSIDER,
        "The whole log set back",
        "an older copy of the log, whole and validly signed, put in the place of the newer one",
        "the verifier remembers that there was more",
        _set_back,
    )
    for id, title, path, forged in _INJECTIONS:
        yield Attack(
            f"T-record-{id}",
            Actor.STOLEN_TOKEN,
            title,
            "a request whose path, user agent and ids hold it",
            "one event, in which it is text",
            lambda scene, path=path, forged=forged: _injected(scene, path, forged),  # type: ignore[misc]  # as above
        )
    yield Attack(
        "R-record-suppress",
        Actor.STOLEN_TOKEN,
        "A request that can't be written down",
        "a refused request with 6,000 bytes of control and broken characters in its query",
        "it is in the record all the same",
        _suppressed,
    )
    yield Attack(
        "R-record-own-id",
        Actor.STOLEN_TOKEN,
        "Another decision's id",
        "a refused request that names the id of an allowed decision as its own decision and request",
        "the record keeps both, each with its outcome",
        _own_id,
    )
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        yield Attack(
            f"T-record-{method.lower()}",
            Actor.INSIDER,
            f"{method} on the record",
            f"an auditor sends {method} to /logs, /logs/checkpoint, /logs/tile/entries/000 and what only operators may",
            "403, 404 or 405",
            lambda scene, method=method: _written(scene, method),  # type: ignore[misc]  # as above
        )
    yield Attack(
        "I-record-tiles",
        Actor.STOLEN_TOKEN,
        "The log's own files",
        "a user reads /logs/checkpoint and tiles",
        "403",
        lambda scene: _each(scene, "user", ("/logs/checkpoint", "/logs/tile/0/000.p/1", "/logs/tile/entries/000.p/1")),
    )
    yield Attack(
        "I-record-neighbours",
        Actor.INSIDER,
        "Files beside the log",
        "an auditor asks for the sequencer's state, keys and persons through spellings of a tile's path",
        "400 or 404",
        lambda scene: _each(scene, "audit", _NEIGHBOURS, 400, 403, 404),
    )
    yield Attack(
        "I-record-personal",
        Actor.INSIDER,
        "Personal data in the log's files",
        "an auditor downloads entries and looks for e-mail addresses, passwords, and who logged in from where",
        "none: ids only, the rest is encrypted for each person",
        _personal,
    )


# -- the log's files -------------------------------------------------------------------------------------------------


def _entries(log: Path) -> list[Path]:
    return sorted((p for p in log.glob("tile/entries/**/*") if p.is_file()), key=lambda p: p.stat().st_mtime_ns)


def _write(path: Path, data: bytes) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        path.chmod(0o600)
    path.write_bytes(data)
    return True


def _replay(log: Path) -> bool:
    """The newest bundle's first event a second time in the place of its second."""
    for path in _entries(log):
        data = path.read_bytes()
        first = 2 + int.from_bytes(data[:2], "big")
        second = first + 2 + int.from_bytes(data[first : first + 2], "big")
        if first < second <= len(data):
            return _write(path, data[:first] + data[:first] + data[second:])
    return False


def _append(log: Path) -> bool:
    paths = _entries(log)
    forged = b'{"forged":true}'
    return bool(paths) and _write(paths[-1], paths[-1].read_bytes() + len(forged).to_bytes(2, "big") + forged)


def _empty(log: Path) -> bool:
    for path in _entries(log):
        _write(path, b"")
    return True


def _note(change: Callable[[list[str]], list[str]]) -> Tamper:
    def tamper(log: Path) -> bool:
        path = log / "checkpoint"
        return path.exists() and _write(path, "\n".join(change(path.read_text("utf-8").split("\n"))).encode())

    return tamper


def _other_root(lines: list[str]) -> list[str]:
    return [*lines[:2], "A" * 43 + "=", *lines[3:]]


def _resigned(log: Path) -> bool:
    """The same log, signed with a key of the adversary's under the same name."""
    text = (log / "checkpoint").read_text("utf-8").partition("\n\n")[0] + "\n"
    forger = NoteSigner(text.split("\n")[0], os.urandom(32))
    return _write(log / "checkpoint", forger.sign(text).encode())


def _pretend_retention(log: Path) -> bool:
    """As if retention had deleted the events, of which nothing is said in the log."""
    paths = _entries(log)
    full = [path for path in paths if not path.parent.name.endswith(".p")]
    for path in full or paths:
        path.unlink()
        _write(log / "kept" / path.relative_to(log / "tile/entries"), b"")
    return bool(paths)


def _other_tile(log: Path) -> bool:
    """A hash of the leaves in the place of another."""
    for path in sorted(p for p in log.glob("tile/0/**/*") if p.is_file()):
        data = path.read_bytes()
        if len(data) >= 64:
            return _write(path, data[32:64] + data[:32] + data[64:])
    return False


_CHANGES: Sequence[tuple[str, str, str, Tamper]] = (
    ("replay", "An event twice", "an event written over the next one", _replay),
    ("append", "An event smuggled in", "an event added behind the newest ones", _append),
    ("empty", "An empty log", "every file of events emptied", _empty),
    ("swap-hashes", "Two hashes swapped", "two hashes of the tree change places", _other_tile),
    ("other-key", "Another key's signature", "the checkpoint signed by an own key in the log's name", _resigned),
    ("no-signature", "No signature", "the signature removed from the checkpoint", _note(lambda n: [*n[:4], ""])),
    ("other-root", "Another root", "the root replaced under the old signature", _note(_other_root)),
    ("other-name", "Another log's name", "the checkpoint renamed", _note(lambda n: ["evil.example/log", *n[1:]])),
    ("retention", "Deleted as if by retention", "events deleted and marked as retention would", _pretend_retention),
    ("stranger", "A stranger's file", "a file of one's own among the tiles",
     lambda log: _write(log / "tile/entries/backdoor", b"x")),
)  # fmt: skip


def _set_back(scene: Scene) -> Outcome:
    state, verify = scene.means.state, scene.means.verify_log
    if state is None or verify is None:
        return not_tried("the log on disk isn't within reach")
    with tempfile.TemporaryDirectory() as directory:
        older, newer = Path(directory, "older"), Path(directory, "newer")
        copy_log(state, older)
        reply = scene.get(scene.private, scene.session("user"))
        if not find(scene, reply.evidence):
            return not_tried("nothing was added to the log meanwhile")
        copy_log(state, newer)
        shutil.rmtree(newer / _LOG)
        shutil.copytree(older / _LOG, newer / _LOG)
        found = verify(newer)
    if found.ok:
        return got_through("the verifier says that all is right")
    return blocked(found.said[:200], "the sequencer's own record of its last checkpoint", "rempart audit verify")


# -- through the gateway ---------------------------------------------------------------------------------------------

_FORGED = "%7B%22id%22%3A%22evt_forged%22%2C%22type%22%3A%22people.login%22%7D"
_INJECTIONS = (
    ("newline", "A line of one's own", f"/users?x=1%0D%0A{_FORGED}%0A", '"id": "evt_forged"'),
    ("json", "Out of the quotes", "/users?x=%22%7D%7D%2C%7B%22id%22%3A%22evt_forged2%22", '"id": "evt_forged2"'),
    ("terminal", "Control of an auditor's terminal", "/users?x=%1b%5d0%3bowned%07%1b%5b2J", "\x1b"),
)


def _probe(scene: Scene, target: str, *headers: tuple[str, str]) -> Reply:
    agent = 'evil"}]} \\u0000 \\n'
    return scene.ask("GET", target, (*scene.session("user").bearer, ("User-Agent", agent), *headers))


def _injected(scene: Scene, target: str, forged: str) -> Outcome:
    try:
        reply = _probe(scene, target.replace("/users", scene.private))
    except NoAnswer as closed:
        return blocked(str(closed), "gateway", Trace(("mesh.request_refused",)))
    if reply.status < 400 or reply.status >= 500:
        return got_through(reply.said, reply.evidence)
    texts = find(scene, reply.evidence) if reply.evidence else []
    if any(forged in text for text in texts):
        return got_through("the record holds what was forged", reply.evidence)
    if reply.decision and len(texts) == 0:
        return got_through("the record has no event of it", reply.evidence)
    return blocked(reply.said, "events are escaped JSON", reply.evidence)


def _suppressed(scene: Scene) -> Outcome:
    target = f"{scene.private}?q=" + "%00%ff%ed%a0%80%e2%80%ae" * 240
    try:
        reply = _probe(scene, target)
    except NoAnswer as closed:
        return blocked(str(closed), "gateway", Trace(("mesh.request_refused",)))
    if reply.status < 400 or reply.status >= 500:
        return got_through(reply.said, reply.evidence)
    if reply.decision and not find(scene, reply.decision):
        return got_through("the record has no event of it", reply.evidence)
    return blocked(reply.said, "events can't fail to be encoded", reply.evidence)


def _own_id(scene: Scene) -> Outcome:
    allowed = scene.get("/logs?limit=1", scene.session("audit"))
    if allowed.status != 200 or not allowed.decision:
        return not_tried(f"no allowed decision to borrow: {allowed.said}")
    ids = (("x-rempart-decision", allowed.decision), ("x-request-id", allowed.headers["x-request-id"]))
    reply = _probe(scene, scene.private, *ids)
    if reply.status not in (401, 403):
        return got_through(reply.said, reply.evidence)
    if reply.decision == allowed.decision:
        return got_through("the refusal bears the allowed decision's id", reply.evidence)
    kept = [json.loads(text) for text in find(scene, allowed.decision, ("decision",))]
    if not any(event["id"] == allowed.decision and event["success"] for event in kept):
        return got_through("the allowed decision is not what it was", allowed.decision)
    return blocked(reply.said, "ids are the PDP's", reply.evidence)


def _written(scene: Scene, method: str) -> Outcome:
    paths = ("/logs", "/logs/checkpoint", "/logs/tile/entries/000", "/logs/log-keys/rotate", "/logs/prune")
    last = Reply(0)
    for path in paths:
        last = scene.send(method, path, {}, scene.session("audit"))
        if last.status not in (403, 404, 405):
            return got_through(f"{method} {path}: {last.said}", last.evidence)
    return refused(last, 403, 404, 405)


_NEIGHBOURS = (
    "/logs/state",
    "/logs/tile/../state",
    "/logs/tile/%2e%2e/%2e%2e/log.keys.sealed",
    "/logs/tile/entries/..%2f..%2f..%2fpersons.db",
    "/logs/tile/0/000.p/../../../../holds.json",
    "/logs/checkpoint/../log-keys",
)


def _each(scene: Scene, role: str, paths: Sequence[str], *statuses: int) -> Outcome:
    last = Reply(0)
    for path in paths:
        last = scene.get(path, scene.session(role))
        outcome = refused(last, *statuses)
        if not outcome.blocked:
            return outcome
    return refused(last, *statuses)


def _personal(scene: Scene) -> Outcome:
    auditor = scene.session("audit")
    note = scene.get("/logs/checkpoint", auditor)
    match = re.match(rb"[^\n]+\n(\d+)\n", note.body)
    if note.status != 200 or match is None:
        return not_tried(f"the checkpoint can't be read: {note.said}")
    size = int(match[1])
    number, width = divmod(size, 256)
    bundles = [f"{n:03d}" for n in range(max(0, number - 3), number)] + ([f"{number:03d}.p/{width}"] if width else [])
    body, last = b"", note
    for bundle in bundles:
        last = scene.get(f"/logs/tile/entries/{bundle}", auditor)
        body += last.body
    secrets = [account.email for account in scene.accounts] + [account.password for account in scene.accounts]
    told = [text for text in secrets if text.encode() in body]
    placed = [event for event in _events(body) if event.get("person") and event.get("ip")]
    if told or placed:
        return got_through(f"{len(told)} addresses or passwords, {len(placed)} people with their place", last.evidence)
    return blocked(f"{len(body)} bytes of entries say nothing", "personal data is encrypted", last.evidence)


def _events(entries: bytes) -> Iterator[dict[str, Any]]:
    at = 0
    while at + 2 <= len(entries):
        end = at + 2 + int.from_bytes(entries[at : at + 2], "big")
        own: dict[str, Any] = json.loads(entries[at + 2 : end])["unmapped"]["rempart"]
        yield own
        at = end
