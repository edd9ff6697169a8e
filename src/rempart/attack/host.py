"""Attacks with a foot on the host: other users' access to sockets and files, and the log on disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess  # nosec B404 - runs only this file, as another user
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .model import SVID_REFUSED, Actor, Alert, Attack, Outcome, blocked, got_through, not_tried
from .scene import Scene
from .wire import Address, NoAnswer, ask

_NOBODY = 65534
# Runs as nobody: connects to every socket, reads every file that it is told; prints those it could.
_PROBE = """
import json, socket, sys
could = []
for path in json.load(sys.stdin):
    try:
        if path.endswith(".sock"):
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(path)
        else:
            open(path, "rb").read(1)
        could.append(path)
    except OSError:
        pass
print(json.dumps(could))
"""


def direct(id: str, title: str, tried: str, patterns: Sequence[str]) -> Attack:
    return Attack(
        id,
        Actor.INSIDER,
        title,
        tried + " as another user of the host",
        "permission denied",
        lambda s: _as_nobody(s, patterns),
    )


def attacks() -> Iterator[Attack]:
    yield direct(
        "E-socket-services", "Services past their sidecars", "connect to every service's socket", ("run/svc/*/*.sock",)
    )
    yield direct("E-socket-egress", "Somebody's way out", "connect to every egress socket", ("run/egress/*/*.sock",))
    yield direct(
        "E-socket-admin",
        "Administration",
        "connect to control, admin and supervisor sockets",
        ("run/control.sock", "run/supervisor.sock", "run/admin/*.sock"),
    )
    yield direct(
        "E-socket-pdp",
        "Decisions and Envoy's admin",
        "connect to PDP and Envoy sockets",
        ("run/pep/*.sock", "run/envoy/*/*.sock"),
    )
    yield direct("R-socket-events", "False events", "connect to the sockets that take events", ("run/events/*.sock",))
    yield direct(
        "I-socket-read",
        "Log, policies and metrics",
        "connect to the read-only sockets",
        ("run/audit.sock", "run/policies.sock", "run/metrics/*.sock"),
    )
    yield direct(
        "I-files",
        "Secrets on disk",
        "read keys, accounts, journals, databases and logs",
        ("secrets/*", "demo-accounts.json", "data/*/*", "data/*/*/*", "journals/*/*", "logs/*", "envoy/*"),
    )
    yield Attack(
        "E-tcp-services",
        Actor.INSIDER,
        "Services past their sidecars, over TCP",
        "GET without any certificate or token at the port of every service that listens on TCP",
        "no service listens on TCP",
        _tcp,
    )
    yield Attack(
        "I-keys-in-proc",
        Actor.INSIDER,
        "Keys in arguments and environment",
        "/proc/PID/cmdline of every process, for secrets",
        "none",
        _arguments,
    )
    yield Attack(
        "S-workload-api",
        Actor.INSIDER,
        "Workload API without an entry",
        "FetchX509SVID and FetchJWTSVID by a process that nobody registered",
        "PermissionDenied",
        _unregistered,
        Alert.SVIDS_DENIED,
    )
    for id, title, tried, tamper in _TAMPERINGS:
        yield Attack(
            f"R-log-{id}",
            Actor.INSIDER,
            title,
            f"{tried}, in a copy of the log",
            "the verifier finds it",
            lambda scene, tamper=tamper: tampered(scene, tamper),  # type: ignore[misc]  # mypy infers no default argument
        )


def _paths(state: Path, patterns: Sequence[str]) -> list[str]:
    return [str(path) for pattern in patterns for path in sorted(state.glob(pattern)) if not path.is_dir()]


def _as_nobody(scene: Scene, patterns: Sequence[str]) -> Outcome:
    state = scene.means.state
    if state is None:
        return not_tried("the state directory isn't known")
    if os.geteuid() != 0:
        return not_tried("only root can become another user to try this")
    paths = _paths(state, patterns)
    if not paths:
        return not_tried("there is none")
    done = subprocess.run(  # nosec B603 - our own interpreter and program
        [_interpreter(), "-I", "-c", _PROBE],
        input=json.dumps(paths),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        user=_NOBODY,
        group=_NOBODY,
        extra_groups=[],
        cwd="/",
    )
    try:
        could = json.loads(done.stdout)
    except ValueError:
        return not_tried(f"the probe didn't run: {done.stderr.strip()[-200:]}")
    if could:
        return got_through(f"could use {', '.join(str(Path(p).relative_to(state)) for p in could[:5])}")
    return blocked(f"{len(paths)} refused", "owners and modes", "permission denied by the kernel")


def _tcp(scene: Scene) -> Outcome:
    """Any local process can do this, so whatever HTTP answer comes back has passed no check of Rempart's."""
    ports = {name: address for name, address in scene.addresses.items() if address and not address.startswith("unix:")}
    if not ports:
        return not_tried("this application has no service that listens on TCP")
    for name, address in ports.items():
        host, _, port = address.rpartition(":")
        route = next((route for route, service in scene.routes.items() if service == name), "/")
        try:
            reply = ask(Address(host, int(port)), None, "GET", route)
        except NoAnswer:
            continue
        return got_through(
            f"{name} answered {reply.status} at {address} around its sidecar; remedy: `socket` instead of `port`"
        )
    return blocked(f"{len(ports)} ports without an HTTP answer", "the service itself", "connection refused or closed")


