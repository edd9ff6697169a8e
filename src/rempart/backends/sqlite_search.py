"""The audit trail's search index in SQLite. Trusted for nothing: what it finds is read from the Merkle log.

An event is a short document in a full-text index (FTS5): who, what and outcome are hashed words in one column, its
path and its free text stand in two others, so nothing that an outsider writes can look like a key. Posting lists are
intersected newest first, whatever is asked together. The index is cut into shards of SHARD events, each with the span
of its times: a broad search ends in the newest one, a search by time skips the others, and merging never touches more
than one. Nothing is synced: after a power cut it is built again from the log.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from queue import SimpleQueue

from rempart.audit.model import Indexed, Query
from rempart.kernel.errors import Unavailable, Unprocessable
from rempart.protocols.ocsf import Summary

SHARD = 1 << 17
_SCHEMA = """
CREATE TABLE events (idx INTEGER PRIMARY KEY, at INTEGER NOT NULL, path TEXT);
CREATE TABLE shards (number INTEGER PRIMARY KEY, earliest INTEGER NOT NULL, latest INTEGER NOT NULL);
CREATE TABLE counts (type TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
# Of each shard. Parts of a full-text index are merged sixteen at a time: measured, the cheapest to write.
_SHARD_SCHEMA = (
    """CREATE VIRTUAL TABLE shard_{0} USING fts5(
        key, path, words, content='', columnsize=0, detail=full, tokenize='unicode61 remove_diacritics 2')""",
    "INSERT INTO shard_{0} (shard_{0}, rank) VALUES ('automerge', 16)",
    "CREATE TABLE ids_{0} (hash INTEGER NOT NULL, idx INTEGER NOT NULL, PRIMARY KEY (hash, idx)) WITHOUT ROWID",
)
_PRAGMAS = (
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA cache_size=-32000; PRAGMA temp_store=MEMORY;"
    "PRAGMA wal_autocheckpoint=4000; PRAGMA trusted_schema=OFF;"
    "PRAGMA secure_delete=ON;"  # somebody's data may be why it is thrown away
)
_VERSION = "3"
_CACHED_KEYS = 50_000
_LOCATED = 100
_LONGEST = 1024  # characters of a path or of free text that are indexed
_FAR = 2**62  # a time is whatever the process that made the event said
_SECONDS = 3.0  # that one search may take
_CROWDED_SECONDS = 0.5  # while somebody else waits
READERS = 2
_WORD = re.compile(r"[^\W_]")


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big", signed=True)


def _key(field: str, value: str) -> str:
    """One word of the column `key`: `field` is a letter."""
    return field + blake2b(value.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _keys_of(key: Callable[[str, str], str], event: Summary) -> str:
    type = event.type
    keys = [key("t", type), "d1" if event.success else "d0"]
    if "." in type:
        keys.append(key("g", type.partition(".")[0] + "."))
    if event.person:
        keys.append(key("p", event.person))
    if event.workload:
        keys.append(key("w", event.workload))
    if event.rule:
        keys.append(key("r", event.rule))
    return " ".join(keys)


def _boot_id() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


class SqliteSearch:
    """Implements `audit.ports.SearchIndex`. `log_id` is the log it belongs to: another log's index is dropped.

    `find` has connections of its own: it may run in READERS other threads, beside the other methods.
    """

    def __init__(self, path: Path, log_id: str) -> None:
        self._path = path
        self._log_id = log_id
        self._closing = False
        self._key = lru_cache(_CACHED_KEYS)(_key)
        try:
            self._db = self._open()
        except sqlite3.Error:
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            try:
                self._db = self._open()
            except sqlite3.Error as error:
                raise _unavailable(error) from None
        self._readers = [sqlite3.connect(path, isolation_level=None, check_same_thread=False) for _ in range(READERS)]
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        for reader in self._readers:
            reader.executescript("PRAGMA query_only=ON; PRAGMA cache_size=-32000; PRAGMA temp_store=MEMORY;")
            self._idle.put(reader)

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            db.executescript(_PRAGMAS)
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
            spans = db.execute("SELECT number, earliest, latest FROM shards")
            self._spans: dict[int, tuple[int, int]] = {number: (first, last) for number, first, last in spans}
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

    # -- adding ------------------------------------------------------------------------------------------------------

    def add(self, events: Sequence[Indexed], size: int) -> None:
        counts, spans = dict(self._counts), dict(self._spans)
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            for number, part in _by_shard(events):
                self._add(number, part, counts, spans)
            db.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?)", counts.items())
            self._remember(db, size=str(size))
            db.execute("COMMIT")
        except (sqlite3.Error, OverflowError, UnicodeEncodeError) as error:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise _unavailable(error) from None
        self._counts, self._spans, self._size = counts, spans, size

    def _add(
        self, number: int, events: Sequence[Indexed], counts: dict[str, int], spans: dict[int, tuple[int, int]]
    ) -> None:
        rows, documents, ids = [], [], []
        earliest, latest = spans.get(number, (_FAR, -_FAR))
        key = self._key
        for event in events:
            s, index = event.summary, event.index
            at = max(-_FAR, min(s.at, _FAR))
            earliest, latest = min(earliest, at), max(latest, at)
            path = s.path[:_LONGEST] if s.path else None
            words = (s.reason[:_LONGEST], s.ip, s.source, s.service, s.role, s.operator, s.method)
            rows.append((index, at, path))
            documents.append((index, _keys_of(key, s), path, "\n".join([word for word in words if word])))
            ids.append((_hash(s.id), index))
            if s.request_id:
                ids.append((_hash(s.request_id), index))
            counts[s.type] = counts.get(s.type, 0) + 1
        db = self._db
        if number not in spans:
            for statement in _SHARD_SCHEMA:
                db.execute(statement.format(number))
        db.executemany("INSERT INTO events VALUES (?, ?, ?)", rows)
        db.executemany(f"INSERT INTO shard_{number} (rowid, key, path, words) VALUES (?, ?, ?, ?)", documents)  # nosec B608 - a number
        ids.sort()
        db.executemany(f"INSERT OR IGNORE INTO ids_{number} VALUES (?, ?)", ids)  # nosec B608 - a number
        db.execute("INSERT OR REPLACE INTO shards VALUES (?, ?, ?)", (number, earliest, latest))
        spans[number] = (earliest, latest)

    # -- finding -----------------------------------------------------------------------------------------------------

    def find(self, query: Query, crowded: Callable[[], bool] = lambda: False) -> list[int]:
        asked = _expression(query)
        if asked is None:
            return []
        started = time.monotonic()

        def too_long() -> bool:
            spent = time.monotonic() - started
            return spent > _SECONDS or (spent > _CROWDED_SECONDS and crowded()) or self._closing

        reader = self._idle.get()
        try:
            reader.set_progress_handler(too_long, 20_000)
            return self._find(reader, query, asked)
        except sqlite3.OperationalError as error:
            if "interrupt" in str(error) and not self._closing:
                spent = time.monotonic() - started
                why = f"the search took more than {min(spent, _SECONDS):.1f} s"
                why += "" if spent > _SECONDS else " while others wait"
                raise Unprocessable("search_too_broad", why, "narrow it by time, person or type") from None
            raise _unavailable(error) from None
        except (sqlite3.Error, OverflowError) as error:
            raise _unavailable(error) from None
        finally:
            self._idle.put(reader)

    def _find(self, reader: sqlite3.Connection, query: Query, asked: str) -> list[int]:
        spans = self._spans
        found: list[int] = []
        for number in sorted(spans, reverse=True):
            if len(found) == query.limit:
                break
            if query.before is not None and number * SHARD >= query.before:
                continue
            if query.after is not None and (number + 1) * SHARD <= query.after:
                break
            earliest, latest = spans[number]
            if (query.since is not None and latest < query.since) or (
                query.until is not None and earliest >= query.until
            ):
                continue
            statement, values = _statement(number, asked, query)
            found += [row[0] for row in reader.execute(statement, (*values, query.limit - len(found)))]
        return found

    @contextmanager
    def _nobody_searches(self) -> Iterator[None]:
        """Ends the searches that run, and lets none begin."""
        self._closing = True
        try:
            idle = [self._idle.get() for _ in self._readers]
        finally:
            self._closing = False
        try:
            yield
        finally:
            for reader in idle:
                self._idle.put(reader)

    def locate(self, id: str) -> list[int]:
        found: list[int] = []
        hashed = _hash(id)
        try:
            for number in sorted(self._spans):
                statement = f"SELECT idx FROM ids_{number} WHERE hash = ? ORDER BY idx LIMIT ?"  # nosec B608 - a number
                found += [row[0] for row in self._db.execute(statement, (hashed, _LOCATED - len(found)))]
                if len(found) == _LOCATED:
                    break
            return found
        except sqlite3.Error as error:
            raise _unavailable(error) from None

    def clear(self) -> None:
        try:
            with self._nobody_searches():
                self._db.execute("BEGIN IMMEDIATE")
                for number in self._spans:
                    self._db.execute(f"DROP TABLE shard_{number}")
                    self._db.execute(f"DROP TABLE ids_{number}")
                for table in ("events", "shards", "counts"):
                    self._db.execute(f"DELETE FROM {table}")  # nosec B608 - the names above
                self._remember(self._db, size="0")
                self._db.execute("COMMIT")
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")
            raise _unavailable(error) from None
        self._counts, self._spans, self._size = {}, {}, 0

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._remember(self._db, clean="1")
        self._db.close()
        with self._nobody_searches():
            for reader in self._readers:
                reader.close()


def _by_shard(events: Sequence[Indexed]) -> Iterator[tuple[int, Sequence[Indexed]]]:
    start = 0
    while start < len(events):
        number = events[start].index // SHARD
        end = start
        while end < len(events) and events[end].index // SHARD == number:
            end += 1
        yield number, events[start:end]
        start = end


def _expression(query: Query) -> str | None:
    """What to ask the full-text index, empty for everything; None when nothing can be found."""
    parts = []
    for field, value in (("p", query.person), ("w", query.workload), ("r", query.rule)):
        if value is not None:
            parts.append(f"key:{_key(field, value)}")
    if query.type is not None:
        parts.append(f"key:{_key('g' if query.type.endswith('.') else 't', query.type)}")
    if query.allowed is not None:
        parts.append("key:d1" if query.allowed else "key:d0")
    if query.path is not None:
        path = query.path[:_LONGEST].removesuffix("*")
        if _WORD.search(path):
            parts.append(f"path:^{_phrase(path)}{'*' if query.path.endswith('*') and path[-1].isalnum() else ''}")
    if query.text is not None:
        for word in query.text.split():
            if not _WORD.search(word):
                return None
            parts.append(f"{{path words}}:{_phrase(word)}{'*' if word.endswith('*') else ''}")
    return " AND ".join(parts)


def _phrase(text: str) -> str:
    """Whatever stands in it is taken as words, one behind the other."""
    return '"' + _text(text.replace('"', " ").replace("\0", " ")) + '"'


def _text(text: str) -> str:
    """Half of a surrogate pair is in no event."""
    return text.encode("utf-8", "replace").decode()


def _statement(number: int, asked: str, query: Query) -> tuple[str, list[object]]:
    """The search of one shard, but for its limit. Times and the exact path are compared with the row."""
    table = f"shard_{number}"
    by_row: list[tuple[str, object]] = []
    if query.since is not None:
        by_row.append(("at >= ?", query.since))
    if query.until is not None:
        by_row.append(("at < ?", query.until))
    if query.path is not None and query.path.endswith("*"):
        start = _text(query.path[:-1][:_LONGEST])
        by_row.append((f"substr(path, 1, {len(start)}) = ?", start))
    elif query.path is not None:
        by_row.append(("path = ?", _text(query.path[:_LONGEST])))
    first = max(number * SHARD, query.after or 0)
    last = (number + 1) * SHARD if query.before is None else min((number + 1) * SHARD, query.before)
    values: list[object] = []
    if asked:
        clauses = [f"{table} MATCH ?", "rowid >= ?", "rowid < ?"]
        values += [asked, first, last]
        if by_row:
            row = f"SELECT 1 FROM events WHERE idx = {table}.rowid AND {_and(by_row)}"  # nosec B608 - our own words
            clauses.append(f"EXISTS ({row})")
        source = f"{table} WHERE {' AND '.join(clauses)} ORDER BY rowid"
    else:
        clauses = ["idx >= ?", "idx < ?", *(clause for clause, _ in by_row)]
        values += [first, last]
        source = f"events WHERE {' AND '.join(clauses)} ORDER BY idx"
    values += [value for _, value in by_row]
    return f"SELECT rowid FROM {source} DESC LIMIT ?", values  # nosec B608 - our own words


def _and(clauses: Sequence[tuple[str, object]]) -> str:
    return " AND ".join(clause for clause, _ in clauses)


def _unavailable(error: Exception) -> Unavailable:
    return Unavailable("search_unavailable", f"the search index failed: {error}", "it is built again from the log")
