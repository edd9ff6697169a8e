"""Every attack on the real bank is stopped, leaves its trace in the record, and the record is whole afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.integration.conftest import Running

pytestmark = pytest.mark.timeout(900)

FIELDS = {
    "id", "stride", "actor", "title", "tried", "expected", "observed", "blocked", "stopped_by", "evidence", "alert",
}  # fmt: skip


@pytest.fixture(scope="module")
def report(bank: Running) -> dict[str, Any]:
    done = bank.run("attack", "--json", timeout=850)
    document: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if document["blocked"] == document["tried"] else 1), done.stderr[-2000:]
    return document


def test_nothing_got_through(report: dict[str, Any]) -> None:
    through = {one["id"]: one["observed"] for one in report["attacks"] if one["blocked"] is False}
    assert through == {}


def test_sixty_attacks_at_least_cover_stride_and_every_actor(report: dict[str, Any]) -> None:
    tried = [one for one in report["attacks"] if one["blocked"] is not None]
    assert len(tried) == report["tried"] >= 60
    assert {one["stride"] for one in tried} == set("STRIDE")
    assert {one["actor"] for one in tried} == {"outsider", "stolen token", "rogue workload", "insider"}
    assert all(set(one) == FIELDS for one in report["attacks"])


def test_each_blocked_attack_can_be_found_in_the_record(report: dict[str, Any], bank: Running) -> None:
    missing = [
        one["id"] for one in report["attacks"] if one["blocked"] and one["evidence"] in ("", "not in the record")
    ]
    assert missing == []
    ids = {one["evidence"] for one in report["attacks"] if one["evidence"].startswith(("dec_", "evt_"))}
    assert len(ids) > 60
    for id in sorted(ids)[:3]:
        assert bank.run("audit", "show", id, "--json").returncode == 0


def test_no_process_fell_over(report: dict[str, Any], bank: Running) -> None:
    assert {one["name"]: one["restarts"] for one in bank.now()["processes"] if one["restarts"]} == {}


def test_the_log_verifies_afterwards(report: dict[str, Any], bank: Running) -> None:
    done = bank.run("audit", "verify", "--json")
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (0, True)


def test_one_attack_can_be_chosen_and_an_unknown_one_is_refused(bank: Running) -> None:
    done = bank.run("attack", "--only", "E-header-role", "--json")
    assert [one["id"] for one in json.loads(done.stdout)["attacks"]] == ["E-header-role"]
    assert bank.run("attack", "--only", "Z-none", "--json").returncode == 2
