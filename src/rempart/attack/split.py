"""Attacks by whoever has the log's own key: what is signed is valid, and shown to one reader it isn't what another saw.

No verifier of a single copy can find that. A monitor elsewhere (`rempart audit monitor`) remembers what it was shown;
it is run here on a small log made for it.
"""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from rempart.crypto.signing import NoteSigner

from .model import Actor, Attack, Outcome, blocked, got_through, not_tried
from .scene import Scene

_ORIGIN = "attack.example/log"
_HONEST = tuple(b'{"event":%d}' % number for number in range(20))
_SPLITS: Sequence[tuple[str, str, str, Sequence[bytes]]] = (
    ("view", "Two histories", "another history of the same length", [*_HONEST[:10], *_HONEST[:10]]),
    ("rewind", "Back to before", "the log as it was before its last events", _HONEST[:12]),
    (
        "rewrite",
        "An old event rewritten",
        "a longer log in which an old event is another",
        [b"{}", *_HONEST[1:], b"{}"],
    ),
    ("omit", "An old event left out", "a longer log without one old event", [*_HONEST[:5], *_HONEST[6:], b"{}", b"{}"]),
)


def attacks() -> Iterator[Attack]:
    for id, title, tried, entries in _SPLITS:
        yield Attack(
            f"R-split-{id}",
            Actor.INSIDER,
            title,
            f"{tried}, signed with the log's key, is shown to a monitor that saw the honest one",
            "the monitor says that the log lied, and keeps both checkpoints as evidence",
            lambda scene, entries=entries: _shown(scene, entries),  # type: ignore[misc]  # mypy infers no default argument
        )


def _shown(scene: Scene, entries: Sequence[bytes]) -> Outcome:
    operator = scene.means.operator
    if operator is None:
        return not_tried("there is nobody who monitors")
    with tempfile.TemporaryDirectory() as directory:
        log, key, memory = (Path(directory, name) for name in ("log", "log.vkey", "memory"))
        signer = NoteSigner(_ORIGIN, os.urandom(32))
        key.write_text(signer.verifier_key + "\n")
        look = ["audit", "monitor", str(log), "--key", str(key), "--memory", str(memory), "--once"]
        _publish(log, signer, _HONEST)
        honest = operator(look, "")
        if not honest["ok"]:
            return not_tried(f"the honest log isn't believed: {honest}")
        _publish(log, signer, entries)
        try:
            told = str(operator(look, ""))
        except OSError:
            told = ""
        if told or not memory.with_name("memory.evidence").exists():
            return got_through(f"the monitor is content: {told[:200]}")
    return blocked(
        "the monitor says that the log lied", "what was seen is remembered elsewhere", "rempart audit monitor"
    )


def _publish(log: Path, signer: NoteSigner, entries: Sequence[bytes]) -> None:
    """As c2sp.org/tlog-tiles has it, for fewer than 256 entries."""
    shutil.rmtree(log, ignore_errors=True)
    hashes = [sha256(b"\0" + entry).digest() for entry in entries]
    bundle = b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)
    for level, data in (("0", b"".join(hashes)), ("entries", bundle)):
        path = log / "tile" / level / "000.p" / str(len(entries))
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
    root = base64.b64encode(_root(hashes)).decode()
    (log / "checkpoint").write_text(signer.sign(f"{_ORIGIN}\n{len(entries)}\n{root}\n"))


def _root(hashes: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1."""
    if len(hashes) == 1:
        return hashes[0]
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return sha256(b"\1" + _root(hashes[:half]) + _root(hashes[half:])).digest()
