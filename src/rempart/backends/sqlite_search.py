"""The audit trail's search index in SQLite. Trusted for nothing: what it finds is read from the Merkle log.

Kept lean so that it keeps up with thousands of events a second: words that repeat (people, workloads, types, rules)
are stored once and referred to by number, ids are looked up by a 64-bit hash, and nothing is synced: after a power cut
it is built again from the log.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

from rempart.audit.model import Indexed, Query
from rempart.kernel.errors import Unavailable, Unprocessable

_SCHEMA = """
CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT NOT NULL UNIQUE);
CREATE TABLE events (
    idx INTEGER PRIMARY KEY, at INTEGER NOT NULL, type INTEGER NOT NULL, success INTEGER NOT NULL,
    person INTEGER, workload INTEGER, rule INTEGER, path TEXT, words TEXT NOT NULL
);
CREATE INDEX by_at ON events (at);
CREATE INDEX by_type ON events (type);
CREATE INDEX by_person ON events (person) WHERE person IS NOT NULL;
CREATE INDEX by_workload ON events (workload) WHERE workload IS NOT NULL;
CREATE TABLE ids (hash INTEGER NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY (hash, idx)) WITHOUT ROWID;
CREATE TABLE counts (type TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_VERSION = "1"
_CACHED_WORDS = 50_000
_FAR = 2**62  # a time is whatever the process that made the event said
_SECONDS = 3.0  # that one search may take


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big", signed=True)


def _boot_id() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


class SqliteSearch:
    """Implements `audit.ports.SearchIndex`. `log_id` is the log it belongs to: another log's index is dropped."""

    def __init__(self, path: Path, log_id: str) -> None:
        self._path = path
        self._log_id = log_id
        self._words: dict[str, int] = {}
        try:
            self._db = self._open()
        except sqlite3.Error:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            try:
                self._db = self._open()
            except sqlite3.Error as error:
                raise _unavailable(error) from None

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            db.executescript(
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA cache_size=-32000; PRAGMA temp_store=MEMORY;"
                "PRAGMA wal_autocheckpoint=4000; PRAGMA trusted_schema=OFF;"
            )
            if not db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                db.executescript("BEGIN;" + _SCHEMA + "COMMIT;")
                self._remember(db, version=_VERSION, log=self._log_id, size="0", clean="1")
            facts = dict(db.execute("SELECT name, value FROM facts"))
            # What a power cut left unsynced shows as an unclean end under another boot of the machine.
            lost = facts["clean"] != "1" and facts.get("boot") != _boot_id()
            if facts["version"] != _VERSION or facts["log"] != self._log_id or lost:
                raise sqlite3.DatabaseError("of another version or log, or cut off")
            self._remember(db, clean="0", boot=_boot_id())
            self._size = int(facts["size"])
            self._counts = {str(kind): int(count) for kind, count in db.execute("SELECT type, count FROM counts")}
        except (KeyError, ValueError) as error:
            db.close()
            raise sqlite3.DatabaseError(str(error)) from None
        except sqlite3.Error:
            db.close()
            raise
        return db

    @staticmethod
    def _remember(db: sqlite3.Connection, **facts: str) -> None:
        db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts.items())

    @property
    def size(self) -> int:
        return self._size

    def counts(self) -> Mapping[str, int]:
        return dict(self._counts)

    def add(self, events: Sequence[Indexed], size: int) -> None:
        counts = dict(self._counts)
        rows = []
        ids = []
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            word = self._word
            for event in events:
                s = event.summary
                words = "\n".join(
                    text for text in (s.reason, s.ip, s.source, s.service, s.role, s.operator, s.method) if text
                )
                row = (
                    event.index,
                    max(-_FAR, min(s.at, _FAR)),
                    word(s.type),
                    s.success,
                    word(s.person) if s.person else None,
                    word(s.workload) if s.workload else None,
                    word(s.rule) if s.rule else None,
                    s.path,
                    words,
                )
                rows.append(row)
                ids.append((_hash(s.id), event.index))
                if s.request_id:
                    ids.append((_hash(s.request_id), event.index))
                counts[s.type] = counts.get(s.type, 0) + 1
            db.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            ids.sort()
            db.executemany("INSERT OR IGNORE INTO ids VALUES (?, ?)", ids)
            db.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?)", counts.items())
            self._remember(db, size=str(size))
            db.execute("COMMIT")
        except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
            self._words.clear()
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise _unavailable(error) from None
        self._counts = counts
        self._size = size

    def _word(self, text: str) -> int:
        number = self._words.get(text)
        if number is None:
            if len(self._words) >= _CACHED_WORDS:
                self._words.clear()
            self._db.execute("INSERT OR IGNORE INTO words (word) VALUES (?)", (text,))
            number = int(self._db.execute("SELECT id FROM words WHERE word = ?", (text,)).fetchone()[0])
            self._words[text] = number
        return number

    def find(self, query: Query) -> list[int]:
        clauses: list[str] = []
        values: list[object] = []

        def where(clause: str, *given: object) -> None:
            clauses.append(clause)
            values.extend(given)

        word = "(SELECT id FROM words WHERE word = ?)"
        if query.person is not None:
            where(f"person = {word}", query.person)
        if query.workload is not None:
            where(f"workload = {word}", query.workload)
        if query.type is not None and query.type.endswith("."):
            kinds = [kind for kind in self._counts if kind.startswith(query.type)]
            where("type IN (SELECT id FROM words WHERE word IN (SELECT value FROM json_each(?)))", json.dumps(kinds))
        elif query.type is not None:
            where(f"type = {word}", query.type)
        if query.rule is not None:
            where(f"rule = {word}", query.rule)
        if query.allowed is not None:
            where("success = ?", int(query.allowed))
        if query.since is not None:
            where("at >= ?", query.since)
        if query.until is not None:
            where("at < ?", query.until)
        if query.before is not None:
            where("idx < ?", query.before)
        if query.path is not None and query.path.endswith("*"):
            where("substr(path, 1, ?) = ?", len(query.path) - 1, query.path[:-1])
        elif query.path is not None:
            where("path = ?", query.path)
        if query.text is not None:
            where("(instr(lower(words), ?) OR instr(lower(path), ?))", query.text.lower(), query.text.lower())
        condition = f"WHERE {' AND '.join(clauses)} " if clauses else ""
        statement = f"SELECT idx FROM events {condition}ORDER BY idx DESC LIMIT ?"  # nosec B608
        deadline = time.monotonic() + _SECONDS
        self._db.set_progress_handler(lambda: time.monotonic() > deadline, 20_000)
        try:
            return [row[0] for row in self._db.execute(statement, (*values, query.limit))]
        except sqlite3.OperationalError as error:
            if "interrupt" in str(error):
                raise Unprocessable(
                    "search_too_broad", f"the search took more than {_SECONDS:g} s", "narrow it by time, person or type"
                ) from None
            raise _unavailable(error) from None
        except (sqlite3.Error, OverflowError) as error:
            raise _unavailable(error) from None
        finally:
            self._db.set_progress_handler(None, 0)

    def locate(self, id: str) -> list[int]:
        try:
            rows = self._db.execute("SELECT idx FROM ids WHERE hash = ? ORDER BY idx LIMIT 100", (_hash(id),))
            return [row[0] for row in rows]
        except sqlite3.Error as error:
            raise _unavailable(error) from None

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._remember(self._db, clean="1")
        self._db.close()


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable("search_unavailable", f"the search index failed: {error}", "it is built again from the log")
