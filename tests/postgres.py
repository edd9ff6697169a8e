"""A private PostgreSQL: real, on a unix socket in a directory of its own, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from tests.support import eventually, short_directory

from rempart.backends.postgres_sql import PostgresDatabase


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[4]))
    return found[-1].parent if found else None


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Yields a conninfo; skips the test where PostgreSQL isn't installed. Under root it runs as `postgres`."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    with short_directory("pg") as directory:
        directory.chmod(0o711)  # services under other users reach the socket; the data directory stays closed
        as_user: list[str] = []
        user = "postgres"
        if os.geteuid() == 0:
            shutil.chown(directory, "postgres")
            as_user = ["runuser", "-u", "postgres", "--"]
        data = directory / "data"
        subprocess.run(
            [*as_user, str(programs / "initdb"), "-D", str(data), "-U", user, "-A", "trust", "-N", "-E", "UTF8"],
            check=True,
            capture_output=True,
        )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(directory),
            "max_connections": "40",
            "shared_buffers": "16MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with open(directory / "log", "wb") as log:
            server = subprocess.Popen(
                [*as_user, str(programs / "postgres"), "-D", str(data), *options], stdout=log, stderr=log, cwd="/"
            )
        conninfo = f"host={directory} user={user} dbname=postgres"

        def answers() -> bool:
            assert server.poll() is None, (directory / "log").read_text()
            try:
                psycopg.connect(conninfo).close()
            except psycopg.OperationalError:
                return False
            return True

        try:
            eventually(answers, within=20)
            yield conninfo
        finally:
            pid = int((data / "postmaster.pid").read_text().split()[0])
            os.kill(pid, 3)  # immediate shutdown: nobody needs what is in it
            server.wait(20)


@contextlib.asynccontextmanager
async def fresh_postgres(conninfo: str) -> AsyncIterator[PostgresDatabase]:
    """The server's database with nothing in it."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("SET client_min_messages = error")
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    database = PostgresDatabase(conninfo)
    try:
        yield database
    finally:
        await database.close()
