"""A private Redis: real, on a unix socket in a directory of its own, gone afterwards."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from tests.support import eventually, short_directory

from rempart.backends.redis_server import RedisServer


@dataclass
class PrivateRedis:
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"unix://{self.directory}/redis.sock"

    def start(self) -> None:
        """With an append-only file: what it was told is there after a restart."""
        options = ("--port", "0", "--unixsocket", "redis.sock", "--save", "", "--appendonly", "yes",
                   "--appendfsync", "always", "--logfile", "redis.log", "--dir", str(self.directory))  # fmt: skip
        self.process = subprocess.Popen(["redis-server", *options], cwd=self.directory, stdout=subprocess.DEVNULL)

        def answers() -> bool:
            try:
                with redis.Redis.from_url(self.address) as client:
                    return bool(client.ping())
            except redis.RedisError:
                return False

        eventually(answers, within=10)

    def stop(self, how: int = signal.SIGKILL) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(10)
            self.process = None


@contextlib.contextmanager
def private_redis() -> Iterator[PrivateRedis]:
    """Skips the test where Redis isn't installed."""
    if shutil.which("redis-server") is None:
        pytest.skip("Redis is not installed (Debian: redis-server)")
    with short_directory("rd") as directory:
        server = PrivateRedis(directory)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextlib.asynccontextmanager
async def fresh_redis(address: str) -> AsyncIterator[RedisServer]:
    """The server with nothing in it."""
    with redis.Redis.from_url(address) as client:
        client.flushall()
    server = RedisServer(address)
    try:
        yield server
    finally:
        await server.close()
