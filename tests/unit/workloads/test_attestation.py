"""Facts: what counts, what doesn't, and that slow callers hold up nobody."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from tests.unit.workloads.doubles import SigningSupervisor

from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import Denied
from rempart.workloads import process as process_module
from rempart.workloads.attestation import Attestor, unit_of
from rempart.workloads.model import Told
from rempart.workloads.process import Process, start_time_of
from rempart.workloads.supervisor_client import told as read_answer

SHA256 = {("unix", "sha256")}


def myself() -> Process:
    program = os.stat("/proc/self/exe")
    me = os.getpid()
    return Process(
        me, os.geteuid(), os.getegid(), os.pidfd_open(me), start_time_of(me), (program.st_dev, program.st_ino)
    )


def attest(attestor: Attestor, process: Process, *, hash_program: bool = False) -> set[str]:
    try:
        facts = asyncio.run(attestor.attest(process, wanted=SHA256 if hash_program else ()))
    finally:
        process.close()
    return {str(selector) for selector in facts.selectors}


def test_kernel_facts_of_this_process() -> None:
    found = attest(Attestor(SigningSupervisor(ManualClock())), myself(), hash_program=True)
    interpreter = os.path.realpath(sys.executable)
    digest = hashlib.sha256(Path(interpreter).read_bytes()).hexdigest()
    assert {f"unix:uid:{os.geteuid()}", f"unix:gid:{os.getegid()}"} <= found
    assert {f"unix:path:{interpreter}", f"unix:sha256:{digest}"} <= found
    assert not any(selector.startswith("supervisor:") for selector in found)


@pytest.mark.parametrize(("shift", "believed"), [(0, True), (1, False), (-1, False)])
def test_the_supervisor_is_believed_about_this_very_process_only(shift: int, believed: bool) -> None:
    supervisor = SigningSupervisor(ManualClock())
    supervisor.supervised = Told("wallet", "service", start_time_of(os.getpid()) + shift)
    assert ("supervisor:service:wallet" in attest(Attestor(supervisor), myself())) is believed


HELD = Told("", "", start_time_of(os.getpid()), (8, 15), "/opt/batch", "ab" * 32)


@pytest.mark.parametrize(
    ("told", "believed"),
    [
        (HELD, {"unix:path:/opt/batch", "unix:sha256:" + "ab" * 32}),
        (replace(HELD, start_time=1), set()),
        (replace(HELD, program=None), set()),
        (replace(HELD, path=None), {"unix:sha256:" + "ab" * 32}),
    ],
    ids=["told", "another-process", "program-unknown", "path-is-another-file"],
)
def test_a_program_that_identity_may_not_look_at_is_told_by_the_supervisor(told: Told, believed: set[str]) -> None:
    supervisor = SigningSupervisor(ManualClock())
    supervisor.supervised = told
    hidden = replace(myself(), program=None)
    with patch.object(process_module, "_program_of", return_value=None):
        found = attest(Attestor(supervisor), hidden, hash_program=True)
    assert {one for one in found if one.startswith(("unix:path", "unix:sha256", "supervisor"))} == believed


def test_what_identity_sees_itself_is_not_overruled() -> None:
    supervisor = SigningSupervisor(ManualClock())
    supervisor.supervised = HELD
    found = attest(Attestor(supervisor), myself(), hash_program=True)
    assert "unix:path:/opt/batch" not in found
    assert "unix:sha256:" + "ab" * 32 not in found


def test_a_program_that_changed_while_the_supervisor_looked_does_not_count() -> None:
    class Changing(SigningSupervisor):
        async def who(self, pid: int, *, hash_program: bool = False) -> Told | None:
            self.asked += 1
            return replace(HELD, program=(8, self.asked))

    hidden = replace(myself(), program=None)
    with patch.object(process_module, "_program_of", return_value=None):
        found = attest(Attestor(Changing(ManualClock())), hidden, hash_program=True)
    assert not any(one.startswith(("unix:path", "unix:sha256")) for one in found)


def test_who_became_another_program_since_it_connected_is_nobody_where_only_the_supervisor_can_tell() -> None:
    supervisor = SigningSupervisor(ManualClock())
    supervisor.supervised = HELD
    attestor = Attestor(supervisor)

    async def main() -> None:
        for program, accepted in ((HELD.program, True), ((8, 8), False)):
            hidden = replace(myself(), program=None, notes={})
            supervisor.supervised = HELD
            attestor.greet(hidden)
            await asyncio.sleep(0)  # its first look; it executes something else after that
            supervisor.supervised = replace(HELD, program=program)
            if accepted:
                await attestor.attest(hidden)
            else:
                with pytest.raises(Denied):
                    await attestor.attest(hidden)

    with patch.object(process_module, "_program_of", return_value=None):
        asyncio.run(main())


def test_whom_nobody_saw_when_it_connected_is_nobody() -> None:
    supervisor = SigningSupervisor(ManualClock())
    attestor = Attestor(supervisor)

    async def main() -> None:
        hidden = replace(myself(), program=None, notes={})
        supervisor.supervised = None
        greeting = attestor.greet(hidden)
        assert greeting is not None
        await greeting
        supervisor.supervised = HELD
        with pytest.raises(Denied):
            await attestor.attest(hidden)

    with patch.object(process_module, "_program_of", return_value=None):
        asyncio.run(main())


@pytest.mark.parametrize(
    ("answer", "understood"),
    [
        ({"name": None}, None),
        ({"name": None, "start_time": 5}, Told("", "", 5)),
        ({"name": "x", "kind": "root", "start_time": 5}, Told("", "", 5)),
        ({"name": "wallet", "kind": "service", "start_time": 5}, Told("wallet", "service", 5)),
        ({"start_time": 5, "exe": "/a"}, Told("", "", 5)),
        ({"start_time": 5, "program": [1, 2], "exe": "a", "sha256": "zz"}, Told("", "", 5, (1, 2))),
        (
            {"start_time": 5, "program": [1, 2], "exe": "/a", "sha256": "0" * 64},
            Told("", "", 5, (1, 2), "/a", "0" * 64),
        ),
        ({"error": "no"}, None),
    ],
)
def test_only_a_well_formed_answer_is_believed(answer: dict[str, object], understood: Told | None) -> None:
    assert read_answer(answer) == understood


def test_a_path_that_is_another_file_for_us_does_not_count(tmp_path: Path) -> None:
    """As from inside a mount namespace of its own: /proc says a path, and here something else is there."""
    process = myself()
    fake = tmp_path / str(process.pid)
    fake.mkdir()
    (fake / "exe").symlink_to("/bin/cat")
    (fake / "cgroup").write_text("0::/../escaped\n")
    found = attest(Attestor(SigningSupervisor(ManualClock()), str(tmp_path)), process)
    assert not any(selector.startswith(("unix:path", "unix:cgroup", "systemd")) for selector in found)


def test_a_caller_that_changed_while_facts_were_gathered_gets_nothing() -> None:
    process = replace(myself(), program=(1, 1))
    with pytest.raises(Denied):
        attest(Attestor(SigningSupervisor(ManualClock())), process)


def test_one_slow_caller_does_not_hold_up_another() -> None:
    async def main() -> None:
        supervisor = SigningSupervisor(ManualClock())
        supervisor.delay = asyncio.Event()
        attestor = Attestor(supervisor)
        slow = asyncio.create_task(attestor.attest(process))
        while not supervisor.asked:
            await asyncio.sleep(0)
        supervisor.delay, held = None, supervisor.delay
        await asyncio.wait_for(attestor.attest(process, wanted=SHA256), 5)
        assert not slow.done()
        held.set()
        await slow

    process = myself()
    asyncio.run(main())
    process.close()


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("/system.slice/wallet.service", "wallet.service"),
        ("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service"),
        ("/system.slice/wallet.service/delegated", "wallet.service"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/wallet.service", "user@1000.service"),
        ("/user.slice/user-1000.slice/session-2.scope", "session-2.scope"),
        ("/docker/abc/system.slice/wallet.service", None),
        ("/", None),
        ("/system.slice", None),
    ],
)
def test_a_user_can_not_name_a_cgroup_like_a_system_unit(cgroup: str, unit: str | None) -> None:
    assert unit_of(cgroup) == unit