def _interpreter() -> str:
    """One that another user may execute: the system's when ours is in a closed directory."""
    return next((p for p in ("/usr/bin/python3", "/usr/local/bin/python3") if os.access(p, os.X_OK)), sys.executable)


def _arguments(scene: Scene) -> Outcome:
    state = scene.means.state
    if state is None:
        return not_tried("the state directory isn't known")
    key = state / "secrets" / "master.key"
    try:
        raw = key.read_bytes()
    except OSError:
        return not_tried("the master key can't be read for comparison")
    needles = {raw.strip(), raw.strip().hex().encode()} | {a.password.encode() for a in scene.accounts}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        for name in ("cmdline", "environ"):
            try:
                content = (entry / name).read_bytes()
            except OSError:
                continue
            if any(needle in content for needle in needles if len(needle) >= 8):
                return got_through(f"/proc/{entry.name}/{name} holds a secret")
    return blocked("no secret in any process's arguments or environment", "keys in memory files", "/proc")


def _unregistered(scene: Scene) -> Outcome:
    from rempart.kernel.errors import RempartError
    from rempart.sdk.spiffe import fetch_jwt_svid, fetch_x509_svids

    state = scene.means.state
    if state is None:
        return not_tried("the state directory isn't known")
    endpoint = f"unix://{state}/run/workload.sock"
    seen = []
    for fetch in (lambda: fetch_x509_svids(endpoint), lambda: fetch_jwt_svid("anybody", endpoint=endpoint)):
        try:
            fetch()
        except RempartError as refusal:
            seen.append(refusal.code)
        else:
            return got_through("an identity was given to this process")
    return blocked(", ".join(seen), "identity: attestation", SVID_REFUSED)


# -- the log ---------------------------------------------------------------------------------------------------------

Tamper = Callable[[Path], bool]


def tampered(scene: Scene, tamper: Tamper) -> Outcome:
    """`tamper` changes the copy and returns False when there is nothing of its kind to change."""
    state, verify = scene.means.state, scene.means.verify_log
    if state is None or verify is None:
        return not_tried("the log on disk isn't within reach")
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory) / "state"
        try:
            for _ in range(5):
                shutil.rmtree(copy, ignore_errors=True)
                copy_log(state, copy)
                sound = verify(copy)
                if sound.ok:
                    break  # a copy of a growing log may be of two moments
        except OSError as error:
            return not_tried(f"the log can't be copied: {error}")
        if not sound.ok:
            return not_tried(f"the copy itself doesn't verify: {sound.said}")
        if not tamper(copy / "data" / "sequencer" / "log"):
            return not_tried("the log is too short for this")
        found = verify(copy)
    if found.ok:
        return got_through("the verifier says that all is right")
    return blocked(found.said[:200], "Merkle log and signed checkpoint", "rempart audit verify")


