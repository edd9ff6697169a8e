"""What every LogStorage must do, and the log on each: a crash leaves the old or the new, one writer at a time."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from tests.postgres import postgres
from tests.s3_server import s3_log, s3_server
from tests.support_audit import SIGNER

from rempart.audit.log import MerkleLog
from rempart.audit.monitor import LogFiles, Memory, Monitor
from rempart.audit.reader import Cursor
from rempart.audit.storage import DirectoryStorage, LogStorage
from rempart.audit.verifier import Key
from rempart.audit.whole_log import verify_log
from rempart.backends.postgres_log import PostgresLog
from rempart.crypto.signing import verify_ed25519
from rempart.kernel.errors import Conflict, Integrity, RempartError, Unavailable

Open = Callable[[], LogStorage]
CURSOR = Cursor(1, 128, 0, "")
S3 = pytest.param(
    "s3", marks=[pytest.mark.interop, pytest.mark.timeout(900)]
)  # it is built with Go, which takes minutes
_numbers = itertools.count()


@pytest.fixture(scope="module")
def conninfo() -> Iterator[str]:
    with postgres() as found:
        yield found


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("tools")) as found:
        yield found


@pytest.fixture(params=["directory", "postgres", S3])
def open_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """The same log each time."""
    opened: list[LogStorage] = []
    prefix = f"log{next(_numbers)}/"

    def storage() -> LogStorage:
        if request.param == "directory":
            return DirectoryStorage(tmp_path / "log", tmp_path / "state")
        if request.param == "s3":
            return s3_log(request.getfixturevalue("endpoint"), prefix)
        return PostgresLog(request.getfixturevalue("conninfo"))

    def open_one() -> LogStorage:
        opened.append(storage())
        return opened[-1]

    if request.param == "postgres":
        with psycopg.connect(request.getfixturevalue("conninfo"), autocommit=True) as db:
            db.execute("DROP TABLE IF EXISTS rempart_log_file, rempart_log_state")
    yield open_one
    for one in opened:
        one.close()


def entries(start: int, end: int) -> list[bytes]:
    return [b"entry %d" % n for n in range(start, end)]


def verified(storage: LogFiles) -> int:
    """How many events somebody reads who trusts nothing."""
    look = Monitor(storage, Memory([SIGNER.verifier_key]), verify_ed25519).look(0.0)
    assert look.findings == []
    return look.size


class Reader:
    """Implements `LogFiles` over a storage."""

    def __init__(self, storage: LogStorage) -> None:
        self.fetch = storage.read


def test_files_come_back_and_are_listed_and_deleted(open_storage: Open) -> None:
    storage = open_storage()
    names = ["tile/0/000", "tile/0/000.p/7", "tile/0/x001/234", "tile/entries/000.p/200"]
    data = {name: os.urandom(500) for name in names}
    storage.write(list(data.items()))
    assert {name: storage.read(name) for name in names} == data
    assert storage.read("tile/0/001") is None
    assert sorted(storage.names("tile/")) == sorted(names)
    assert list(storage.names("tile/0/000.p/")) == ["tile/0/000.p/7"]
    assert list(storage.names("tile/9/")) == []
    storage.delete(["tile/0/000.p/7", "tile/0/nothing"])
    assert sorted(storage.names("tile/0/")) == ["tile/0/000", "tile/0/x001/234"]


def test_state_and_checkpoint_are_replaced_and_outlive_the_process(open_storage: Open) -> None:
    storage = open_storage()
    assert storage.load_state() is None
    for state in (b"one", b"two", b"three"):
        storage.save_state(state)
        assert storage.load_state() == state
        storage.replace("checkpoint", b"note " + state, durable=False)
    storage.close()
    again = open_storage()
    assert (again.load_state(), again.read("checkpoint")) == (b"three", b"note three")


def test_a_log_grows_reopens_and_verifies(open_storage: Open) -> None:
    storage = open_storage()
    log = MerkleLog(storage, SIGNER)
    for step in (1, 200, 56, 600, 3):
        log.integrate(entries(log.size, log.size + step), {"pdp": CURSOR})
    assert verified(Reader(storage)) == 860
    root = log.root
    storage.close()
    again = MerkleLog(open_storage(), SIGNER)
    assert (again.size, again.root, again.cursors["pdp"]) == (860, root, CURSOR)
    assert again.entry(700) == b"entry 700"
    again.integrate(entries(860, 900), {})
    assert verified(Reader(again.storage)) == 900


def changed(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("name", ["tile/0/000", "tile/1/000.p/3", "tile/entries/001", "tile/entries/003.p/132"])
def test_a_whole_log_is_verified_where_it_is_kept(open_storage: Open, name: str) -> None:
    """Everything is recomputed by code that shares nothing with what wrote it."""
    key = Key.parse(SIGNER.verifier_key)
    storage = open_storage()
    log = MerkleLog(storage, SIGNER)
    for step in (200, 500, 200):
        log.integrate(entries(log.size, log.size + step), {})
    log.publish()
    report = verify_log(storage, key, verify_ed25519)
    assert (report.problems, report.size, report.root) == ([], 900, log.root)

    right = storage.read(name)
    assert right is not None
    storage.replace(name, changed(right))
    assert verify_log(storage, key, verify_ed25519).problems
    storage.delete([name])
    assert f"{name}: missing" in verify_log(storage, key, verify_ed25519).problems
    storage.replace(name, right)
    storage.replace("tile/0/odd", b"")
    assert verify_log(storage, key, verify_ed25519).problems == ["tile/0/odd: is no part of a log"]
    storage.delete(["tile/0/odd", "checkpoint"])
    assert not verify_log(storage, key, verify_ed25519).ok


def test_what_a_killed_writer_left_is_removed_and_does_not_count(open_storage: Open) -> None:
    storage = open_storage()
    log = MerkleLog(storage, SIGNER)
    log.integrate(entries(0, 300), {})
    storage.write([("tile/0/000.p/99", b"torn"), ("tile/entries/001.p/50", b"torn"), ("tile/0/001", b"torn")])
    storage.close()
    again = MerkleLog(open_storage(), SIGNER)
    assert sorted(again.storage.names("tile/")) == [
        "tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/44",
    ]  # fmt: skip
    again.integrate([b"other %d" % n for n in range(300)], {})
    assert verified(Reader(again.storage)) == 600


def test_of_two_writers_only_one_commits(open_storage: Open) -> None:
    """The second is refused; where there are no locks the first is, as soon as the second has begun."""
    first = MerkleLog(open_storage(), SIGNER)
    first.integrate(entries(0, 10), {})
    try:
        second = MerkleLog(open_storage(), SIGNER)
    except Conflict:
        first.integrate(entries(10, 20), {})
        return
    with pytest.raises(Integrity) as fenced:
        first.integrate([b"of the first"], {})
    assert fenced.value.code in ("log_taken_over", "log_commit_unknown")
    second.integrate(entries(10, 20), {})
    assert verified(Reader(second.storage)) == 20


@pytest.mark.parametrize("taken", [False, True])
def test_a_broken_session_loses_no_commit_and_never_lets_two_commit(conninfo: str, taken: bool) -> None:
    with psycopg.connect(conninfo, autocommit=True) as db:
        db.execute("DROP TABLE IF EXISTS rempart_log_file, rempart_log_state")
        storage = PostgresLog(conninfo)
        log = MerkleLog(storage, SIGNER)
        log.integrate(entries(0, 300), {})
        db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rempart log'")
        if taken:
            second = PostgresLog(conninfo)
            MerkleLog(second, SIGNER).integrate(entries(300, 310), {})
            for _ in range(2):
                with pytest.raises(RempartError):
                    log.integrate([b"of the first"], {})
            second.close()
            with pytest.raises(Integrity) as fenced:
                log.integrate([b"of the first"], {})
            assert fenced.value.code == "log_taken_over", "the lock is free again, the state is another's"
        else:
            with pytest.raises(Unavailable):
                log.integrate(entries(300, 310), {})
            log.integrate(entries(300, 310), {})
        assert verified(Reader(storage)) == 310
        storage.close()
