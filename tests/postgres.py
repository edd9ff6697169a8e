"""A private PostgreSQL: real, on a unix socket in a directory of its own, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from tests.support import eventually, short_directory

from rempart.backends.postgres_sql import PostgresDatabase


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[4]))
    return found[-1].parent if found else None


@dataclass
class PrivatePostgres:
    """Under root it runs as `postgres`. `directory` has a short path and is reachable for services of other users."""

    programs: Path
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def conninfo(self) -> str:
        return f"host={self.directory} user=postgres dbname=postgres"

    @property
    def _as_user(self) -> list[str]:
        return ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

    def create(self) -> None:
        self.directory.chmod(0o711)  # the socket is for all, the data directory stays closed
        if os.geteuid() == 0:
            shutil.chown(self.directory, "postgres")
        arguments = ["-D", str(self.directory / "data"), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"]
        subprocess.run([*self._as_user, str(self.programs / "initdb"), *arguments], check=True, capture_output=True)

    def start(self) -> None:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
            "max_connections": "40",
            "shared_buffers": "16MB",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [*self._as_user, str(self.programs / "postgres"), "-D", str(self.directory / "data"), *options]
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        eventually(self._answers, within=20)

    def stop(self) -> None:
        """At once, as a crash: what was committed is there at the next start."""
        if self.process is not None:
            os.kill(int((self.directory / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
            self.process.wait(20)
            self.process = None

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "log").read_text()
        try:
            psycopg.connect(self.conninfo).close()
        except psycopg.OperationalError:
            return False
        return True


@contextlib.contextmanager
def private_postgres() -> Iterator[PrivatePostgres]:
    """Skips the test where PostgreSQL isn't installed."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    with short_directory("pg") as directory:
        server = PrivatePostgres(programs, directory)
        try:
            server.create()
            server.start()
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Yields a conninfo."""
    with private_postgres() as server:
        yield server.conninfo


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
