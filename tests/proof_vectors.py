"""Proofs, right and wrong, and what every verifier must say of each. As a script it writes `tests/vectors/proofs.json`.

The tree is RFC 6962's definition written down as it stands, the note C2SP's; nothing of Rempart is used, so that what
is checked against these isn't checked against itself.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

FILE = Path(__file__).parent / "vectors" / "proofs.json"
ORIGIN = "log.example/audit"
SECRET = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"a key for test vectors only").digest())
OTHER = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"another key for test vectors").digest())
PAYLOADS = [
    json.dumps({"metadata": {"uid": f"evt_{n}"}, "n": n, "big": 2**60 + n, "half": 0.5, "text": 'é\u2028"\\'}).encode()
    for n in range(9)
]


def document() -> dict[str, Any]:
    return {
        "about": "Proofs of Rempart's audit log. `right` says what a verifier must answer for `proof` with `key`.",
        "key": _key(ORIGIN, SECRET),
        "cases": [{"name": name, "right": right, "proof": proof} for name, right, proof in _cases()],
    }


def _cases() -> Iterator[tuple[str, bool, Any]]:
    for size in range(1, len(PAYLOADS) + 1):
        for index in range(size):
            yield f"event {index} of {size}", True, _proof(index, size)
    good = _proof(4, 7)
    for name, change in _CHANGES.items():
        bad = copy.deepcopy(good)
        change(bad)
        yield name, False, bad
    extra = copy.deepcopy(good)
    extra["note"] = "members that nobody asked for change nothing"
    yield "an unknown member", True, extra
    several = copy.deepcopy(good)
    several["checkpoint"] += "\u2014 witness.example " + base64.b64encode(bytes(76)).decode() + "\n"
    yield "a cosignature of somebody unknown", True, several
    rotating = copy.deepcopy(good)
    newer = _checkpoint(7, _root(PAYLOADS[:7]), OTHER)
    rotating["checkpoint"] = newer + good["checkpoint"].rpartition("\n\n")[2]
    yield "a checkpoint that the log's next key signed as well", True, rotating
    for name, value in {"null": None, "a list": [], "a text": "proof", "nothing": {}}.items():
        yield f"no proof but {name}", False, value


def _proof(index: int, size: int) -> dict[str, Any]:
    payload = PAYLOADS[index]
    return {
        "format": "rempart-proof/v1",
        "id": f"evt_{index}",
        "event": json.loads(payload),
        "payload": _b64(payload),
        "index": index,
        "inclusion": [_b64(part) for part in _path(index, PAYLOADS[:size])],
        "checkpoint": _checkpoint(size, _root(PAYLOADS[:size]), SECRET),
    }


# -- wrong in one thing each -----------------------------------------------------------------------------------------


def _set(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda proof: proof.__setitem__(name, value)


def _checkpoint_of(**given: Any) -> Callable[[dict[str, Any]], None]:
    def change(proof: dict[str, Any]) -> None:
        options = {"size": 7, "root": _root(PAYLOADS[:7]), "secret": SECRET, **given}
        proof["checkpoint"] = _checkpoint(**options)

    return change


def _event(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda proof: proof["event"].update(changes)


def _payload(proof: dict[str, Any]) -> None:
    payload = PAYLOADS[4].replace(b'"n": 4', b'"n": 5')
    proof |= {"payload": _b64(payload), "event": json.loads(payload)}


_CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "another format": _set("format", "rempart-proof/v2"),
    "no format": lambda proof: proof.pop("format"),
    "another index": _set("index", 5),
    "an index beyond the log": _set("index", 7),
    "a negative index": _set("index", -1),
    "an index that is a text": _set("index", "4"),
    "an index that is a fraction": _set("index", 4.5),
    "an index that is true": _set("index", True),
    "a changed payload": _payload,
    "a payload that isn't base64": _set("payload", "*"),
    "an empty payload": _set("payload", ""),
    "another event shown": _event(n=5),
    "a large number off by one": _event(big=2**60 + 5),
    "a number shown as a text": _event(n="4"),
    "a number shown as true": _event(n=True),
    "one member more shown": _event(more=1),
    "one member less shown": lambda proof: proof["event"].pop("half"),
    "no event shown": lambda proof: proof.pop("event"),
    "another id": _set("id", "evt_5"),
    "a path that is too short": lambda proof: proof["inclusion"].pop(),
    "a path that is too long": lambda proof: proof["inclusion"].append(_b64(bytes(32))),
    "no path": _set("inclusion", []),
    "a path in another order": lambda proof: proof["inclusion"].reverse(),
    "a part of a path that is too short": lambda proof: proof["inclusion"].__setitem__(0, _b64(bytes(31))),
    "a part of a path that is no text": lambda proof: proof["inclusion"].__setitem__(0, 1),
    "a changed part of a path": lambda proof: proof["inclusion"].__setitem__(1, _b64(bytes(32))),
    "another size in the checkpoint": _checkpoint_of(size=9),
    "another root": _checkpoint_of(root=bytes(32)),
    "a root that is too short": _checkpoint_of(root=bytes(31)),
    "a size with a leading zero": _checkpoint_of(size="07"),
    "a size that isn't a number": _checkpoint_of(size="seven"),
    "a checkpoint of another log": _checkpoint_of(origin="other.example/audit"),
    "a checkpoint that another log's key signed": _checkpoint_of(secret=OTHER),
    "a checkpoint by another key under our name": _checkpoint_of(secret=OTHER, forged=True),
    "a checkpoint with a line changed": lambda proof: proof.__setitem__(
        "checkpoint", proof["checkpoint"].replace("\n7\n", "\n8\n")
    ),
    "a checkpoint without a signature": lambda proof: proof.__setitem__(
        "checkpoint", proof["checkpoint"].partition("\n\n")[0] + "\n\n"
    ),
    "a checkpoint without its last line feed": lambda proof: proof.__setitem__("checkpoint", proof["checkpoint"][:-1]),
    "a checkpoint that is no text": _set("checkpoint", 7),
}


# -- the definitions -------------------------------------------------------------------------------------------------


def _root(payloads: list[bytes]) -> bytes:
    """RFC 6962 section 2.1."""
    if len(payloads) == 1:
        return hashlib.sha256(b"\x00" + payloads[0]).digest()
    split = _split(len(payloads))
    return hashlib.sha256(b"\x01" + _root(payloads[:split]) + _root(payloads[split:])).digest()


def _path(index: int, payloads: list[bytes]) -> list[bytes]:
    """RFC 6962 section 2.1.1."""
    if len(payloads) == 1:
        return []
    split = _split(len(payloads))
    if index < split:
        return [*_path(index, payloads[:split]), _root(payloads[split:])]
    return [*_path(index - split, payloads[split:]), _root(payloads[:split])]


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _checkpoint(
    size: int | str, root: bytes, secret: Ed25519PrivateKey, *, origin: str = ORIGIN, forged: bool = False
) -> str:
    """`forged`: under the name and key id of the real key, by another."""
    text = f"{origin}\n{size}\n{_b64(root)}\n"
    named = SECRET if forged else secret
    signature = _key_id(ORIGIN, named) + secret.sign(text.encode())
    return f"{text}\n\u2014 {ORIGIN} {_b64(signature)}\n"


def _public(secret: Ed25519PrivateKey) -> bytes:
    return b"\x01" + secret.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _key_id(origin: str, secret: Ed25519PrivateKey) -> bytes:
    return hashlib.sha256(origin.encode() + b"\n" + _public(secret)).digest()[:4]


def _key(origin: str, secret: Ed25519PrivateKey) -> str:
    return f"{origin}+{_key_id(origin, secret).hex()}+{_b64(_public(secret))}"


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


if __name__ == "__main__":
    FILE.write_text(json.dumps(document(), indent=1) + "\n")
