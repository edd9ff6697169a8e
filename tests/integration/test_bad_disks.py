"""A real PDP on real bad disks: one that the kernel makes read-only under it, and one whose syncs take long.

Read-only: ext4 on a loop device, remounted with `abort`, as the kernel does by itself when a disk fails: files that are
open for writing can't be written any more, either. Slow: `fdatasync` of the C library, put aside by LD_PRELOAD.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.integration.pdp_process import GATEWAY, PdpProcess, claims_header
from tests.support import short_directory
from tests.support_audit import SIGNER, journaled

from rempart.audit.journal import Journal
from rempart.audit.log import MerkleLog
from rempart.audit.sequencer import Sequencer
from rempart.audit.storage import DirectoryStorage
from rempart.backends.sqlite_search import SqliteSearch
from rempart.protocols.ocsf import decode_summary

SLOW = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int fdatasync(int fd) {
    usleep(100000);
    int count = open(getenv("SLOW_DISK_COUNT"), O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (count >= 0) { if (write(count, ".", 1) < 0) {} close(count); }
    return syscall(SYS_fdatasync, fd);
}
"""


@pytest.fixture
def base() -> Iterator[Path]:
    with short_directory() as directory:
        yield directory


class Disk:
    """48 MiB of ext4 in a file."""

    def __init__(self, directory: Path) -> None:
        self.image, self.top = directory / "image", directory / "disk"
        self.top.mkdir()
        with self.image.open("wb") as file:
            file.truncate(48 << 20)
        subprocess.run(["mkfs.ext4", "-q", str(self.image)], check=True)

    def mount(self) -> bool:
        return subprocess.run(["mount", "-o", "loop", str(self.image), str(self.top)], check=False).returncode == 0

    def fail(self) -> None:
        """As ext4 does when its disk answers with errors (ext4(5), `abort`)."""
        subprocess.run(["mount", "-o", "remount,abort", str(self.top)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.top)], check=True)


@pytest.fixture
def disk(base: Path) -> Iterator[Disk]:
    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        pytest.skip("only root may mount a disk, and mkfs.ext4 makes it")
    found = Disk(base)
    if not found.mount():
        pytest.skip("mounting by a loop device is not allowed here")
    yield found
    subprocess.run(["umount", "-l", str(found.top)], check=False)


def ask(pdp: PdpProcess, number: int) -> int:
    headers = {"x-rempart-peer": GATEWAY, "x-rempart-claims": claims_header(), "x-request-id": f"req-{number}"}
    return pdp.ask("wallet", "GET", "/wallet?user_id=acc_1", headers).status_code


def recorded(journal: Path) -> list[str]:
    """Request ids of the decisions in a journal."""
    summaries = [decode_summary(entry) for entry in journaled(journal)]
    return [one.request_id or "" for one in summaries if one.type == "decision"]


def test_a_disk_that_becomes_read_only_under_the_pdp_lets_nothing_pass_and_loses_nothing(
    disk: Disk, base: Path
) -> None:
    (disk.top / "journal").mkdir()
    (base / "journal").symlink_to(disk.top / "journal")
    pdp = PdpProcess(base)
    try:
        assert pdp.start(), pdp.errors()
        assert [ask(pdp, number) for number in range(5)] == [200] * 5
        disk.fail()
        assert [ask(pdp, number) for number in range(5, 10)] == [503] * 5
    finally:
        pdp.stop()
        pdp.close()
    disk.unmount()
    assert disk.mount()
    assert recorded(disk.top / "journal") == [f"req-{number}" for number in range(5)]

    again = PdpProcess(base_of(base))
    try:
        (again.base / "journal").symlink_to(disk.top / "journal")
        assert again.start(), again.errors()
        assert ask(again, 10) == 200
    finally:
        again.stop()
        again.close()
    assert recorded(disk.top / "journal") == [*(f"req-{number}" for number in range(5)), "req-10"]
    assert integrated(disk.top) == [*(f"req-{number}" for number in range(5)), "req-10"]


def base_of(base: Path) -> Path:
    """A directory for the same process started again."""
    again = base / "2"
    again.mkdir()
    return again


def integrated(top: Path) -> list[str]:
    """What a sequencer makes of the journal; it finds nothing damaged."""
    (top / "journals").mkdir()
    (top / "journal").rename(top / "journals" / "pdp")
    own = Journal(top / "journals" / "sequencer", "sequencer", segment_bytes=1 << 16)
    log = MerkleLog(DirectoryStorage(top / "log", top / "state"), SIGNER)
    sequencer = Sequencer(log, top / "journals", own, lambda: SqliteSearch(top / "search.db", "log"))
    while sequencer.cycle():
        pass
    assert sequencer.counts.alarms == 0
    summaries = [decode_summary(entry) for entry in log.entries(0, log.size)]
    sequencer.close()
    log.close()
    own.close()
    return [one.request_id or "" for one in summaries if one.type == "decision"]


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_on_a_slow_disk_many_decisions_wait_for_one_sync_and_each_is_on_disk(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync takes 100 ms: 64 questions of 16 askers share batches, and what was answered is there."""
    (base / "slow.c").write_text(SLOW)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(base / "slow.so"), str(base / "slow.c")], check=True)
    with monkeypatch.context() as slow:
        slow.setenv("LD_PRELOAD", str(base / "slow.so"))
        slow.setenv("SLOW_DISK_COUNT", str(base / "syncs"))
        pdp = PdpProcess(base)
        assert pdp.start(60), pdp.errors()
    try:
        before = (base / "syncs").stat().st_size
        with ThreadPoolExecutor(16) as askers:
            answers = list(askers.map(lambda number: ask(pdp, number), range(64)))
        assert answers == [200] * 64
        assert 0 < (base / "syncs").stat().st_size - before < 64
        assert set(recorded(base / "journal")) == {f"req-{number}" for number in range(64)}
    finally:
        pdp.stop()
        pdp.close()
