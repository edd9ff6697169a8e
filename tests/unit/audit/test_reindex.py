"""The index may be thrown away at any moment: integration goes on, nothing is taken twice, and it is built again."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from tests.support_audit import open_log, payload

from rempart.audit import sequencer as room
from rempart.audit.journal import Journal
from rempart.audit.metrics import page
from rempart.audit.model import Query
from rempart.audit.sequencer import Sequencer
from rempart.backends.sqlite_search import SqliteSearch
from rempart.protocols.ocsf import decode_summary


def test_repeats_wait_for_a_lost_index_and_everything_else_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_SOON", 2)
    own, pdp = (Journal(tmp_path / "journals" / name, name) for name in ("sequencer", "pdp"))
    log = open_log(tmp_path)
    sequencer = Sequencer(log, tmp_path / "journals", own, partial(SqliteSearch, tmp_path / "search.db", "log"))
    for n in range(20):
        own.append(payload(f"told_{n}", "sequencer"), repeat=True)
    own.commit()
    while sequencer.cycle():
        while sequencer.index_some():
            pass
    sequencer.rebuild_index()
    assert sequencer.unindexed == 20
    assert "rempart_audit_unindexed_events 20\n" in page(sequencer)
    own.append(payload("told_3", "sequencer"), repeat=True)
    own.append(payload("told_20", "sequencer"), repeat=True)
    own.commit()
    pdp.append(payload("dec_1", "pdp"))
    pdp.commit()
    sequencer.cycle()
    assert sequencer.deferred
    assert log.size == 21  # the PDP's
    while sequencer.index_some():
        pass
    sequencer.cycle()
    assert not sequencer.deferred
    while sequencer.index_some():
        pass
    ids = [decode_summary(log.entry(at)).id for at in range(log.size)]
    assert sorted(ids) == sorted([*(f"told_{n}" for n in range(21)), "dec_1"])
    assert sequencer.index.find(Query(limit=100)) == list(range(21, -1, -1))
    sequencer.close()
    own.close()
    pdp.close()
