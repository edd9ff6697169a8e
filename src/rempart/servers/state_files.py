"""The state directory: whose it is, who holds it, and what is remembered from start to start (`state.json`)."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pwd
import stat
import zlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import BadInput, RempartError, Unavailable

FIRST_UID, LAST_UID = 61184, 65519  # systemd's range for dynamic users: no distribution gives these to anybody
_ENOUGH_BYTES = 64 << 20


@dataclass(slots=True)
class Remembered:
    """`instance` marks this state's processes in their environment. `running` maps a name to [pid, start time]."""

    instance: str = field(default_factory=lambda: os.urandom(8).hex())
    trust_domain: str = ""
    app: str = ""
    ports: dict[str, int] = field(default_factory=dict)
    uids: dict[str, int] = field(default_factory=dict)
    running: dict[str, list[int]] = field(default_factory=dict)


def disk_error(error: OSError, doing: str) -> RempartError:
    """A full disk, a read-only one, missing rights: in words."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable("disk_full", f"{doing}: no space left on the device", "free some space, then start again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Unavailable("state_unwritable", f"{doing}: {error.strerror}", "name a writable directory with --state")
    return Unavailable("state_unusable", f"{doing}: {error.strerror}", "name another directory with --state")


def write_file(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Atomic and durable: the old content or the new, also after a power cut. Raises a RempartError."""
    try:
        replace_file(path, content, mode)
    except OSError as error:
        raise disk_error(error, f"writing {path}") from None


class StateDirectory:
    """Held by one supervisor at a time, by a lock that the kernel drops when it dies. `open` before anything else."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.remembered = Remembered()
        self.lock = -1

    def open(self) -> None:
        """Raises BadInput `foreign_state`, `not_a_state_directory`; Unavailable `already_up`, `disk_full`, …"""
        path = self.path
        fresh = not path.exists()
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            self._check_owner()
            if not fresh and not (path / "lock").exists() and any(path.iterdir()):
                raise BadInput(
                    "not_a_state_directory",
                    f"{path} holds other things than Rempart's state",
                    "name an empty or new directory with --state",
                )
            os.chmod(path, 0o700)
            self._take_lock()
        except FileNotFoundError:
            raise BadInput("no_parent", f"{path.parent} does not exist", "create it first, or name another") from None
        except OSError as error:
            raise disk_error(error, f"opening {path}") from None
        space = os.statvfs(path)
        if space.f_bavail * space.f_frsize < _ENOUGH_BYTES:
            raise Unavailable(
                "disk_full", f"less than {_ENOUGH_BYTES >> 20} MiB are free where {path} is", "free some space"
            )
        self._load()

    def _check_owner(self) -> None:
        facts = os.lstat(self.path)
        if not stat.S_ISDIR(facts.st_mode):
            raise BadInput("not_a_state_directory", f"{self.path} is no directory", "name another with --state")
        if facts.st_uid != os.geteuid():
            raise BadInput(
                "foreign_state",
                f"{self.path} belongs to user {facts.st_uid}, and this is user {os.geteuid()}",
                "run as its owner, or name another directory with --state",
            )

    def _take_lock(self) -> None:
        fd = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(fd, 32).decode(errors="replace").strip() or "another process"
            os.close(fd)
            raise Unavailable(
                "already_up",
                f"{self.path} is in use: `rempart up` runs there as process {holder}",
                "stop it with `rempart down`, or name another directory with --state",
            ) from None
        self.lock = fd
        self._claim()

    def take_over(self, lock: int, remembered: Remembered) -> None:
        """From the process that opened it, with the descriptor of its lock."""
        self.lock, self.remembered = lock, remembered
        self._claim()

    def _claim(self) -> None:
        """Write into the lock who holds it."""
        os.ftruncate(self.lock, 0)
        os.pwrite(self.lock, b"%d\n" % os.getpid(), 0)

    def close(self) -> None:
        if self.lock >= 0:
            os.ftruncate(self.lock, 0)
            os.close(self.lock)
            self.lock = -1

    def _load(self) -> None:
        file = self.path / "state.json"
        try:
            known = json.loads(file.read_bytes())
            self.remembered = Remembered(**known)
        except FileNotFoundError:
            return
        except (ValueError, TypeError):
            # Only conveniences are in it: ports are found again, owners set anew. The file is kept to be looked at.
            os.replace(file, file.with_suffix(".damaged"))
        except OSError as error:
            raise disk_error(error, f"reading {file}") from None

    def save(self) -> None:
        write_file(self.path / "state.json", json.dumps(asdict(self.remembered), indent=1).encode())

    def uid(self, name: str) -> int:
        """The numeric user of the process `name`: allocated once, then remembered. Never one that anybody else has."""
        known = self.remembered.uids
        if name in known:
            return known[name]
        taken = {entry.pw_uid for entry in pwd.getpwall()} | set(known.values()) | _uids_of_processes()
        span = LAST_UID - FIRST_UID + 1
        offset = zlib.crc32(str(self.path).encode()) % span  # two states on one host rarely meet
        for step in range(span):
            uid = FIRST_UID + (offset + step) % span
            if uid not in taken:
                known[name] = uid
                return uid
        raise Unavailable("no_free_uid", "every user id from 61184 to 65519 is taken", "run as an ordinary user")


def _uids_of_processes() -> set[int]:
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                found.add(os.stat(f"/proc/{entry}").st_uid)
    return found


def holder(path: Path) -> int | None:
    """The pid of the supervisor that holds the state directory, or None when nobody does."""
    try:
        fd = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(fd, 32).strip()
        return int(text) if text.isdigit() else 0
    else:
        return None
    finally:
        os.close(fd)
