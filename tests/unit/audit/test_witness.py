"""A witness and the log that asks it: growth is cosigned, everything else is found out."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support_audit import storage

from rempart.audit.cosigning import Cosigning, Named
from rempart.audit.log import MerkleLog
from rempart.audit.log_keys import LogKeyRing
from rempart.audit.witness import SeveralKeys, SizeConflict, Witness, request_body
from rempart.crypto.cosigning import CosignatureVerifier, Cosigner
from rempart.crypto.signing import NoteSigner, NoteVerifier
from rempart.kernel.clock import ManualClock
from rempart.kernel.errors import BadInput, Denied, Integrity, NotFound, RempartError, Unavailable, Unprocessable

SEED = bytes(32)
COSIGNER = Cosigner("w.example", bytes(range(32)))
KEY = CosignatureVerifier.parse(COSIGNER.verifier_key)


def log(directory: Path, *entries: bytes, seed: bytes = SEED) -> MerkleLog:
    made = MerkleLog(storage(directory), NoteSigner("log.example", seed))
    made.integrate(entries, {})
    return made


def log_key(seed: bytes = SEED) -> NoteVerifier:
    return NoteVerifier.parse(NoteSigner("log.example", seed).verifier_key)


def witness(directory: Path, told: list[str] | None = None) -> Witness:
    directory.mkdir(exist_ok=True)
    heard = [] if told is None else told
    return Witness(directory, COSIGNER, {"log.example": log_key()}, ManualClock(), heard.append)


def ask(by: Witness, of: MerkleLog, old: int) -> str:
    return by.add_checkpoint(request_body(old, of.prove_consistency(old), of.checkpoint))


def test_a_cosignature_as_c2sp_writes_it() -> None:
    """The example of c2sp.org/tlog-cosignature: its line has the form, and ours of the same length, and verifies."""
    example = "jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA=="
    raw = base64.b64decode(example)
    assert (len(raw), int.from_bytes(raw[4:12], "big")) == (76, 1679315147)
    text = "log.example\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
    line = COSIGNER.cosign(text, 1679315147)
    assert line.startswith("\u2014 w.example ")
    assert len(base64.b64decode(line.split(" ")[2])) == 76
    assert KEY.line_of(f"{text}\n{line}") == (line, 1679315147)
    with pytest.raises(Integrity):
        KEY.line_of(f"{text.replace('1', '2')}\n{line}")


def test_growth_is_cosigned_and_remembered(tmp_path: Path) -> None:
    by, of = witness(tmp_path / "w"), log(tmp_path / "l", b"a")
    assert KEY.line_of(of.checkpoint + ask(by, of, 0))[1] == int(ManualClock().now())
    of.integrate([b"b", b"c"], {})
    assert ask(by, of, 1)
    again = witness(tmp_path / "w")
    assert again.size("log.example") == 3
    assert ask(again, of, 3), "the same once more"


@pytest.mark.parametrize("old", [0, 1, 3])
def test_a_wrong_old_size_is_told_the_right_one(tmp_path: Path, old: int) -> None:
    by, of = witness(tmp_path / "w"), log(tmp_path / "l", b"a", b"b")
    ask(by, of, 0)
    of.integrate([b"c", b"d"], {})
    with pytest.raises(SizeConflict) as raised:
        ask(by, of, old)
    assert raised.value.size == 2


def test_a_rewritten_log_is_not_cosigned_and_the_evidence_kept(tmp_path: Path) -> None:
    told: list[str] = []
    by, of = witness(tmp_path / "w", told), log(tmp_path / "l", b"a", b"b")
    ask(by, of, 0)
    other = log(tmp_path / "m", b"a", b"X", b"c")
    with pytest.raises(Unprocessable) as raised:
        ask(by, other, 2)
    assert raised.value.code == "bad_consistency"
    assert "was not proved" in told[0]
    evidence = next((tmp_path / "w").glob("*.unproved")).read_text()
    assert of.checkpoint in evidence
    assert other.checkpoint in evidence
    assert by.size("log.example") == 2


def test_a_split_view_is_found(tmp_path: Path) -> None:
    told: list[str] = []
    by, of = witness(tmp_path / "w", told), log(tmp_path / "l", b"a", b"b")
    ask(by, of, 0)
    with pytest.raises(SizeConflict):
        ask(by, log(tmp_path / "m", b"a", b"X"), 2)
    assert "two different histories of 2 events" in told[0]


def test_a_stranger_with_wrong_proofs_can_neither_accuse_the_log_nor_fill_the_disk(tmp_path: Path) -> None:
    told: list[str] = []
    by, of = witness(tmp_path / "w", told), log(tmp_path / "l", b"a", b"b")
    ask(by, of, 0)
    for n in range(40):
        of.integrate([b"%d" % n], {})
        for _ in range(2):
            with pytest.raises(Unprocessable):
                by.add_checkpoint(request_body(2, [bytes(32)], of.checkpoint))
    assert len(told) == len(list((tmp_path / "w").glob("*.unproved"))) == 16
    with pytest.raises(SizeConflict):
        ask(by, log(tmp_path / "m", b"a", b"X"), 2)
    (evidence,) = (tmp_path / "w").glob("*.split")
    assert "\n2\n" in evidence.read_text(), "the place of what does prove it is free"
    assert ask(by, of, 2), "and the log goes on"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", BadInput),
        (b"\xff\n\n", BadInput),
        (b"old 0\n", BadInput),
        (b"old 01\n\nlog.example\n", BadInput),
        (b"old -1\n\nlog.example\n", BadInput),
        (b"old 0\nnot base64\n\nlog.example\n", BadInput),
        (b"old 0\nAAAA\n\nlog.example\n", BadInput),
        (b"old 0\n\nother.example\n1\nAAAA\n\n", NotFound),
        (b"old 0\n\nlog.example\n1\nAAAA\n\n", Denied),
        (b"old 0\n" + (base64.b64encode(bytes(32)) + b"\n") * 64 + b"\nlog.example\n", BadInput),
    ],
)
def test_bad_requests(tmp_path: Path, body: bytes, error: type[RempartError]) -> None:
    with pytest.raises(error):
        witness(tmp_path / "w").add_checkpoint(body)


def test_another_key_under_the_logs_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Denied):
        ask(witness(tmp_path / "w"), log(tmp_path / "l", b"a", seed=bytes([1] * 32)), 0)


def test_growth_from_nothing_needs_no_proof_and_gets_none(tmp_path: Path) -> None:
    of = log(tmp_path / "l", b"a")
    with pytest.raises(Unprocessable):
        witness(tmp_path / "w").add_checkpoint(request_body(0, [bytes(32)], of.checkpoint))


def test_a_damaged_memory_stops_the_witness(tmp_path: Path) -> None:
    by, of = witness(tmp_path / "w"), log(tmp_path / "l", b"a")
    ask(by, of, 0)
    next((tmp_path / "w").iterdir()).write_text("log.example\n9\n")
    with pytest.raises(Integrity):
        witness(tmp_path / "w")


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_no_body_breaks_it(body: bytes) -> None:
    by = Witness(Path("/nonexistent"), COSIGNER, {"log.example": log_key()}, ManualClock(), lambda _: None)
    with pytest.raises(RempartError):
        by.add_checkpoint(body)


class Line:
    def __init__(self, by: Witness) -> None:
        self.by = by
        self.away = False
        self.asked = 0

    async def add_checkpoint(self, body: bytes) -> str:
        self.asked += 1
        if self.away:
            raise Unavailable("witness_unavailable", "away")
        return self.by.add_checkpoint(body)


class Setting:
    """A log and three witnesses, two of which must cosign."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.log = log(base / "l", b"a", b"b", b"c")
        self.cosigners = [Cosigner(f"w{n}.example", bytes([n] * 32)) for n in range(3)]
        self.lines = []
        for n, cosigner in enumerate(self.cosigners):
            (base / f"w{n}").mkdir()
            logs = {"log.example": log_key()}
            self.lines.append(Line(Witness(base / f"w{n}", cosigner, logs, ManualClock(), lambda _: None)))
        self.alarms: list[str] = []

    def cosigning(self, of: MerkleLog | None = None) -> Cosigning:
        async def alarm(why: str) -> None:
            self.alarms.append(why)

        keys = [CosignatureVerifier.parse(cosigner.verifier_key) for cosigner in self.cosigners]
        named = [Named(key, line) for key, line in zip(keys, self.lines, strict=True)]
        return Cosigning(of or self.log, log_key(), named, 2, self.base / "witnessed", alarm)


