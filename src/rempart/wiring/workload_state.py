"""Where identity keeps entries and what servers publish, as `[workloads]` of rempart.toml says: a file of this server's
own, or a PostgreSQL that several servers share. Passwords and the key as `people_state` says."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from .check import Reader
from .people_state import SQLITE, read_address, read_shared_key


class WorkloadState(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`database` is `sqlite` or an address with its password filled in; `shared_key` 64 hexadecimal digits with it."""

    database: str = SQLITE
    shared_key: str = ""

    @property
    def shared(self) -> bool:
        return self.database != SQLITE

    def __repr__(self) -> str:
        return f"WorkloadState(database={self.database.partition(':')[0]!r})"


def read_workload_state(workloads: Reader, environment: Mapping[str, str] = os.environ) -> WorkloadState:
    database = workloads.text("database", default=SQLITE)
    if database != SQLITE:
        database = read_address(workloads, "database", database, environment, ("postgresql",), SQLITE)
    key = read_shared_key(workloads, environment)
    if key and database == SQLITE:
        workloads.refuse("shared_key", "SQLite serves one server, which has a key of its own", "leave it out")
    if database not in (SQLITE, "") and not key and not workloads.failed("shared_key"):
        workloads.refuse(
            "shared_key",
            "who owns the database could add keys that everybody trusts",
            'write "${NAME}" and fill that with `openssl rand -hex 32`, the same for every server',
        )
    return WorkloadState(database=database, shared_key=key)
