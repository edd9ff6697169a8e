"""Where people keeps its state, as `[people]` of rempart.toml says: SQLite or PostgreSQL, in the database or Redis.

Several instances share both and `shared_key`. A password or key stands in no file: `${NAME}` takes it from the
environment of `rempart up`, and PostgreSQL's may come from PGPASSFILE.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qs, quote, urlsplit

import msgspec

from .catalog import MOST_INSTANCES
from .check import Reader

SQLITE, DATABASE = "sqlite", "database"
PROFILES = ("baseline", "fapi2")
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_WEAK_TLS = ("disable", "allow", "prefer", "require")  # none of them proves which server it is


class StateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Addresses with their passwords filled in; `shared_key` 64 hexadecimal digits, or empty: this instance's own.
    `instances` of people run on this host."""

    database: str = SQLITE
    sessions: str = DATABASE
    shared_key: str = ""
    instances: int = 1

    def __repr__(self) -> str:
        kinds = (self.database.partition(":")[0], self.sessions.partition(":")[0])
        return f"StateSettings(database={kinds[0]!r}, sessions={kinds[1]!r})"


def read_state(people: Reader, environment: Mapping[str, str] = os.environ) -> StateSettings:
    """`people` is the reader of the table `people`."""
    database, sessions = people.text("database", default=SQLITE), people.text("sessions", default=DATABASE)
    if database != SQLITE:
        database = read_address(people, "database", database, environment, ("postgresql",), SQLITE)
    if sessions != DATABASE:
        sessions = read_address(people, "sessions", sessions, environment, ("redis", "rediss", "unix"), DATABASE)
    shared_key = read_shared_key(people, environment)
    if shared_key and database == SQLITE:
        people.refuse("shared_key", "SQLite serves one instance, which has a key of its own", "leave it out")
    instances = people.number("instances", 1, at_most=MOST_INSTANCES)
    if instances > 1 and (database == SQLITE or not shared_key) and not people.failed("database", "shared_key"):
        people.refuse("instances", "several instances share a database and a key", "set database and shared_key")
    return StateSettings(database=database, sessions=sessions, shared_key=shared_key, instances=instances)


def read_profile(people: Reader) -> str:
    profile = people.text("security_profile", default=PROFILES[0])
    if profile not in PROFILES:
        people.refuse("security_profile", f"{profile[:40]!r} is none of them", "use " + " or ".join(PROFILES))
    return profile


def read_address(
    people: Reader, key: str, text: str, environment: Mapping[str, str], schemes: tuple[str, ...], other: str
) -> str:
    try:
        parts = urlsplit(text)
        password, _ = parts.password, parts.port
    except ValueError:
        parts, password = SplitResult("", "", "", "", ""), None
    if parts.scheme not in schemes:
        kinds = ", ".join(f"{scheme}://…" for scheme in schemes)
        people.refuse(key, f"{key} is no address of a store", f'write "{other}" or {kinds}')
        return ""
    _encrypted(people, key, parts)
    if password is None:
        if "${" in text:
            people.refuse(key, "only a password is taken from the environment", "write USER:${NAME}@HOST")
        return text
    reference = _REFERENCE.fullmatch(password)
    if reference is None:
        people.refuse(key, "a password may not stand in this file", "write USER:${NAME_OF_A_VARIABLE}@HOST")
        return ""
    secret = environment.get(reference[1], "")
    if not secret:
        people.refuse(key, f"the variable {reference[1]} is not set", "set it where `rempart up` runs")
    return text.replace(reference[0], quote(secret, safe=""), 1)


def _encrypted(people: Reader, key: str, parts: SplitResult) -> None:
    options = parse_qs(parts.query)
    for name in ("password", "ssl_cert_reqs", "ssl_check_hostname"):
        if name in options:
            people.refuse(key, f"{name} may not stand in an address", "leave it out; write USER:${NAME}@HOST")
    if parts.scheme == "unix" or _local(options.get("host", [parts.hostname])[0]):
        return
    if parts.scheme == "redis":
        people.refuse(key, "without TLS only a Redis on this host is used", "write rediss://…")
    mode = options.get("sslmode", ["verify-full"])[0]
    if parts.scheme == "postgresql" and mode in _WEAK_TLS:
        people.refuse(key, f"sslmode={mode} doesn't prove which server it is", "leave it out: verify-full is used")


def read_shared_key(people: Reader, environment: Mapping[str, str]) -> str:
    text = people.text("shared_key")
    if not text:
        return ""
    reference = _REFERENCE.fullmatch(text)
    if reference is None:
        people.refuse("shared_key", "a key may not stand in this file", 'write "${NAME_OF_A_VARIABLE}"')
        return ""
    key = environment.get(reference[1], "")
    if not re.fullmatch(r"[0-9a-f]{64}", key):
        people.refuse("shared_key", f"the variable {reference[1]} holds no key", "fill it with `openssl rand -hex 32`")
        return ""
    return key


def _local(host: str | None) -> bool:
    """None and a path, encoded or not, are unix sockets of libpq."""
    if not host or host.startswith(("%2f", "/")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
