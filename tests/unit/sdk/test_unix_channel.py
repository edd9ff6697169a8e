"""A backlog that is full is waited for."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from rempart.sdk.unix_channel import connected


def test_waits_for_room_in_the_backlog(tmp_path: Path) -> None:
    asyncio.run(_waits_for_room(tmp_path))


async def _waits_for_room(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(0)
        with await connected(path):
            waiting = asyncio.create_task(connected(path))
            done, _ = await asyncio.wait([waiting], timeout=0.1)
            assert not done
            first, _ = listening.accept()
            with first, await asyncio.wait_for(waiting, 10) as second:
                accepted, _ = listening.accept()
                with accepted:
                    second.send(b"1")
                    assert accepted.recv(1) == b"1"


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        asyncio.run(connected(str(tmp_path / "s")))
