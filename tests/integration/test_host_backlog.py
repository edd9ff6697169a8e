"""What waits in the journals of another host comes to the server: each event once, also when what was told is
forgotten; and one that the server refuses holds up no others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.agent_support import make_token, write_bundle
from tests.identity_support import TRUST_DOMAIN, IdentityProcess, running_identity
from tests.support import free_port, short_directory

from rempart.audit.journal import Journal
from rempart.audit.reader import JournalReader
from rempart.kernel.clock import SystemClock
from rempart.kernel.event import Event, EventType
from rempart.policy.record import Ruling, encode
from rempart.protocols.ocsf import encode as encode_event
from rempart.servers.agent_events import JournalTelling, alarm_in, host_events
from rempart.servers.agent_parts import agent_parts
from rempart.workloads.agents.evidence import ShownToken
from rempart.workloads.agents.host_record import AHEAD

EVENTS = 2500
AGENT = f"spiffe://{TRUST_DOMAIN}/rempart/agent/join_token/b"
HOST = {"name": "b", "toml": "", "gateway": ["127.0.0.1", 1], "address": "", "ports": {}, "services": ["wallet"]}


def decision(number: int) -> bytes:
    told = Ruling(
        id=f"dec_{number:026d}",
        at=1795273542.404,
        pep="wallet",
        allow=True,
        rule="wallet.own",
        reason="",
        policy_version="ae4276e2f0b2",
        method="GET",
        path="/wallet",
        quoted_path=json.dumps("/wallet"),
        service="wallet",
    )
    return encode(told, "pdp")


def application(details: dict[str, Any], **more: Any) -> bytes:
    given: dict[str, Any] = {"type": EventType.APPLICATION, "at": time.time(), "success": True, "service": "wallet"}
    return encode_event(Event(**{**given, **more}, details=details), "host-agent")


def test_a_backlog_is_told_whole_and_what_is_told_again_is_marked_as_a_repeat() -> None:
    with world() as (identity, directory, port, token):
        journal = Journal(directory / "pdp", "pdp")
        for number in range(EVENTS):
            journal.append(decision(number))
        journal.commit()
        journal.close()
        tell(identity, directory, port, token, "pdp", times=2)  # once more as if killed before it was remembered
        told = [(flags, one) for flags, one in recorded(identity) if one["type"] == "decision"]
        assert len({one["id"] for _, one in told}) == EVENTS
        assert len(told) == 2 * EVENTS
        assert {flags for flags, _ in told} == {1}  # the sequencer keeps the first of each
        assert {(one["source"], one["details"]["agent"]) for _, one in told} == {("pdp@join_token/b", AGENT)}


def test_what_a_service_says_stops_the_record_of_its_host_in_no_way() -> None:
    """Any service can write such events to its own socket; one is of a service that rempart.toml has moved since."""
    with world() as (identity, directory, port, token):
        journal = Journal(directory / "host-agent", "host-agent")
        for payload in (
            application({"code": 42, "pep": "gateway"}, id="first"),
            application({}, id="moved", service="payment"),
            application({}, id="future", at=time.time() + 9e8),
            application({}, id="last"),
        ):
            journal.append(payload)
        journal.commit()
        journal.close()
        tell(identity, directory, port, token, "host-agent")
        told = {one["id"]: one for _, one in recorded(identity) if one["type"] == "application"}
        assert sorted(told) == ["first", "future", "last"]
        assert told["first"]["pep"] == "gateway"
        assert told["future"]["at"] / 1000 < time.time() + 2 * AHEAD
        assert b'"moved"' in (directory / "told.refused").read_bytes()
        alarms = (directory / "own").rglob("*.journal")
        assert any(b"foreign_service" in path.read_bytes() for path in alarms)


@contextlib.contextmanager
def world() -> Iterator[tuple[IdentityProcess, Path, int, str]]:
    """Identity that knows the host `b`, a directory, identity's port for agents, and a join token for `b`."""
    port = free_port()
    with (
        short_directory("rpbl") as directory,
        running_identity([], agents=("127.0.0.1", port), hosts={AGENT: HOST}) as identity,
    ):
        token, _ = make_token(identity, directory, name="b")
        yield identity, directory, port, token.read_text()


def recorded(identity: IdentityProcess) -> list[tuple[int, dict[str, Any]]]:
    """Flags and own part of all that identity has in its journal; it is stopped before."""
    identity.stop()
    reader = JournalReader(identity.directory / "journal")
    records = reader.read(10 * EVENTS).records
    reader.close()
    return [(flags, json.loads(payload)["unmapped"]["rempart"]) for flags, payload in records]


def tell(identity: IdentityProcess, directory: Path, port: int, token: str, name: str, *, times: int = 1) -> None:
    bundle = write_bundle(identity, directory).read_text()
    asyncio.run(_tell(directory, port, token, bundle, name, times))


async def _tell(directory: Path, port: int, token: str, bundle: str, name: str, times: int) -> None:
    journal, clock = Journal(directory / "own", "host-agent"), SystemClock()
    parts = agent_parts(
        TRUST_DOMAIN,
        [("127.0.0.1", port)],
        ShownToken(token),
        kept=directory / "agent.sealed",
        seal_key=b"k" * 32,
        journal=journal,
        clock=clock,
    )
    try:
        await parts.membership.begin(bundle)
        for _ in range(times):
            (directory / "told").unlink(missing_ok=True)
            send = host_events(parts.server, name)
            telling = JournalTelling(directory / name, directory / "told", send, alarm_in(journal, clock))
            while await telling.tell_some():
                pass
            telling.close()
    finally:
        await parts.server.close()
        journal.close()