def test_a_quorum_makes_a_checkpoint_witnessed(tmp_path: Path) -> None:
    setting = Setting(tmp_path)
    cosigning = setting.cosigning()
    setting.lines[0].away = True
    asyncio.run(cosigning.ask())
    assert cosigning.size == 3
    assert [name for name, why in cosigning.cosigners().items() if why] == ["w0.example"]
    setting.log.integrate([b"d"], {})
    setting.lines[1].away = True
    asyncio.run(cosigning.ask())
    assert cosigning.size == 3, "one is not enough"
    assert setting.cosigning().size == 3, "kept over a restart"
    setting.lines[0].away = setting.lines[1].away = False
    again = setting.cosigning()
    asyncio.run(again.ask())
    assert again.size == 4, "each is asked from the size that it knows"
    asked = [line.asked for line in setting.lines]
    asyncio.run(again.ask())
    assert [line.asked for line in setting.lines] == asked, "nothing new, nobody is asked"
    assert not setting.alarms


def test_a_witness_that_hangs_does_not_hold_the_others(tmp_path: Path) -> None:
    setting = Setting(tmp_path)

    async def run() -> None:
        others = asyncio.Event()

        class Hangs(Line):
            async def add_checkpoint(self, body: bytes) -> str:
                await others.wait()  # it would wait for ever if they were asked after it
                return await super().add_checkpoint(body)

        class Last(Line):
            async def add_checkpoint(self, body: bytes) -> str:
                others.set()
                return await super().add_checkpoint(body)

        setting.lines[0], setting.lines[2] = Hangs(setting.lines[0].by), Last(setting.lines[2].by)
        cosigning = setting.cosigning()
        await asyncio.wait_for(cosigning.ask(), 30)
        assert cosigning.size == 3

    asyncio.run(run())


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ((b"a", b"X", b"c"), "two histories"),
        ((b"a", b"X", b"c", b"d"), "grow"),
        ((b"a", b"b"), "it knows 3 events, we have 2"),
    ],
    ids=["split view", "rewritten", "rewound"],
)
def test_a_log_that_changed_raises_one_alarm_per_witness(tmp_path: Path, entries: tuple[bytes, ...], why: str) -> None:
    setting = Setting(tmp_path)
    asyncio.run(setting.cosigning().ask())
    cosigning = setting.cosigning(log(tmp_path / "m", *entries))
    asyncio.run(cosigning.ask())
    asyncio.run(cosigning.ask())
    assert len(setting.alarms) == 3
    assert all(why in alarm for alarm in setting.alarms), setting.alarms
    assert cosigning.size == 3


def test_a_log_whose_key_rotates_is_cosigned_on_with_both_keys_given(tmp_path: Path) -> None:
    clock = ManualClock(1000.0)
    ring = LogKeyRing(tmp_path / "keys", "log.example", bytes(32), clock, has_log=False)
    log = MerkleLog(storage(tmp_path), ring)
    log.integrate([b"a"], {})

    def open_witness() -> Witness:
        keys = SeveralKeys([NoteVerifier.parse(key.verifier) for key in ring.keys])
        return Witness(tmp_path, COSIGNER, {"log.example": keys}, clock, lambda _: None)

    witness = open_witness()
    witness.add_checkpoint(request_body(0, [], log.checkpoint))
    ring.adopt(ring.propose(), overlap=10)
    log.integrate([b"b"], {})
    witness.add_checkpoint(request_body(1, log.prove_consistency(1), log.checkpoint))  # by the old key, which signs too
    clock.advance(11)
    log.integrate([b"c"], {})
    with pytest.raises(Denied):
        witness.add_checkpoint(request_body(2, log.prove_consistency(2), log.checkpoint))
    witness = open_witness()
    witness.add_checkpoint(request_body(2, log.prove_consistency(2), log.checkpoint))
    assert witness.size("log.example") == 3
