"""What identity passes on to other hosts: the word of whichever instance of people is to be heard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support import short_directory

from rempart.kernel.errors import BadInput, Unavailable
from rempart.servers import identity_hosts
from rempart.servers.identity_hosts import LocalEnforcement


@asynccontextmanager
async def instance(path: Path, *lines: dict[str, Any]) -> AsyncIterator[list[bytes]]:
    """An instance of people that says these lines to each follower, then nothing; yields what it was asked."""
    asked: list[bytes] = []
    waiting: list[asyncio.StreamWriter] = []

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        waiting.append(writer)
        writer.writelines(json.dumps(line).encode() + b"\n" for line in lines)

    async with await asyncio.start_unix_server(tell, path):
        yield asked
        for writer in waiting:
            writer.close()


def test_news_come_at_once_and_without_news_the_next_sign_of_life() -> None:
    first, second = {"run": "run_1", "seq": 4}, {"run": "run_1", "seq": 4, "epochs": []}

    async def scenario() -> None:
        with short_directory() as directory:
            async with instance(directory / "s", first, second):
                enforcement = LocalEnforcement("", [str(directory / "s")])
                assert json.loads(await enforcement.epochs(b"{}")) == first
                assert json.loads(await enforcement.epochs(b'{"run":"run_1","seq":4}')) == second

    asyncio.run(scenario())


def test_an_instance_that_hangs_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_hosts, "SILENCE", 2.0)

    async def scenario() -> None:
        with short_directory() as directory:
            paths = [str(directory / name) for name in ("hangs", "gone", "lives")]
            async with instance(Path(paths[0])) as hung, instance(Path(paths[2]), {"run": "r", "seq": 1}) as lives:
                enforcement = LocalEnforcement("", paths)
                for _ in range(4):
                    await enforcement.epochs(b"{}")
                assert (len(hung), len(lives)) == (1, 4)

    asyncio.run(scenario())


@pytest.mark.parametrize(("position", "refusal"), [(b"{}", Unavailable), (b"[]", BadInput), (b'{"x":1}', BadInput)])
def test_nobody_to_ask_and_nonsense_are_told_apart(position: bytes, refusal: type[Exception]) -> None:
    async def scenario() -> None:
        await LocalEnforcement("", ["/nowhere"]).epochs(position)

    with pytest.raises(refusal):
        asyncio.run(scenario())


def test_however_many_wait_for_another_policy_the_pdp_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity_hosts, "FRESH", 3600.0)
    asked: list[int] = []

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.append(1)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        writer.close()

    async def scenario() -> None:
        with short_directory() as directory:
            path = str(directory / "s")
            async with await asyncio.start_unix_server(tell, path):
                enforcement = LocalEnforcement(path, [])
                told = await asyncio.gather(*(enforcement.policy() for _ in range(50)))
            assert set(told) == {b"{}"}
            assert len(asked) == 1
            gone = LocalEnforcement(path, [])
            with pytest.raises(Unavailable):
                await gone.policy()

    asyncio.run(scenario())
