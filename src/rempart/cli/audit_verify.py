"""`rempart audit verify` of a whole log: in the state's directory, in PostgreSQL or in S3."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rempart.kernel.errors import BadInput, NotFound

from .output import print_json, print_table, say

if TYPE_CHECKING:
    from rempart.audit.storage import LogStorage


def published_key(state: Path) -> Path:
    path = state / "data" / "sequencer" / "log.vkey"
    if not path.exists():
        raise BadInput("no_verifier_key", f"{path} is not there", "name the key with --key, or the state with --state")
    return path


def verify_whole(state: Path, key: Any, application: Path | None, *, as_json: bool) -> None:
    """The log in the state, or where rempart.toml of `application` says. Raises NotFound `no_log`, Unavailable where
    its storage doesn't answer; ends with 1 when something is wrong."""
    from rempart.audit.whole_log import verify_log
    from rempart.crypto.signing import verify_ed25519

    data = state / "data" / "sequencer"
    storage = _storage(application, data) if application is not None else None
    log: Path | LogStorage = storage or data / "log"
    committed: _File | _Stored = _Stored(storage) if storage else _File(data / "state")
    if isinstance(log, Path) and not log.is_dir():
        remedy = "name the state with --state; for PostgreSQL and S3 the directory of rempart.toml with --app"
        raise NotFound("no_log", f"{log} is not there", remedy)
    memory = _Memory(state, key, committed)
    report = verify_log(log, key, verify_ed25519, memory.heads())
    if report.problems and memory.is_growing():  # what was read of a growing log may be of two moments: look again
        report = verify_log(log, key, verify_ed25519, memory.heads())
    if storage is not None:
        storage.close()
    problems = [*memory.problems, *report.problems]
    document: dict[str, Any] = {
        "size": report.size,
        "root": base64.b64encode(report.root).decode(),
        "ok": not problems,
    }
    if problems:
        document["problems"] = problems
    else:
        memory.remember(report.checkpoint)
    if as_json:
        print_json(document)
    else:
        print_table(("size", "root", "ok"), [(document["size"], document["root"], "yes" if not problems else "NO")])
    for problem in problems:
        say(f"wrong: {problem}")
    if problems:
        raise SystemExit(1)


class _File:
    """The sequencer's state beside a log in a directory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def read(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def moment(self) -> object:
        """Another one once something was committed."""
        try:
            return self._path.stat().st_mtime_ns
        except OSError:
            return None


class _Stored:
    """The sequencer's state where the log is kept."""

    def __init__(self, storage: LogStorage) -> None:
        self._storage = storage

    def __str__(self) -> str:
        return f"the state in {self._storage}"

    def read(self) -> bytes | None:
        return self._storage.load_state()

    def moment(self) -> object:
        return self.read()


def _storage(application: Path, data: Path) -> LogStorage | None:
    """None: it is in the state's directory. Raises NotFound `no_log` where nothing is kept, BadInput for what
    rempart.toml or the environment lack."""
    from rempart.servers.log_store import open_storage
    from rempart.wiring.audit_store import DIRECTORY
    from rempart.wiring.settings import load

    store = load(application).audit.store
    if store.kind == DIRECTORY:
        return None
    storage = open_storage(store, data, read_only=True)
    if storage.read("checkpoint") is None:
        raise NotFound("no_log", f"there is no log in {storage}", "see [audit] storage in rempart.toml")
    return storage


class _Memory:
    """The checkpoint of the last verification that found nothing wrong, and the one the sequencer committed last.

    Kept outside the log, so that a log set back as a whole to an older, validly signed state is noticed.
    """

    def __init__(self, state: Path, key: Any, committed: _File | _Stored) -> None:
        self._path = state / "verified-checkpoint"
        self._past_keys = state / "data" / "sequencer" / "log.vkeys"
        self._committed = committed
        self._key = key
        self._seen: object = None
        self.problems: list[str] = []

    def is_growing(self) -> bool:
        """Whether the sequencer committed something since `heads` was called, or does within half a second."""
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            if self._committed.moment() != self._seen:
                return True
            time.sleep(0.05)
        return False

    def heads(self) -> list[Any]:
        """Signed sizes and roots that the log must contain."""
        from rempart.audit.verifier import VerificationError, open_checkpoint
        from rempart.crypto.signing import verify_ed25519

        self.problems = []
        notes: list[tuple[Any, str]] = []
        with contextlib.suppress(FileNotFoundError):
            notes.append((self._path, self._path.read_text("utf-8")))
        self._seen = self._committed.moment()
        try:
            state = self._committed.read()
            if state is None:
                self.problems.append(f"{self._committed}: missing")
            else:
                notes.append((self._committed, json.loads(state.split(b"\n")[0])["checkpoint"]))
        except (ValueError, KeyError, TypeError):
            self.problems.append(f"{self._committed}: is not what the sequencer wrote")
        heads = []
        for path, note in notes:
            refused: list[str] = []
            for key in self._keys():  # a note of before a rotation is signed by a key of then
                try:
                    heads.append(open_checkpoint(note, key, verify_ed25519))
                    break
                except VerificationError as error:
                    refused.append(f"{path}: {error}")
            else:
                self.problems.append(refused[0])
        return heads

    def _keys(self) -> list[Any]:
        """The one given, then past ones of the same log, as the sequencer published them."""
        from rempart.audit.verifier import Key, VerificationError

        keys = [self._key]
        with contextlib.suppress(OSError, VerificationError):
            past = self._past_keys.read_text("utf-8").splitlines()
            keys += [key for key in map(Key.parse, reversed(past)) if key.origin == self._key.origin]
        return keys

    def remember(self, note: str) -> None:
        temporary = self._path.with_name(self._path.name + ".new")
        try:
            temporary.write_text(note, "utf-8")
            os.replace(temporary, self._path)
        except OSError as error:
            say(f"the checkpoint could not be remembered in {self._path}: {error.strerror}")
