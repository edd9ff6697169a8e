"""`[people]` of rempart.toml: where state is kept; no secret stands in the file, none is shown."""

from __future__ import annotations

from typing import Any

import pytest

from rempart.wiring.check import Problems, Reader
from rempart.wiring.people_state import StateSettings, read_profile, read_state

KEY = "ab" * 32
ENVIRONMENT = {"PG": "p@ss/w:rd", "REDIS": "r", "KEY": KEY, "EMPTY": "", "SHORT": "ab"}


def read(**people: Any) -> tuple[StateSettings, list[str]]:
    problems = Problems({})
    reader = Reader(people, ("people",), problems)
    state = read_state(reader, ENVIRONMENT)
    read_profile(reader)
    reader.no_more()
    return state, [f"{problem.reason} {problem.remedy}" for problem in problems.found]


def test_by_itself_everything_is_in_one_sqlite_file() -> None:
    assert read() == (StateSettings(database="sqlite", sessions="database", shared_key=""), [])


@pytest.mark.parametrize(
    ("database", "told"),
    [
        ("postgresql:///people", "postgresql:///people"),
        ("postgresql:///people?host=/run/postgresql", "postgresql:///people?host=/run/postgresql"),
        ("postgresql://%2Frun%2Fpostgresql/people", "postgresql://%2Frun%2Fpostgresql/people"),
        ("postgresql://app@db.internal/people", "postgresql://app@db.internal/people"),
        ("postgresql://app:${PG}@db.internal:5433/people?sslmode=verify-ca",
         "postgresql://app:p%40ss%2Fw%3Ard@db.internal:5433/people?sslmode=verify-ca"),
        ("postgresql://app@localhost/people?sslmode=disable", "postgresql://app@localhost/people?sslmode=disable"),
    ],
)  # fmt: skip
def test_a_database_that_can_be_used(database: str, told: str) -> None:
    state, problems = read(database=database)
    assert (state.database, problems) == (told, [])


@pytest.mark.parametrize(
    ("sessions", "told"),
    [
        ("redis://127.0.0.1:6380/1", "redis://127.0.0.1:6380/1"),
        ("redis://localhost", "redis://localhost"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("rediss://people:${REDIS}@cache.internal:6379/0", "rediss://people:r@cache.internal:6379/0"),
        ("rediss://:${REDIS}@cache.internal", "rediss://:r@cache.internal"),
    ],
)
def test_a_redis_that_can_be_used(sessions: str, told: str) -> None:
    state, problems = read(sessions=sessions)
    assert (state.sessions, problems) == (told, [])


@pytest.mark.parametrize(
    ("people", "why"),
    [
        ({"database": "mysql://db/people"}, "postgresql://"),
        ({"database": "/var/people.db"}, "no address of a store"),
        ({"database": "postgresql://app:secret@db.internal/people"}, "a password may not stand in this file"),
        ({"database": "postgresql://app:${PG}x@db.internal/people"}, "a password may not stand in this file"),
        ({"database": "postgresql://app@db.internal/people?password=x"}, "password may not stand in an address"),
        ({"database": "postgresql://app:${NONE}@db.internal/people"}, "NONE is not set"),
        ({"database": "postgresql://app:${EMPTY}@db.internal/people"}, "EMPTY is not set"),
        ({"database": "postgresql://${PG}@db.internal/people"}, "only a password"),
        ({"database": "postgresql://db.internal/people?sslmode=disable"}, "doesn't prove which server"),
        ({"database": "postgresql://db.internal/people?sslmode=require"}, "doesn't prove which server"),
        ({"database": "postgresql:///people?host=db.internal&sslmode=prefer"}, "doesn't prove which server"),
        ({"database": "postgresql://db:x/people"}, "no address of a store"),
        ({"database": 7}, "must be a string"),
        ({"sessions": "redis://cache.internal"}, "without TLS"),
        ({"sessions": "rediss://cache.internal?ssl_cert_reqs=none"}, "ssl_cert_reqs may not stand"),
        ({"sessions": "rediss://:word@cache.internal"}, "a password may not stand in this file"),
        ({"sessions": "memcached://cache"}, "redis://"),
        ({"shared_key": KEY, "database": "postgresql:///people"}, "a key may not stand in this file"),
        ({"shared_key": "${SHORT}", "database": "postgresql:///people"}, "openssl rand -hex 32"),
        ({"shared_key": "${KEY}"}, "SQLite serves one instance"),
        ({"security_profile": "fapi"}, "baseline or fapi2"),
        ({"databse": "sqlite"}, "did you mean 'database'?"),
    ],
)
def test_what_is_refused(people: dict[str, Any], why: str) -> None:
    _, problems = read(**people)
    assert any(why in problem for problem in problems), problems
    assert not any("secret" in problem or KEY in problem for problem in problems)


def test_no_secret_is_shown() -> None:
    state, problems = read(
        database="postgresql://app:${PG}@db.internal/people",
        sessions="rediss://:${REDIS}@cache.internal",
        shared_key="${KEY}",
    )
    assert problems == []
    assert state.shared_key == KEY
    assert repr(state) == "StateSettings(database='postgresql', sessions='rediss')"


def test_several_instances_share_a_database_and_a_key() -> None:
    shared = {"database": "postgresql:///people", "shared_key": "${KEY}"}
    state, problems = read(**shared, instances=3)
    assert (state.instances, problems) == (3, [])
    for wrong in ({}, {"database": "postgresql:///people"}, {**shared, "shared_key": "${EMPTY}"}):
        _, problems = read(**wrong, instances=2)
        assert problems
    for number in (0, 9, "2"):
        assert read(**shared, instances=number)[1]
