"""The process that verifies for strangers during a flood: its answers, its class, its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rempart.crypto.passwords import Argon2id
from rempart.servers import hashing_aside
from rempart.servers.hashing_aside import HashingAside

PEPPERED = Argon2id(memory=64, passes=1, pepper=lambda version: bytes([version]) * 32, pepper_version=3)
PLAIN = Argon2id(memory=64, passes=1)


@contextlib.asynccontextmanager
async def started() -> AsyncIterator[HashingAside]:
    aside = HashingAside(2)
    try:
        await ready(aside)
        yield aside
    finally:
        await asyncio.to_thread(aside.close)


async def ready(aside: HashingAside) -> None:
    told = asyncio.Event()
    aside.start(told.set)
    aside.start(told.set)  # twice is once
    await asyncio.wait_for(told.wait(), 60)
    assert aside.ready


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def test_it_answers_as_the_hasher_does_without_its_pepper() -> None:
    async def scenario() -> None:
        async with started() as aside:
            for hasher in (PLAIN, PEPPERED):
                encoded = hasher.hash("pâss wörd")
                for password in ("pâss wörd", "pa\u0302ss wo\u0308rd", "wrong", "", "x" * 128):
                    question = hasher.without_pepper(password, encoded)
                    assert question is not None
                    assert await aside.verify(*question) is hasher.verify(password, encoded)
            assert await aside.verify("x", "no hash at all") is False
            right = PLAIN.hash("7")
            answers = await asyncio.gather(*(aside.verify(str(n), right) for n in range(40)))
            assert answers == [n == 7 for n in range(40)]

    asyncio.run(scenario())


def test_the_kernel_runs_it_only_when_nobody_else_wants_to() -> None:
    async def scenario() -> None:
        async with started() as aside:
            assert aside.pid is not None
            tasks = [int(task) for task in os.listdir(f"/proc/{aside.pid}/task")]
            assert len(tasks) == 3
            assert {os.sched_getscheduler(task) for task in tasks} == {os.SCHED_IDLE}
            pid = aside.pid
        assert gone(pid)

    asyncio.run(scenario())


def test_one_that_dies_answers_nothing_wrong_and_another_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing_aside, "_PAUSE", 0.0)

    async def scenario() -> None:
        async with started() as aside:
            first = aside.pid
            assert first is not None
            slow = Argon2id(memory=1 << 18, passes=8).hash("right")  # seconds: it dies while at it
            answers = [asyncio.create_task(aside.verify("right", slow)) for _ in range(4)]
            await asyncio.sleep(0)
            os.kill(first, signal.SIGKILL)
            assert await asyncio.gather(*answers) == [None] * 4
            assert not aside.ready
            assert await aside.verify("right", slow) is None
            while aside.pid == first or not aside.ready:  # the first try may find the dead one not yet gone
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await ready(aside)
            assert await aside.verify("right", PLAIN.hash("right")) is True
        assert gone(first)

    asyncio.run(scenario())


def test_it_ends_with_who_started_it() -> None:
    async def scenario() -> None:
        async with started() as aside:
            assert aside._socket is not None
            assert aside._process is not None
            aside._socket.shutdown(2)  # as the kernel does for a process that was killed
            assert await asyncio.to_thread(aside._process.wait, 60) == 0

    asyncio.run(scenario())


def test_what_it_can_not_read_ends_it_and_leaves_nobody_waiting() -> None:
    async def scenario() -> None:
        async with started() as aside:
            assert aside._socket is not None
            assert aside._process is not None
            aside._socket.send(b"\xc1")
            slow = Argon2id(memory=1 << 18, passes=8).hash("right")
            assert await aside.verify("right", slow) is None
            assert await asyncio.to_thread(aside._process.wait, 60) == 1

    asyncio.run(scenario())
