"""Many entries and many workloads on one host, scaled down; `benchmarks/workloads_scale.py` has the whole size."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import httpx
import pytest
from tests.identity_support import TRUST_DOMAIN, IdentityProcess, running_identity
from tests.support import eventually
from tests.workload_crowd import Crowd, crowd

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a user for each workload: needs root")
ENTRIES, WORKLOADS, FIRST_UID, TTL = 2000, 100, 70_000, 10


@pytest.fixture(scope="module")
def identity() -> Iterator[IdentityProcess]:
    with running_identity(svid_ttl=TTL) as identity:
        for path in (identity.directory, identity.directory / "run"):
            path.chmod(0o711)
        identity.workload_api.chmod(0o777)
        wanted = [
            {"spiffe_id": f"spiffe://{TRUST_DOMAIN}/w{number}", "selectors": [f"unix:uid:{FIRST_UID + number}"]}
            for number in range(ENTRIES)
        ]
        assert apply(identity, wanted) == 200
        yield identity


@pytest.fixture(scope="module")
def workloads(identity: IdentityProcess) -> Iterator[Crowd]:
    with crowd(identity.workload_api, first_uid=FIRST_UID, count=WORKLOADS) as workloads:
        eventually(lambda: workloads.have() == WORKLOADS, within=20)
        yield workloads


def apply(identity: IdentityProcess, entries: list[dict[str, object]]) -> int:
    socket = identity.directory / "run" / "admin" / "identity.sock"
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), timeout=60) as client:
        return client.post("http://identity/entries", json={"entries": entries}).status_code


def test_each_has_its_own_and_a_new_entry_is_there_soon(identity: IdentityProcess, workloads: Crowd) -> None:
    assert workloads.refused == 0
    assert len({what for _, what in workloads.latest().values()}) == WORKLOADS
    for attempt in range(3):
        before = len(workloads.given[7])
        new = {"spiffe_id": f"spiffe://{TRUST_DOMAIN}/new{attempt}", "hint": f"h{attempt}"}
        assert apply(identity, [{**new, "selectors": [f"unix:uid:{FIRST_UID + 7}"]}]) == 200
        eventually(lambda: len(workloads.given[7]) > before, within=10)  # noqa: B023 - asked at once


def test_renewals_are_spread_and_nobody_goes_without(identity: IdentityProcess, workloads: Crowd) -> None:
    """Half of 10 s, jitter a fifth of it: from 4 to 5 s after the one before."""
    known = {number: len(messages) for number, messages in workloads.given.items()}
    eventually(lambda: all(len(workloads.given[n]) > known[n] for n in range(WORKLOADS)), within=20)
    firsts = [workloads.given[number][known[number]][0] for number in range(WORKLOADS)]
    in_a_tenth = Counter(int(at * 10) for at in firsts)
    assert max(in_a_tenth.values()) < WORKLOADS / 2
    gaps = [later - earlier for messages in workloads.given.values() for (earlier, _), (later, _) in pairwise(messages)]
    assert max(gaps) < TTL  # each came before the one before it had ended


def test_after_a_kill_everybody_is_served_again_once(identity: IdentityProcess, workloads: Crowd) -> None:
    known = {number: len(workloads.given[number]) for number in range(WORKLOADS)}
    identity.stop(signal.SIGKILL)
    identity.start()
    eventually(lambda: all(len(workloads.given[n]) > known[n] for n in range(WORKLOADS)), within=20)
    time.sleep(1)
    more = [len(workloads.given[number]) - known[number] for number in range(WORKLOADS)]
    assert sum(more) < 1.5 * WORKLOADS  # one certificate each, not again and again
    assert workloads.refused == 0
