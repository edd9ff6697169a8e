"""`[workloads]`: a shared database with its key, and SPIRE with what it does itself."""

from __future__ import annotations

from typing import Any

import pytest

from rempart.wiring.check import Problems, Reader
from rempart.wiring.workload_settings import read_workloads
from rempart.wiring.workload_state import WorkloadState, read_workload_state

KEY = "5e" * 32
SPIRE = {"agent_socket": "/run/spire/agent.sock", "server_socket": "/run/spire/server.sock"}


def read_state(environment: dict[str, str] | None = None, **table: Any) -> tuple[WorkloadState, list[str]]:
    problems = Problems({})
    state = read_workload_state(Reader(table, ("workloads",), problems), environment or {})
    return state, [problem.reason for problem in problems.sorted()]


def read(tmp_path: Any, **table: Any) -> tuple[Any, list[str]]:
    problems = Problems({})
    reader = Reader(table, ("workloads",), problems)
    settings = read_workloads(reader, tmp_path, "bank.example")
    reader.no_more()
    return settings, [problem.reason for problem in problems.sorted()]


def test_a_shared_database_takes_password_and_key_from_the_environment() -> None:
    database = "postgresql://rempart:${PASS}@localhost/db"
    environment = {"PASS": "s p", "KEY": KEY}
    state, problems = read_state(environment, database=database, shared_key="${KEY}")
    assert not problems
    assert state == WorkloadState(database="postgresql://rempart:s%20p@localhost/db", shared_key=KEY)
    assert state.shared
    assert KEY not in repr(state)
    assert "s%20p" not in repr(state)
    assert not read_state()[0].shared


@pytest.mark.parametrize(
    "table",
    [
        {"database": "postgresql://localhost/db"},  # without a key whoever owns it adds keys
        {"database": "postgresql://a:plain@localhost/db", "shared_key": "${KEY}"},
        {"database": "postgresql://db.example/db?sslmode=require", "shared_key": "${KEY}"},
        {"database": "mysql://localhost/db", "shared_key": "${KEY}"},
        {"shared_key": "${KEY}"},  # SQLite serves one
        {"database": "postgresql://localhost/db", "shared_key": KEY},
        {"database": "postgresql://localhost/db", "shared_key": "${SHORT}"},
    ],
)
def test_what_is_unsafe_is_refused(table: dict[str, Any]) -> None:
    assert read_state({"KEY": KEY, "SHORT": "5e"}, **table)[1]


def test_spire_is_read(tmp_path: Any) -> None:
    parent = "spiffe://bank.example/host"
    settings, problems = read(tmp_path, backend="spire", spire={**SPIRE, "parent_id": parent})
    assert not problems
    assert (settings.spire.agent_socket, settings.spire.parent_id) == (SPIRE["agent_socket"], parent)
    assert read(tmp_path)[0].spire is None


@pytest.mark.parametrize(
    "table",
    [
        {"backend": "spire"},
        {"spire": SPIRE},
        {"backend": "vault"},
        {"backend": "spire", "spire": {**SPIRE, "agent_socket": "relative.sock"}},
        {"backend": "spire", "spire": {**SPIRE, "parent_id": "spiffe://other.example/host"}},
        {"backend": "spire", "spire": SPIRE, "public_url": "https://bank.example"},
        {"backend": "spire", "spire": SPIRE, "docker_socket": "/var/run/docker.sock"},
        {"backend": "spire", "spire": SPIRE, "upstream": {"cert": "a", "key": "b"}},
    ],
)
def test_what_makes_no_sense_beside_spire_is_refused(tmp_path: Any, table: dict[str, Any]) -> None:
    assert read(tmp_path, **table)[1]
