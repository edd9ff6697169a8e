"""Who is told to look again: whoever an entry may be for, and everybody when it isn't known what changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rempart.kernel.spiffe import SpiffeId
from rempart.workloads.changes import KEPT, Changes
from rempart.workloads.model import Entry, Selector

UID, GID, SHA = (Selector.parse(text) for text in ("unix:uid:1", "unix:gid:1", "unix:sha256:" + "0" * 64))
OTHER = Selector.parse("unix:uid:2")
FACTS, LOOKED_FOR = frozenset({UID, GID}), {("unix", "uid"), ("unix", "gid")}


def entry(*selectors: Selector) -> Entry:
    return Entry(id="e", spiffe_id=SpiffeId.parse("spiffe://bank.example/a"), selectors=frozenset(selectors))


def test_only_who_may_hold_the_entry_is_concerned() -> None:
    changes = Changes()
    assert not changes.concerns(0, FACTS, LOOKED_FOR)
    changes.announce([entry(OTHER), entry(UID, OTHER)])
    assert not changes.concerns(0, FACTS, LOOKED_FOR)
    changes.announce([entry(UID, GID)])
    assert changes.concerns(0, FACTS, LOOKED_FOR)
    assert changes.concerns(1, FACTS, LOOKED_FOR)
    assert not changes.concerns(2, FACTS, LOOKED_FOR)


def test_what_was_not_looked_for_may_be_true() -> None:
    changes = Changes()
    changes.announce([entry(UID, SHA)])
    assert changes.concerns(0, FACTS, LOOKED_FOR)
    assert not changes.concerns(0, FACTS, {*LOOKED_FOR, ("unix", "sha256")})


def test_a_change_of_something_else_and_one_long_ago_concern_everybody() -> None:
    changes = Changes()
    changes.announce()
    assert changes.concerns(0, FACTS, LOOKED_FOR)
    for _ in range(KEPT):
        changes.announce([entry(OTHER)])
    assert not changes.concerns(1, FACTS, LOOKED_FOR)
    assert changes.concerns(0, FACTS, LOOKED_FOR)


_SELECTORS = st.frozensets(st.sampled_from([UID, GID, SHA, OTHER]), min_size=1)


@given(_SELECTORS, _SELECTORS, st.lists(st.lists(_SELECTORS, max_size=3), max_size=4))
def test_nobody_whose_entry_changed_is_left_waiting(
    facts: frozenset[Selector], asked: frozenset[Selector], announced: list[list[frozenset[Selector]]]
) -> None:
    """Whatever else is true of a process than what was found out of it."""
    changes = Changes()
    for batch in announced:
        changes.announce([entry(*selectors) for selectors in batch])
    looked_for = {(one.type, one.kind) for one in asked}
    known = frozenset(one for one in facts if (one.type, one.kind) in looked_for)
    if any(selectors <= facts for batch in announced for selectors in batch):
        assert changes.concerns(0, known, looked_for)
