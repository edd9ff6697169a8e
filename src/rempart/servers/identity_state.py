"""Where this server keeps entries and what it publishes: files of its own, or a database that several servers share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path

from rempart.backends import sql_entries, sql_servers
from rempart.backends.sql import Database
from rempart.backends.sql_entries import SqlEntries
from rempart.backends.sql_servers import SqlServers
from rempart.backends.sqlite_entries import SqliteEntryStore
from rempart.crypto import aead
from rempart.kernel.clock import Clock
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import Integrity, Unavailable
from rempart.kernel.event import Recorder
from rempart.kernel.ids import new_id
from rempart.wiring.workload_state import WorkloadState
from rempart.workloads.bundle_state import BundleState
from rempart.workloads.changes import Changes
from rempart.workloads.model import Entry
from rempart.workloads.ports import AdoptingStore
from rempart.workloads.registration import Registration
from rempart.workloads.shared_bundle import SharedBundle
from rempart.workloads.shared_registration import SharedRegistration

SCHEMA = (*sql_entries.SCHEMA, *sql_servers.SCHEMA)
_PURPOSE = "workloads"


@dataclass(frozen=True)
class IdentityState:
    """`follow`: what runs as long as the server does. `known_to_all` returns when every other server tells its
    workloads what this one publishes. `database`: what servers share; None: this one is alone."""

    bundle: AdoptingStore
    registration: Registration
    follow: Sequence[Callable[[], Coroutine[None, None, None]]]
    known_to_all: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]
    database: Database | None = None
    servers: SharedBundle | None = None


async def open_identity_state(
    settings: WorkloadState,
    data_dir: Path,
    key: bytes,
    *,
    trust_domain: str,
    fixed: Sequence[Entry],
    issuing_ttl: float,
    recorder: Recorder,
    clock: Clock,
    changes: Changes,
) -> IdentityState:
    """`key`: 32 bytes, this process's own. Raises Unavailable, Integrity."""
    if not settings.shared:
        return _alone(data_dir, key, trust_domain, fixed, recorder, clock, changes)
    from rempart.backends.postgres_sql import PostgresDatabase

    database = PostgresDatabase(settings.database)
    try:
        await database.ensure(SCHEMA)
        seal_key = aead.derive_key(bytes.fromhex(settings.shared_key), _PURPOSE)
        servers = SharedBundle(
            SqlServers(database),
            seal_key,
            _server_id(data_dir),
            vouches_for=issuing_ttl,
            recorder=recorder,
            clock=clock,
            announce=changes.announce,
        )
        await servers.open()
        registration = SharedRegistration(
            trust_domain, fixed, SqlEntries(database, seal_key), recorder, clock, changes.announce
        )
        await registration.refresh()
    except BaseException:
        await database.close()
        raise

    async def close() -> None:
        await servers.leave()
        await database.close()

    follow = (servers.keep_following, registration.keep_following)
    return IdentityState(servers, registration, follow, servers.told_to_all, close, database, servers)


def _alone(
    data_dir: Path,
    key: bytes,
    trust_domain: str,
    fixed: Sequence[Entry],
    recorder: Recorder,
    clock: Clock,
    changes: Changes,
) -> IdentityState:
    store = SqliteEntryStore(data_dir / "entries.sqlite")
    bundle = BundleState(data_dir / "bundle.sealed", key, clock)
    bundle.load()
    registration = Registration(trust_domain, fixed, store, recorder, clock, changes.announce)

    async def known() -> None:
        """Nobody else has to know."""

    async def close() -> None:
        await asyncio.to_thread(store.close)

    follow = (lambda: bundle.keep_expired_out(changes.announce),)
    return IdentityState(bundle, registration, follow, known, close)


def _server_id(data_dir: Path) -> str:
    """The same for ever, as long as the state directory is."""
    path = data_dir / "server-id"
    try:
        found = path.read_text("ascii").strip()
    except FileNotFoundError:
        found = new_id("server")
        try:
            replace_file(path, found.encode())
        except OSError as error:
            raise Unavailable("state_unwritable", f"{path.name} can't be written: {error.strerror}") from None
    except (OSError, UnicodeDecodeError):
        found = ""
    if not found.startswith("server_") or len(found) > 64:
        raise Integrity("server_id_broken", f"{path} does not hold this server's id", "restore it from a backup")
    return found
