"""The log's key rotates: both sign for a while, old checkpoints stay verifiable, private halves go."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support_audit import payload, storage

from rempart.audit.log import MerkleLog
from rempart.audit.log_keys import LogKeyRing
from rempart.audit.verifier import Key, VerificationError, open_checkpoint
from rempart.audit.whole_log import verify_log
from rempart.crypto.aead import seal
from rempart.crypto.signing import NoteSigner, verify_ed25519
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import Conflict, Integrity

KEY = bytes(range(32))
ORIGIN = "bank.example/rempart"


def open_ring(directory: Path, clock: ManualClock, *, has_log: bool = False) -> LogKeyRing:
    return LogKeyRing(directory / "log.keys.sealed", ORIGIN, KEY, clock, has_log=has_log)


def accepts(verifier: str, note: str) -> bool:
    try:
        open_checkpoint(note, Key.parse(verifier), verify_ed25519)
    except VerificationError:
        return False
    return True


def test_both_sign_during_the_overlap_and_then_only_the_new_one(tmp_path: Path) -> None:
    clock = ManualClock(1000.0)
    ring = open_ring(tmp_path, clock)
    log = MerkleLog(storage(tmp_path), ring)
    log.integrate([payload("a")], {})
    old, before = ring.verifier_key, log.checkpoint
    ring.adopt(ring.propose(), overlap=100)
    log.sign_again()
    new = ring.verifier_key
    assert new != old
    assert accepts(old, log.checkpoint)
    assert accepts(new, log.checkpoint)
    assert verify_log(tmp_path / "log", Key.parse(new), verify_ed25519).ok, "published at once"
    with pytest.raises(Conflict) as refused:
        ring.propose()
    assert refused.value.code == "rotation_under_way"
    clock.advance(101)
    log.integrate([payload("b")], {})
    assert accepts(new, log.checkpoint)
    assert not accepts(old, log.checkpoint)
    assert accepts(old, before)
    ring.adopt(ring.propose(), overlap=0)
    assert [bool(key.seed) for key in open_ring(tmp_path, clock).keys] == [False, False, True]
    assert (tmp_path / "log.vkey").read_text() == ring.verifier_key + "\n"
    assert (tmp_path / "log.vkeys").read_text().split() == [key.verifier for key in ring.keys]


def test_a_log_whose_checkpoint_only_a_past_key_signed_opens(tmp_path: Path) -> None:
    """Killed after the ring was saved and before the checkpoint was signed again."""
    clock = ManualClock(1000.0)
    ring = open_ring(tmp_path, clock)
    MerkleLog(storage(tmp_path), ring).integrate([payload("a")], {})
    ring.adopt(ring.propose(), overlap=0)
    again = MerkleLog(storage(tmp_path), open_ring(tmp_path, clock, has_log=True))
    assert again.size == 1
    assert accepts(ring.verifier_key, again.checkpoint), "signed by the key of now when it was opened"


def test_the_one_key_of_before_is_taken_over(tmp_path: Path) -> None:
    seed = bytes(range(32))
    (tmp_path / "log.key.sealed").write_bytes(seal(KEY, seed, b"rempart/audit/log-key"))
    ring = open_ring(tmp_path, ManualClock(1.0), has_log=True)
    assert ring.verifier_key == NoteSigner(ORIGIN, seed).verifier_key
    assert not (tmp_path / "log.key.sealed").exists()
    assert open_ring(tmp_path, ManualClock(2.0), has_log=True).verifier_key == ring.verifier_key


def test_a_lost_key_is_not_replaced_in_silence(tmp_path: Path) -> None:
    with pytest.raises(Integrity) as refused:
        open_ring(tmp_path, ManualClock(1.0), has_log=True)
    assert refused.value.code == "log_key_missing"
