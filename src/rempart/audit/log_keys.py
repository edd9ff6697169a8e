"""The keys that sign the log's checkpoints: one after another, with an overlap in which both sign.

A verifier that knows either key accepts a checkpoint of the overlap, so everybody (auditors, witnesses, monitors) has
that long to learn the new one. That it is the log's own word stands in the log: the event `system.log_key_rotated`,
which the old key signed. A key that no longer signs loses its private half; its public one stays, for what it signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from rempart.crypto.aead import seal, unseal
from rempart.crypto.signing import NoteSigner, NoteVerifier
from rempart.kernel.clock import Clock
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import Conflict, Integrity

_CONTEXT = b"rempart/audit/log-keys"
_FIRST_CONTEXT = b"rempart/audit/log-key"  # of `log.key.sealed`, which held the only key before there was a ring


class LogKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`seed` is empty once it signs no more; `until` when that is (seconds since the epoch), 0 for the newest."""

    verifier: str
    seed: bytes
    since: float
    until: float = 0.0


class LogKeyRing:
    """Implements `log.CheckpointSigner`. `path` holds the keys, sealed under `key`; oldest first."""

    def __init__(self, path: Path, origin: str, key: bytes, clock: Clock, *, has_log: bool) -> None:
        """Makes the first key unless the log exists already. Raises Integrity."""
        self.name = origin
        self._path, self._key, self._clock = path, key, clock
        self._signers: dict[str, NoteSigner] = {}
        self._keys = self._load(path, has_log)

    @property
    def keys(self) -> Sequence[LogKey]:
        return self._keys

    @property
    def verifier_key(self) -> str:
        """The newest one's."""
        return self._keys[-1].verifier

    def sign(self, text: str) -> str:
        """A note signed by the newest key, then by one whose overlap isn't over."""
        note = self._signer(self._keys[-1]).sign(text)
        now = self._clock.now()
        for old in self._keys[:-1]:
            if old.seed and old.until > now:
                note += self._signer(old).sign(text).rpartition("\n\n")[2]
        return note

    def verify(self, note: str) -> str:
        """The text, if any key of the log, past ones too, signed it: only for what this process itself kept."""
        for key in reversed(self._keys):
            try:
                return NoteVerifier.parse(key.verifier).verify(note)
            except Integrity:
                continue
        raise Integrity("bad_signature", f"no key of {self.name} signed the note", "restore it from a backup")

    def propose(self) -> LogKey:
        """A new key that isn't in use yet. Raises Conflict `rotation_under_way` while two sign."""
        now = self._clock.now()
        if any(old.seed and old.until > now for old in self._keys[:-1]):
            raise Conflict("rotation_under_way", "the last rotation's overlap is not over", "wait for its end")
        seed = NoteSigner.new_seed()
        return LogKey(NoteSigner(self.name, seed).verifier_key, seed, now)

    def adopt(self, proposed: LogKey, overlap: float) -> None:
        """Sign with it from now on, and with the one before for `overlap` seconds more. Durable on return."""
        now = self._clock.now()
        old = [msgspec.structs.replace(key, seed=b"") for key in self._keys[:-1]]
        last = msgspec.structs.replace(
            self._keys[-1], until=now + overlap, seed=self._keys[-1].seed if overlap else b""
        )
        keys = [*old, last, proposed]
        self._save(keys)
        self._keys = keys

    # -- inside ------------------------------------------------------------------------------------------------------

    def _signer(self, key: LogKey) -> NoteSigner:
        if key.verifier not in self._signers:
            self._signers[key.verifier] = NoteSigner(self.name, key.seed)
        return self._signers[key.verifier]

    def _load(self, path: Path, has_log: bool) -> list[LogKey]:
        first = path.with_name("log.key.sealed")
        try:
            keys = msgspec.json.decode(unseal(self._key, path.read_bytes(), _CONTEXT), type=list[LogKey])
        except FileNotFoundError:
            if first.exists():
                seed = unseal(self._key, first.read_bytes(), _FIRST_CONTEXT)
            elif has_log:
                raise Integrity("log_key_missing", f"{path} is gone", "restore it from a backup") from None
            else:
                seed = NoteSigner.new_seed()
            keys = [LogKey(NoteSigner(self.name, seed).verifier_key, seed, self._clock.now())]
            self._save(keys)
            first.unlink(missing_ok=True)
        if not keys or NoteVerifier.parse(keys[-1].verifier).name != self.name:
            raise Integrity("log_key_damaged", f"{path} holds no key of {self.name}", "restore it from a backup")
        self._publish(keys)
        return keys

    def _save(self, keys: Sequence[LogKey]) -> None:
        replace_file(self._path, seal(self._key, msgspec.json.encode(keys), _CONTEXT))
        self._publish(keys)

    def _publish(self, keys: Sequence[LogKey]) -> None:
        """`log.vkey`, the newest; `log.vkeys`, all, a line each, oldest first."""
        replace_file(self._path.with_name("log.vkey"), keys[-1].verifier.encode() + b"\n", 0o644)
        lines = "".join(key.verifier + "\n" for key in keys)
        replace_file(self._path.with_name("log.vkeys"), lines.encode(), 0o644)
