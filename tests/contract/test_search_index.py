"""What every SearchIndex must do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rempart.audit.model import Indexed, Query
from rempart.audit.ports import SearchIndex
from rempart.backends.sqlite_search import SqliteSearch
from rempart.kernel.errors import Unprocessable
from rempart.protocols.ocsf import Summary

Open = Callable[[], SearchIndex]


@pytest.fixture(params=["sqlite"])
def open_index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    opened: list[SearchIndex] = []

    def open_sqlite(log_id: str = "log-1") -> SearchIndex:
        opened.append(SqliteSearch(tmp_path / "search.db", log_id))
        return opened[-1]

    yield open_sqlite
    for index in opened:
        index.close()


def summary(n: int, **fields: Any) -> Summary:
    return Summary(**{"id": f"evt_{n}", "type": "decision", "source": "pdp", "at": n * 1000, **fields})


def fill(index: SearchIndex) -> None:
    index.add(
        [
            Indexed(0, summary(0, person="ann", rule="r1", path="/wallet", success=True, request_id="q1")),
            Indexed(1, summary(1, person="bob", rule="r2", path="/payments", reason="No funds", ip="10.0.0.7")),
            Indexed(2, summary(2, type="money.moved", workload="spiffe://b/wallet", success=True, request_id="q1")),
            Indexed(3, summary(3, person="ann", path="/payments/7", rule="r1", at=500)),
            Indexed(4, summary(4, type="money.refused", service="wallet")),
        ],
        5,
    )


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(), [4, 3, 2, 1, 0]),
        (Query(limit=2), [4, 3]),
        (Query(limit=2, before=3), [2, 1]),
        (Query(after=3), [4, 3]),
        (Query(after=1, before=4, allowed=False), [3, 1]),
        (Query(after=5), []),
        (Query(person="ann"), [3, 0]),
        (Query(person="nobody"), []),
        (Query(person="' OR 1=1 --"), []),
        (Query(workload="spiffe://b/wallet"), [2]),
        (Query(type="decision"), [3, 1, 0]),
        (Query(type="money."), [4, 2]),
        (Query(type="nothing."), []),
        (Query(rule="r1", allowed=True), [0]),
        (Query(allowed=False), [4, 3, 1]),
        (Query(since=1000, until=3000), [2, 1]),
        (Query(path="/payments"), [1]),
        (Query(path="/payments*"), [3, 1]),
        (Query(text="no FUNDS"), [1]),
        (Query(text="10.0.0"), [1]),
        (Query(text="wallet"), [4, 0]),
        (Query(text="%"), []),
        (Query(text="fund"), []),
        (Query(text="fund*"), [1]),
        (Query(text="0.0.7"), [1]),
        (Query(text="7.0.0"), []),
        (Query(text='" OR key:"d1'), []),
        (Query(text="d0"), []),
        (Query(path="/pay*"), [3, 1]),
        (Query(path="payments"), []),
        (Query(path="/"), []),
        (Query(path="/*"), [3, 1, 0]),
        (Query(path="*"), [3, 1, 0]),
        (Query(person="ann", type="decision", since=0, text="pay*"), [3]),
    ],
)
def test_finds_exactly_what_was_asked_newest_first(open_index: Open, query: Query, expected: list[int]) -> None:
    index = open_index()
    fill(index)
    assert index.find(query) == expected


def test_ids_of_events_and_requests_are_located_oldest_first(open_index: Open) -> None:
    index = open_index()
    fill(index)
    assert index.locate("evt_3") == [3]
    assert index.locate("q1") == [0, 2]
    assert index.locate("q2") == []


def test_it_remembers_how_far_it_got(open_index: Open) -> None:
    index = open_index()
    assert index.size == 0
    fill(index)
    index.add([], 9)
    index.close()
    again = open_index()
    assert again.size == 9
    assert again.counts() == {"decision": 3, "money.moved": 1, "money.refused": 1}
    assert again.find(Query(person="bob")) == [1]


def test_an_index_of_another_log_or_a_damaged_one_begins_anew(open_index: Open, tmp_path: Path) -> None:
    index = open_index()
    fill(index)
    index.close()
    other = SqliteSearch(tmp_path / "search.db", "log-2")
    assert other.size == 0
    fill(other)
    other.close()
    raw = bytearray((tmp_path / "search.db").read_bytes())
    raw[:100] = b"x" * 100
    (tmp_path / "search.db").write_bytes(raw)
    assert open_index().size == 0


def test_a_clock_that_is_wrong_and_odd_words_are_taken(open_index: Open) -> None:
    index = open_index()
    odd = [
        Indexed(0, summary(0, at=10**30)),
        Indexed(1, summary(1, at=-(10**30))),
        Indexed(2, summary(2, person="\0", path="x" * 60_000, reason="é\n\0")),
    ]
    index.add(odd, 3)
    assert index.find(Query(since=10**15)) == [0]
    assert index.find(Query(person="\0")) == [2]


_SIGNS = "\"'*(){}^-+:;%_ \0\n\ud800\u0660\u202e\ufeff"
HOSTILE = st.lists(
    st.one_of(
        st.sampled_from(["AND", "OR", "NOT", "NEAR(", "path", "key:d1", *_SIGNS]),
        st.text(max_size=5),
    ),
    min_size=1,
    max_size=40,
).map("".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=HOSTILE)
def test_whatever_is_asked_is_words_and_never_an_expression(open_index: Open, asked: str) -> None:
    index = open_index()
    if not index.size:
        fill(index)
    ann = Query(person="ann")
    for query in (Query(text=asked), Query(path=asked), Query(path=asked + "*"), Query(rule=asked, type=asked + ".")):
        assert set(index.find(query)) <= set(range(5))
    assert index.find(Query(person="ann", text=f'nothing" OR {asked}')) == []
    assert index.find(ann) == [3, 0]


def test_a_search_that_takes_too_long_is_refused(open_index: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    index = open_index()
    index.add([Indexed(n, summary(n, path="/x")) for n in range(20_000)], 20_000)
    moments = iter([0.0] + [1e9] * 10_000)
    monkeypatch.setattr(time, "monotonic", lambda: next(moments))
    with pytest.raises(Unprocessable) as refused:
        index.find(Query(path="/"))
    assert refused.value.code == "search_too_broad"


def test_a_search_that_takes_long_is_cut_off_where_others_wait(
    open_index: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = open_index()
    index.add([Indexed(n, summary(n, path="/x")) for n in range(20_000)], 20_000)
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now.__setitem__(0, now[0] + 0.7) or now[0])  # at each look
    assert index.find(Query(limit=1), lambda: True) == [19_999]
    with pytest.raises(Unprocessable) as refused:
        index.find(Query(path="/"), lambda: True)
    assert refused.value.code == "search_too_broad"
    assert "while others wait" in refused.value.reason
    assert index.find(Query(limit=1)) == [19_999]


def test_what_lies_in_several_shards_is_found_newest_first_and_page_by_page(
    open_index: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rempart.backends.sqlite_search.SHARD", 8)
    index = open_index()
    index.add([Indexed(n, summary(n, person="ann" if n % 3 == 0 else "bob", path=f"/p/{n}")) for n in range(50)], 50)
    wanted = [n for n in reversed(range(50)) if n % 3 == 0]
    assert index.find(Query(person="ann")) == wanted
    pages: list[int] = []
    before = None
    for step in range(9):
        page = index.find(Query(person="ann", limit=2, before=before))
        pages += page
        before = page[-1]
        index.add([Indexed(50 + step, summary(50 + step, person="ann"))], 51 + step)  # a page is stable under inserts
    assert pages == wanted[: len(pages)]
    assert len(pages) == 17
    assert index.find(Query(person="ann", after=39, before=50)) == [48, 45, 42, 39]
    assert index.find(Query(since=10_000, until=12_000)) == [11, 10]
    assert index.find(Query(path="/p/4*")) == [49, 48, 47, 46, 45, 44, 43, 42, 41, 40, 4]


def test_what_was_thrown_away_is_in_no_file(open_index: Open, tmp_path: Path) -> None:
    index = open_index()
    files = lambda: b"".join(path.read_bytes() for path in tmp_path.glob("search.db*"))  # noqa: E731 - read often
    for _ in range(2):  # in many commits, so that parts of the index are merged and their pages given back
        for n in range(0, 2000, 50):
            events = [Indexed(m, summary(m, path="/secretplace", reason="unspeakable")) for m in range(n, n + 50)]
            index.add(events, n + 50)
        assert b"unspeakable" in files()
        index.clear()
        assert b"unspeakable" not in files()
        assert b"secretplace" not in files()


_ADDING = """
import sys
from pathlib import Path
from rempart.audit.model import Indexed
from rempart.backends.sqlite_search import SqliteSearch
from rempart.protocols.ocsf import Summary
index = SqliteSearch(Path(sys.argv[1]), "log-1")
while True:
    events = [Indexed(n, Summary(id=f"evt_{n}", type="decision", source="pdp", at=n, person="ann"))
              for n in range(index.size, index.size + 200)]
    index.add(events, events[-1].index + 1)
    print(index.size, flush=True)
"""


def test_killed_while_adding_it_has_whole_additions(tmp_path: Path) -> None:
    adding = subprocess.Popen([sys.executable, "-c", _ADDING, str(tmp_path / "search.db")], stdout=subprocess.PIPE)
    with adding:
        assert adding.stdout is not None
        said = [int(adding.stdout.readline()) for _ in range(7)][-1]
        adding.kill()
    index = SqliteSearch(tmp_path / "search.db", "log-1")
    assert index.size >= said
    assert index.size % 200 == 0
    assert index.find(Query(person="ann", limit=100_000)) == list(range(index.size - 1, -1, -1))
    assert index.locate(f"evt_{index.size - 1}") == [index.size - 1]
    assert index.counts() == {"decision": index.size}
    index.close()
