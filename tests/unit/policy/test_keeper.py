"""The policy in force stays through whatever a change of it meets, and a change that met a bad moment comes later."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import Unavailable
from rempart.kernel.event import Event, EventType
from rempart.policy import keeper as module
from rempart.policy.admin import Pages
from rempart.policy.bundle import DEFAULT_ENTRYPOINT, load
from rempart.policy.decide import Deciding
from rempart.policy.keeper import Keeper, Source
from rempart.policy.model import Bundle, EvaluatorKind, Report
from rempart.protocols.http_pages import Ask

FIRST, SECOND = "package authz\n\ndecision := 1\n", "package authz\n\ndecision := 2\n"


class Prepared:
    kind: EvaluatorKind = "interpreter"
    fallbacks = 0

    def evaluate(self, input_json: str) -> str:
        return "null"


class Engine:
    def inspect(self, bundle: Bundle, given: Mapping[str, Any]) -> Report:
        return Report()

    def prepare(self, bundle: Bundle, given: Mapping[str, Any], kind: EvaluatorKind) -> Prepared:
        return Prepared()


class GoodTrial:
    async def run(self, bundle: Bundle, given: Mapping[str, Any]) -> Report:
        return Report()


class World:
    """A policy directory and the keeper of it; `full` fills the disk."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = self.unrecordable = False
        self.failed = 0
        self.file, self.used, self.events = path / "policy" / "authz.rego", list[str](), list[Event]()
        self.file.parent.mkdir()
        self.file.write_text(FIRST)
        real = module.replace_file

        def replace(*arguments: Any) -> None:
            if self.full:
                self.failed += 1
                raise OSError(errno.ENOSPC, "No space left on device")
            real(*arguments)

        monkeypatch.setattr(module, "replace_file", replace)
        monkeypatch.setattr(module, "POLL_SECONDS", 0.005)
        source = Source(self.file.parent, DEFAULT_ENTRYPOINT, {}, path / "data")
        self.keeper = Keeper(source, Engine(), GoodTrial(), self, ManualClock(), self._swap)

    async def record(self, event: Event) -> None:
        if self.unrecordable:
            self.failed += 1
            raise Unavailable("journal_unavailable", "the disk is full")
        self.events.append(event)

    def _swap(self, deciding: Deciding) -> None:
        self.used.append(deciding.version)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0.005)


def run(world: World, scenario: Callable[[], Any]) -> None:
    async def body() -> None:
        await world.keeper.start()
        watching = asyncio.create_task(world.keeper.watch())
        await scenario()
        assert not watching.done()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(body())


@pytest.mark.parametrize("trouble", ["full", "unrecordable"])
def test_a_change_on_a_full_disk_is_in_force_once_there_is_room(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path, monkeypatch)
    said: list[str] = []

    def refused() -> bool:
        said.extend(capsys.readouterr().err.splitlines())
        return any("the changed policy is refused" in line for line in said)

    async def scenario() -> None:
        setattr(world, trouble, True)
        world.file.write_text(SECOND)
        await world.until(refused)
        await world.until(lambda: world.failed >= 3)
        assert len(world.used) == 1
        setattr(world, trouble, False)
        await world.until(lambda: len(world.used) == 2)

    run(world, scenario)
    said.extend(capsys.readouterr().err.splitlines())
    assert sum("the changed policy is refused" in line for line in said) == 1
    assert [event.type for event in world.events] == [EventType.POLICY_LOADED] * 2
    assert world.used[0] != world.used[1]


def test_other_hosts_are_told_the_policy_in_force_which_is_written_out_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch)
    unused: Any = None
    pages = Pages(world.keeper, unused, unused, {})

    async def told() -> bytes:
        page = await pages.policies(Ask("GET", "/bundle"))
        assert page.status == 200
        return page.content

    async def scenario() -> None:
        first = await told()
        assert await told() is first
        world.file.write_text(SECOND)
        await world.until(lambda: len(world.used) == 2)
        second = await told()
        assert (load(first).files[0].text, load(second).files[0].text) == (FIRST, SECOND)

    run(world, scenario)
