"""Personal data is encrypted in the log; who is erased can't be read any more, and the tree stays what it was."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support_audit import SIGNER, storage

from rempart.audit.log import MerkleLog
from rempart.audit.personal import PersonalData
from rempart.audit.verifier import Key
from rempart.audit.whole_log import verify_log
from rempart.backends.sqlite_person_keys import SqlitePersonKeys
from rempart.crypto.signing import verify_ed25519
from rempart.kernel.errors import Integrity, Unavailable
from rempart.kernel.event import Event, EventType
from rempart.protocols.event_catalogue import PERSONAL
from rempart.protocols.ocsf import MAX_BYTES, encode

ANN, BOB = "usr_ann", "usr_bob"
KEY = bytes(range(32))


def personal(directory: Path) -> PersonalData:
    return PersonalData(SqlitePersonKeys(directory / "persons.db", KEY))


def changed(person: str = BOB, account: str = ANN, **fields: Any) -> bytes:
    """`person` changes the account `account`."""
    before = {"id": account, "email": "ann@example.org", "name": "Ann", "role": "user"}
    event = Event(
        type=EventType.ACCOUNT_CHANGED,
        at=1_700_000_000.0,
        success=True,
        person=person,
        ip="192.0.2.7",
        before=before,
        after={**before, "email": "ann@example.net"},
        details={"account": account, "input": {"context": {"user_agent": "Firefox", "origin": ""}}},
        **fields,
    )
    return encode(event, "people")


def erased(account: str, source: str = "people") -> bytes:
    details = {"account": account}
    return encode(Event(type=EventType.PERSON_ERASED, at=1.0, success=True, person=BOB, details=details), source)


def test_what_is_stored_says_nothing_of_a_person_and_reads_as_it_was_recorded(tmp_path: Path) -> None:
    data, event = personal(tmp_path), changed()
    (sealed,) = data.seal([event])
    for secret in (b"ann@", b'"Ann"', b"192.0.2.7", b"Firefox"):
        assert secret not in sealed
    assert json.loads(sealed)["unmapped"]["rempart"]["before"] == {"id": ANN, "role": "user"}
    assert json.loads(data.open(sealed)) == json.loads(event)
    assert json.loads(personal(tmp_path).open(sealed)) == json.loads(event), "after a restart"


def test_each_part_is_the_persons_own(tmp_path: Path) -> None:
    """The address is of who acted, the account's data of who it belongs to."""
    data = personal(tmp_path)
    (sealed,) = data.seal([changed()])
    data.erase(ANN)
    own = json.loads(data.open(sealed))["unmapped"]["rempart"]
    assert own["ip"] == "192.0.2.7"
    assert own["before"] == {"id": ANN, "role": "user"}
    data.erase(BOB)
    assert b"192.0.2.7" not in data.open(sealed)


def test_nothing_of_an_erased_person_is_kept_any_more(tmp_path: Path) -> None:
    data = personal(tmp_path)
    data.seal([erased(ANN)])
    (sealed,) = data.seal([changed(person=ANN)])
    assert "sealed" not in json.loads(sealed)["unmapped"]["rempart"]
    for secret in (b"ann@", b"192.0.2.7", b"Firefox"):
        assert secret not in sealed
    assert data.keys.provide(ANN) is None


def test_only_rempart_says_who_was_erased(tmp_path: Path) -> None:
    data = personal(tmp_path)
    (sealed,) = data.seal([changed()])
    data.seal([erased(ANN, source="pdp")])
    assert b"ann@example.org" in data.open(sealed)


def test_the_tree_is_valid_after_an_erasure_and_the_leaf_is_what_was_proved(tmp_path: Path) -> None:
    data = personal(tmp_path)
    log = MerkleLog(storage(tmp_path), SIGNER, data)
    log.integrate([changed(id=f"e{n}") for n in range(300)], {})
    root, leaf = log.root, log.leaf(7)
    assert b"ann@example.org" in log.entry(7)
    log.integrate([erased(ANN)], {})
    assert b"ann@example.org" not in b"".join(log.entries(0, 256))
    assert log.leaf(7) == leaf
    assert verify_log(tmp_path / "log", Key.parse(SIGNER.verifier_key), verify_ed25519).problems == []
    assert root != log.root
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"ann@example.org" not in files


