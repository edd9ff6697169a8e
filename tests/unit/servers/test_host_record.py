"""What programs of another host tell: durable when it is answered, and no program can use up what all need."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support_audit import journaled

from rempart.audit.journal import Journal
from rempart.kernel.errors import Unavailable
from rempart.kernel.event import Event, EventType
from rempart.protocols.ocsf import decode_summary
from rempart.servers.agent_parts import MAX_BACKLOG
from rempart.servers.host_record import MOST_WAITING, HostRecord


def told(number: int) -> Event:
    return Event(type=EventType.APPLICATION, id=f"e-{number}", at=1_800_000_000.0, success=True, service="wallet")


def test_what_was_answered_is_on_disk_under_the_agents_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        journal = Journal(tmp_path / "j", "host-agent")
        await HostRecord(journal, {}, (), {}, lambda: 0).keep([told(1), told(2)])
        journal.close()

    asyncio.run(scenario())
    kept = [decode_summary(payload) for payload in journaled(tmp_path / "j")]
    assert [(one.id, one.source, one.service) for one in kept] == [(f"e-{n}", "host-agent", "wallet") for n in (1, 2)]


def test_applications_leave_room_for_svids_while_the_server_is_away(tmp_path: Path) -> None:
    async def scenario() -> None:
        journal = Journal(tmp_path / "j", "host-agent", max_backlog_bytes=MAX_BACKLOG)
        waiting = MOST_WAITING
        record = HostRecord(journal, {}, (), {}, lambda: waiting)
        await record.keep([told(1)])
        waiting += 1
        with pytest.raises(Unavailable) as refused:
            await record.keep([told(2)])
        assert refused.value.code == "journal_backlog_full"
        await journal.record(Event(type=EventType.SVID_ISSUED, at=1_800_000_000.0, success=True))
        waiting -= 1
        await record.keep([told(3)])
        journal.close()

    asyncio.run(scenario())
    assert MOST_WAITING < MAX_BACKLOG
    assert [decode_summary(payload).id for payload in journaled(tmp_path / "j")][::2] == ["e-1", "e-3"]
