"""Envoy's refusals: read strictly, and bounded under a flood."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support_audit import asynchronous, journaled

from rempart.audit import envoy_refusals
from rempart.audit.access_log import MAX_KINDS, MAX_LINE_BYTES, Collapser, read_line
from rempart.audit.envoy_refusals import EnvoyRefusals
from rempart.audit.journal import Journal
from rempart.audit.pipes import LineReader
from rempart.kernel.clock import ManualClock
from rempart.kernel.event import Event, EventType


def line(**fields: Any) -> bytes:
    return json.dumps(
        {"kind": "http", "pep": "gateway", "status": 400, "method": "GET", "path": "/x", **fields}
    ).encode()


def refused(n: int = 0) -> Event:
    event = read_line(line(ip=f"10.0.{n >> 8}.{n & 255}"), "gateway", 1.0)
    assert event is not None
    return event


def test_a_refused_handshake() -> None:
    raw = line(kind="tls", tls_failure="TLS_error: no certificate", ip="10.0.0.1", sni="localhost", peer=None)
    event = read_line(raw, "wallet", 5.0)
    assert event is not None
    assert (event.type, event.ip, event.service, event.reason) == (
        EventType.HANDSHAKE_REFUSED,
        "10.0.0.1",
        "wallet",
        "TLS_error: no certificate",
    )
    assert event.details["sni"] == "localhost"


@pytest.mark.parametrize(
    "raw",
    [
        line(decision="dec_1"),
        line(status=503),
        line(status=200),
        line(status=None),
        line(status="-"),
        line(kind="else"),
        b"[2026] envoy says hello",
        b"",
        b"{" * 10_000,
        b"\xff",
    ],
)
def test_what_is_no_refusal_of_envoys_own_is_left_out(raw: bytes) -> None:
    assert read_line(raw, "gateway", 1.0) is None


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_no_line_is_an_error(raw: bytes) -> None:
    read_line(raw, "gateway", 1.0)


def test_alike_refusals_are_counted_and_a_flood_is_bounded() -> None:
    clock = ManualClock()
    collapser = Collapser(clock.monotonic)
    first = refused()
    assert collapser.take(first) is first
    for _ in range(999):
        assert collapser.take(refused()) is None
    recorded = [event for n in range(1, 5000) if (event := collapser.take(refused(n)))]
    assert len(recorded) == MAX_KINDS - 1
    assert collapser.drain(2.0) == []
    clock.advance(1.0)
    counted = collapser.drain(2.0)
    assert [event.details["count"] for event in counted] == [999, 5000 - MAX_KINDS]
    assert counted[0].details["first"] == first.id
    assert collapser.take(refused()) is not None


@asynchronous
async def test_lines_are_cut_out_of_a_pipe_whatever_its_chunks() -> None:
    read, write = os.pipe()
    lines: list[bytes] = []
    LineReader(read, lines.append).start(asyncio.get_running_loop())
    for chunk in (b"on", b"e\ntwo\nthr", b"ee\n", b"x" * 40_000, b"x" * 40_000, b"x\nfour\n"):
        os.write(write, chunk)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    os.close(write)
    for _ in range(20):
        await asyncio.sleep(0)
    assert [text[:5] for text in lines] == [b"one", b"two", b"three", b"four"]
    assert MAX_LINE_BYTES < 80_000


def test_refusals_go_into_the_journal_and_a_flood_of_them_as_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(envoy_refusals, "Collapser", lambda: Collapser(lambda: now[0]))
    journal = Journal(tmp_path / "j", "sequencer")
    refusals = EnvoyRefusals(journal, {})
    told = line(status=404)
    for _ in range(1000):
        refusals.take("gateway", told)
        refusals.take("gateway", b"something else that Envoy printed")
    now[0] += 1.0
    refusals.count()
    refusals.count()
    journal.close()
    refusals.take("gateway", told)  # nobody waits for it: it is said in the log
    assert "refusals are not recorded" in caplog.text
    kept = [json.loads(payload)["unmapped"]["rempart"] for payload in journaled(tmp_path / "j")]
    assert [(one["pep"], one["status"], one.get("details", {}).get("count")) for one in kept] == [
        ("gateway", 404, None),
        ("gateway", 404, 999),
    ]