def test_a_destroyed_key_is_gone_from_the_file(tmp_path: Path) -> None:
    data = personal(tmp_path)
    data.seal([changed()])
    database = sqlite3.connect(tmp_path / "persons.db")
    (sealed,) = database.execute("SELECT sealed FROM person WHERE id = ?", (ANN,)).fetchone()
    database.close()
    data.erase(ANN)
    assert sealed not in b"".join(path.read_bytes() for path in tmp_path.glob("persons.db*"))
    assert data.keys.destroyed == 1


def test_a_key_that_was_not_durable_seals_nothing_in_the_log(tmp_path: Path) -> None:
    """The log is written after the keys are committed: what can't be opened must not be in it."""
    data = personal(tmp_path)
    log = MerkleLog(storage(tmp_path), SIGNER, data)
    log.integrate([changed(person="usr_first", account="usr_first")], {})
    blocker = sqlite3.connect(tmp_path / "persons.db", isolation_level=None)
    blocker.execute("BEGIN EXCLUSIVE")
    data.keys._db.execute("PRAGMA busy_timeout=0")  # type: ignore[attr-defined]  # the store's own connection
    with pytest.raises(Unavailable, match="keys of persons"):
        log.integrate([changed()], {})
    assert log.size == 1
    blocker.execute("ROLLBACK")
    blocker.close()
    log.integrate([changed()], {})
    assert json.loads(log.entry(1)) == json.loads(MerkleLog(storage(tmp_path), SIGNER, personal(tmp_path)).entry(1))


def test_another_key_or_a_forged_box_opens_nothing(tmp_path: Path) -> None:
    data = personal(tmp_path)
    (sealed,) = data.seal([changed()])
    document = json.loads(sealed)
    boxes = document["unmapped"]["rempart"]["sealed"]
    document["unmapped"]["rempart"]["sealed"] = {ANN: boxes[BOB], BOB: "AAAA", "usr_x": boxes[ANN], "usr_y": 5}
    opened = json.loads(data.open(json.dumps(document, separators=(",", ":")).encode()))
    assert opened["unmapped"]["rempart"]["before"] == {"id": ANN, "role": "user"}
    with pytest.raises(Integrity):
        SqlitePersonKeys(tmp_path / "persons.db", bytes(32)).find(ANN)


def test_an_event_that_has_no_room_for_its_box_loses_what_is_personal(tmp_path: Path) -> None:
    event = encode(
        Event(type=EventType.DECISION, at=1.0, success=True, person=ANN, ip="192.0.2.7", details={"x": "y" * 65_000}),
        "pdp",
    )
    stuffed = event + b" " * (MAX_BYTES - len(event))
    (sealed,) = personal(tmp_path).seal([stuffed])
    assert len(sealed) <= MAX_BYTES
    assert b"192.0.2.7" not in sealed


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=4) | st.sampled_from(sorted(PERSONAL)), inner, max_size=4)
    ),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(details=st.dictionaries(st.text(max_size=5) | st.sampled_from(["account", *PERSONAL]), ANYTHING))
def test_whatever_an_event_holds_it_comes_back(
    tmp_path_factory: pytest.TempPathFactory, details: dict[str, Any]
) -> None:
    data = personal(tmp_path_factory.mktemp("p"))
    event = encode(Event(type=EventType.APPLICATION, at=1.0, success=True, person=ANN, details=details), "sequencer")
    (sealed,) = data.seal([event])
    assert json.loads(data.open(sealed)) == json.loads(event)


@pytest.mark.parametrize("payload", [b"[]", b'{"person":1}', b'{"unmapped":{"rempart":{"person":[]}}}', b'"person":'])
def test_what_is_no_event_of_ours_stays_as_it_is(tmp_path: Path, payload: bytes) -> None:
    assert personal(tmp_path).seal([payload]) == [payload]
