"""Turns a freshly forked process into a confined one, then executes the program it was made for.

Run as `python -I -S launch.py FD`, the standard library only, so that it costs milliseconds. FD is a memory file with a
JSON document: `{"argv", "env", "cwd", "fds": [fd that becomes 3, 4, …], "parent": pid or 0, "umask", "ids": {"uid",
"gid", "groups"} or null, "low_port": bool, "view": {"state", "sees": [[path, writable]], "covers": [[directory,
[path kept]]]} or null}`.

What it does, in this order: a mount namespace in which the process sees only its own parts of the state directory
(and, of directories closed to its user, only the programs it needs, read-only); a user and group of its own, with no
capability left (but CAP_NET_BIND_SERVICE where `low_port` says that it listens below 1024); no new privileges; death
together with the supervisor; no core dumps; no descriptors but the listed ones.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import stat
import sys
from typing import Any

_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT = 1, 2, 4, 32
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 38, 47, 2
_CAPABILITY_VERSION_3, _CAP_NET_BIND_SERVICE = 0x20080522, 10
FAILED = 125

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, doing: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{doing}: {os.strerror(code)}")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    done = _libc.mount(
        source.encode(),
        target.encode(),
        kind.encode() if kind else None,
        ctypes.c_ulong(flags),
        data.encode() if data else None,
    )
    _check(done, f"mounting {target}")


def _bind(fd: int, target: str, writable: bool) -> None:
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        os.makedirs(target, 0o755, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
        if not os.path.exists(target):
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    _mount(f"/proc/self/fd/{fd}", target, None, _MS_BIND | _MS_REC)
    flags = _MS_BIND | _MS_REMOUNT | _MS_NOSUID | _MS_NODEV | (0 if writable else _MS_RDONLY)
    _mount("none", target, None, flags)
    os.close(fd)


def _enter_view(view: dict[str, Any]) -> None:
    os.umask(0o022)
    _check(_libc.unshare(_CLONE_NEWNS), "leaving the mount namespace")
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    # Everything that is kept is opened before anything is covered.
    seen = [(os.open(path, os.O_PATH), path, writable) for path, writable in view["sees"] if os.path.exists(path)]
    kept = [(directory, [(os.open(p, os.O_PATH), p) for p in paths]) for directory, paths in view["covers"]]
    for directory, paths in kept:
        _cover(directory)
        for fd, path in paths:
            _bind(fd, path, False)
    os.makedirs(view["state"], 0o755, exist_ok=True)
    _cover(view["state"])
    for fd, path, writable in seen:
        _bind(fd, path, writable)
    for directory in (*(directory for directory, _ in kept), view["state"]):
        _mount("none", directory, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)


def _cover(directory: str) -> None:
    _mount("tmpfs", directory, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755,size=256k")


def _place(fds: list[int]) -> None:
    """Make `fds` descriptors 3, 4, … and close all others."""
    import fcntl

    above = 3 + len(fds)
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, above) for fd in fds]
    for number, fd in enumerate(moved, 3):
        os.dup2(fd, number, inheritable=True)
    os.closerange(above, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _keep_only(capability: int) -> None:
    """Of all capabilities this one, over execve too (capabilities(7), "Ambient")."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    bit = 1 << capability
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)  # effective, permitted, inheritable; then the upper halves
    _check(_libc.capset(header, sets), "keeping one capability")
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0), "keeping one capability")


def _confine(spec: dict[str, Any]) -> None:
    if spec["view"]:
        _enter_view(spec["view"])
    if spec["ids"]:
        if spec["low_port"]:
            _check(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "keeping capabilities")
        os.setgroups(spec["ids"]["groups"])
        os.setresgid(spec["ids"]["gid"], spec["ids"]["gid"], spec["ids"]["gid"])
        os.setresuid(spec["ids"]["uid"], spec["ids"]["uid"], spec["ids"]["uid"])
        if spec["low_port"]:
            _keep_only(_CAP_NET_BIND_SERVICE)
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "giving up new privileges")
    if spec["parent"]:  # after the change of user, which clears it
        _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "tying life to the supervisor")
        if os.getppid() != spec["parent"]:
            raise OSError("the supervisor is gone")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(spec["umask"])


def main() -> None:
    fd = int(sys.argv[1])
    with os.fdopen(fd, "rb") as memory:
        memory.seek(0)
        spec = json.loads(memory.read())
    try:
        _confine(spec)
        try:
            os.chdir(spec["cwd"])
        except OSError:
            os.chdir("/")
        _place(spec["fds"])
        for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, a program expects the default
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        os.execve(spec["argv"][0], spec["argv"], spec["env"])  # nosec B606 - what this is for
    except OSError as error:
        print(f"launch: {spec['argv'][0]}: {error}", file=sys.stderr, flush=True)
        os._exit(FAILED)


if __name__ == "__main__":
    main()
