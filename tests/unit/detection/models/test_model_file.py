"""Model files: what is signed is believed, and nothing else; a file is numbers and never code."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.models_support import OTHER, SIGNER, STRANGER, body, usual_rows

from rempart.crypto.signing import NoteSigner, NoteVerifier
from rempart.detection.models.keeping import ModelFiles, open_signer
from rempart.detection.models.model import Subject
from rempart.detection.models.model_file import read_model, write_model
from rempart.detection.models.training import features_of
from rempart.kernel.errors import Integrity

FEATURES = features_of(Subject.LOGINS)
KEY = NoteVerifier(SIGNER.name, SIGNER.public_key)


def written(signer: NoteSigner = SIGNER, serial: int = 1) -> bytes:
    return write_model(body(serial=serial), FEATURES, signer)


def keep(files: ModelFiles, serial: int) -> None:
    files.adopt(files.stage(body(serial=serial)))


def code(content: bytes, **more: int) -> str:
    with pytest.raises(Integrity) as caught:
        read_model(content, Subject.LOGINS, FEATURES, KEY, **more)
    assert caught.value.remedy
    return caught.value.code


@pytest.mark.parametrize("subject", list(Subject))
def test_a_model_reads_back_and_rates_alike(subject: Subject) -> None:
    features = features_of(subject)
    made = body(subject)
    content = write_model(made, features, SIGNER)
    model = read_model(content, subject, features, KEY)
    assert model.digest == hashlib.sha256(content).hexdigest()
    for row in usual_rows(subject)[:40]:
        assert model.rate(row).raw == made.model.rate(row)[0]


def test_signed_by_another_key_or_by_a_stranger() -> None:
    assert code(written(OTHER)) == "model_tampered"
    assert code(written(STRANGER)) == "model_foreign"


def test_cut_or_extended() -> None:
    content = written()
    assert code(content[:-1]) == "model_truncated"
    assert code(content + b" ") == "model_truncated"
    assert code(content[:100]) == "model_truncated"
    assert code(b"") == "not_a_model"


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**9), st.integers(1, 255))
def test_any_byte_that_is_changed_is_noticed(where: int, change: int) -> None:
    content = bytearray(written())
    where %= len(content) if where % 3 else 500
    content[where] ^= change
    try:
        model = read_model(bytes(content), Subject.LOGINS, FEATURES, KEY)
    except Integrity:
        return
    assert where < 500, "of a signature in base64 two bits say nothing"
    assert model.body == body()


def test_an_older_one_another_subjects_and_one_for_other_features() -> None:
    content = written(serial=4)
    read_model(content, Subject.LOGINS, FEATURES, KEY, at_least=4)
    assert code(content, at_least=5) == "model_older"
    with pytest.raises(Integrity, match="model of logins"):
        read_model(content, Subject.API, features_of(Subject.API), KEY)
    other = write_model(body(), features_of(Subject.API), SIGNER)
    assert code(other) == "model_other_features"


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Boom:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    for content in (pickle.dumps(Boom()), b"PK\x03\x04" + bytes(40)):
        assert code(content) == "not_a_model"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "harm",
    [
        lambda trees: trees[0].update({"x": 1}) if isinstance(trees[0], dict) else trees[0].append(1),
        lambda trees: trees[0][0].__setitem__(0, 99),  # no such feature
        lambda trees: trees[0][2].__setitem__(0, 0),  # a walk in a circle
        lambda trees: trees[0][3].__setitem__(0, 10**9),
        lambda trees: trees.clear(),
    ],
    ids=["more", "feature", "circle", "outside", "none"],
)
def test_numbers_that_make_no_sense_are_refused_even_when_they_are_signed(harm: object) -> None:
    document = msgspec.json.decode(msgspec.json.encode(body()))
    harm(document["model"]["pooled"]["estimator"]["trees"])  # type: ignore[operator]
    raw = msgspec.json.encode(document)
    head = written().split(b"\nbody ")[0].decode()
    note = SIGNER.sign(f"{head}\nbody {len(raw)} {hashlib.sha256(raw).hexdigest()}\n")
    assert code(note.encode() + raw) == "model_malformed"


def test_the_newest_file_is_in_force_and_no_older_one_takes_the_place_of_a_refused_one(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path / "models", SIGNER)
    for serial in range(1, 6):
        keep(files, serial)
    names = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert names == ["logins-000003.model", "logins-000004.model", "logins-000005.model"]
    assert files.load({})[Subject.LOGINS].body.serial == 5
    (tmp_path / "models" / "logins-000005.model").write_bytes(b"\x80\x04.")
    assert files.load({}) == {}
    assert files.refused[Subject.LOGINS].code == "not_a_model"
    (tmp_path / "models" / "logins-000005.model").unlink()
    assert files.load({})[Subject.LOGINS].body.serial == 4
    assert files.load({Subject.LOGINS: 5}) == {}
    assert files.refused[Subject.LOGINS].code == "model_older"
    assert files.next_serial(Subject.LOGINS, 5) == 6


def test_a_staged_file_counts_once_the_record_names_it(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path / "models", SIGNER)
    keep(files, 1)
    files.stage(body(serial=2))
    assert files.load({Subject.LOGINS: 1})[Subject.LOGINS].body.serial == 1
    assert files.next_serial(Subject.LOGINS, 1) == 2
    assert files.load({Subject.LOGINS: 2})[Subject.LOGINS].body.serial == 2
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [
        "logins-000001.model",
        "logins-000002.model",
    ]


def test_all_files_gone_is_a_refusal_where_the_record_knows_of_one(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path / "models", SIGNER)
    assert files.load({Subject.API: 3}) == {}
    assert files.refused[Subject.API].code == "model_missing"


def test_the_signing_key_is_sealed_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "key"
    first = open_signer(path, "bank.example", bytes(32))
    assert open_signer(path, "bank.example", bytes(32)).public_key == first.public_key
    with pytest.raises(Integrity):
        open_signer(path, "bank.example", bytes(31) + b"\x01")


def test_who_reads_model_files_imports_no_library_of_models() -> None:
    program = (
        "import sys, rempart.detection.models.watch, rempart.servers.models\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('sklearn', 'numpy', 'scipy', 'joblib')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_planted_numbers_are_not_used_up(tmp_path: Path) -> None:
    files = ModelFiles(tmp_path / "models", SIGNER)
    keep(files, 1)
    for planted, content in (
        ("999999999999", b"\x80\x04."),
        ("000700", written(serial=3)),
        ("000002", written(OTHER, 2)),
    ):
        (tmp_path / "models" / f"logins-{planted}.model").write_bytes(content)
    assert files.load({Subject.LOGINS: 1}) == {}
    serial = files.next_serial(Subject.LOGINS, 1)
    assert serial == 2
    keep(files, serial)
    assert files.load({Subject.LOGINS: 1})[Subject.LOGINS].body.serial == 2
    assert len(list((tmp_path / "models").glob("*.refused"))) == 3