COPIES = 10


def copy_log(state: Path, copy: Path) -> None:
    """What the verifier reads, and nothing secret. The log grows meanwhile: a part that is replaced is copied again."""
    for left in reversed(range(COPIES)):
        shutil.rmtree(copy, ignore_errors=True)
        try:
            shutil.copytree(state / "data" / "sequencer" / "log", copy / "data" / "sequencer" / "log")
            break
        except (shutil.Error, FileNotFoundError):
            if not left:
                raise
    for name in ("log.vkey", "state"):
        source = state / "data" / "sequencer" / name
        if source.exists():
            shutil.copy(source, copy / "data" / "sequencer" / name)


def _bundles(log: Path) -> list[Path]:
    return sorted((p for p in log.glob("tile/entries/**/*") if p.is_file()), key=lambda p: p.stat().st_mtime_ns)


def _hashes(log: Path) -> list[Path]:
    return sorted(p for p in log.glob("tile/[0-9]*/**/*") if p.is_file())


def _flip(paths: list[Path]) -> bool:
    if not paths:
        return False
    path = paths[-1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(data))
    return True


def _truncate(log: Path) -> bool:
    paths = _bundles(log)
    if not paths:
        return False
    data = paths[-1].read_bytes()
    paths[-1].chmod(0o600)
    paths[-1].write_bytes(data[: len(data) // 2])
    return True


def _delete(log: Path) -> bool:
    paths = _bundles(log)
    if not paths:
        return False
    paths[-1].unlink()
    return True


def _rewrite_word(log: Path) -> bool:
    """Another role, byte for byte of the same length."""
    for path in reversed(_bundles(log)):
        data = path.read_bytes()
        if b'"decision"' in data:
            path.chmod(0o600)
            path.write_bytes(data.replace(b'"decision"', b'"decisioN"', 1))
            return True
    return False


def _resign(log: Path) -> bool:
    """A smaller tree in the checkpoint, under the old signature."""
    path = log / "checkpoint"
    lines = path.read_bytes().split(b"\n")
    if len(lines) < 3 or not lines[1].isdigit() or int(lines[1]) < 2:
        return False
    lines[1] = str(int(lines[1]) - 1).encode()
    path.chmod(0o600)
    path.write_bytes(b"\n".join(lines))
    return True


def _swap(log: Path) -> bool:
    """Two events change places."""
    for path in _bundles(log):
        data = path.read_bytes()
        first = 2 + int.from_bytes(data[:2], "big")
        second = first + 2 + int.from_bytes(data[first : first + 2], "big")
        if second <= len(data) and first < second and data[:first] != data[first:second]:
            path.chmod(0o600)
            path.write_bytes(data[first:second] + data[:first] + data[second:])
            return True
    return False


def _no_checkpoint(log: Path) -> bool:
    path = log / "checkpoint"
    if not path.exists():
        return False
    path.unlink()
    return True


_TAMPERINGS: Sequence[tuple[str, str, str, Tamper]] = (
    ("flip-event", "One bit of an event", "one bit flipped in the newest events", lambda log: _flip(_bundles(log))),
    ("flip-hash", "One bit of a hash", "one bit flipped in a tile of hashes", lambda log: _flip(_hashes(log))),
    ("rewrite", "A word rewritten", "a word of an event replaced by one as long", _rewrite_word),
    ("swap", "Two events swapped", "the order of two events changed", _swap),
    ("truncate", "The end cut off", "half of the newest events cut off", _truncate),
    ("delete", "Events deleted", "a file of events deleted", _delete),
    ("rewind", "A smaller tree", "the size in the checkpoint lowered by one", _resign),
    ("no-checkpoint", "No checkpoint", "the checkpoint deleted", _no_checkpoint),
)
