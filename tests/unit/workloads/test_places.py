"""Who loses a connection when there are too many."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.workloads.places import Places
from rempart.workloads.process import Process


@dataclass(eq=False)
class Peer:
    pid: int
    uid: int = 1000
    ended: bool = False
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        self.process = Process(self.pid, self.uid, self.uid, -1, 0, None)

    def abort(self) -> None:
        self.ended = True


def test_a_flood_by_one_process_spares_the_one_connection_of_another_that_came_first() -> None:
    places = Places(most=100, per_uid=8)
    honest = Peer(1)
    assert places.take(honest)
    flood = [Peer(2) for _ in range(1000)]
    assert all(places.take(peer) for peer in flood)
    assert not honest.ended
    assert [peer.ended for peer in flood] == [True] * 993 + [False] * 7
    assert len(places) == 8


def test_the_one_that_comes_amid_a_flood_is_spared_before_its_first_request() -> None:
    places = Places(most=100, per_uid=8)
    before = [Peer(2) for _ in range(20)]
    honest = Peer(1)
    after = [Peer(2) for _ in range(20)]
    assert all(places.take(peer) for peer in [*before, honest, *after])
    assert not honest.ended


def test_of_equals_the_oldest_goes() -> None:
    places = Places(most=100, per_uid=3)
    peers = [Peer(pid) for pid in range(1, 5)]
    assert all(places.take(peer) for peer in peers)
    assert [peer.ended for peer in peers] == [True, False, False, False]


def test_who_has_asked_stays_and_who_comes_then_finds_no_room() -> None:
    places = Places(most=100, per_uid=2)
    first, second = Peer(1), Peer(1)
    for peer in (first, second):
        assert places.take(peer)
        places.asked(peer)
    assert not places.take(Peer(2))
    assert not first.ended
    assert not second.ended
    places.leave(first)
    assert places.take(Peer(2))


def test_when_the_server_is_full_the_uid_with_the_most_pays() -> None:
    places = Places(most=6, per_uid=5)
    honest = Peer(1, uid=1)
    greedy = [Peer(pid, uid=2) for pid in (2, 3, 3, 2, 3)]
    assert all(places.take(peer) for peer in [honest, *greedy])
    assert places.take(Peer(4, uid=3))
    assert not honest.ended
    assert [peer.ended for peer in greedy] == [False, True, False, False, False]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 2), st.sampled_from(["take", "ask", "leave"]))))
def test_books_are_kept(steps: list[tuple[int, int, str]]) -> None:
    """Never more than allowed, and nothing is left behind when all have left."""
    places = Places(most=6, per_uid=4)
    standing: list[Peer] = []
    asked: set[Peer] = set()
    for pid, uid, step in steps:
        if step == "take":
            peer = Peer(pid * 10 + uid, uid)
            if places.take(peer):
                standing.append(peer)
        elif standing:
            peer = standing[pid % len(standing)]
            places.asked(peer)
            asked.add(peer)
            if step == "leave":
                places.leave(peer)
                places.leave(peer)
                standing.remove(peer)
        standing = [peer for peer in standing if not peer.ended]
        assert set(places) == set(standing)
        assert len(standing) <= 6
        assert all(sum(peer.uid == uid for peer in standing) <= 4 for uid in (1, 2))
        assert not any(peer.ended for peer in asked)
    for peer in standing:
        places.leave(peer)
    assert not places._by_uid
    assert not places._silent
