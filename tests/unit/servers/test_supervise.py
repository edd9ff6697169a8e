"""What a supervisor is told arrives as it was meant."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from rempart.servers.disk_upstream import DiskUpstream
from rempart.servers.spawn import memory_file
from rempart.servers.state_files import Remembered
from rempart.servers.supervise import Told
from rempart.servers.supervisor_keys import SupervisorKeys
from rempart.wiring.plan import Options, Roots, make_plan
from rempart.wiring.ports import Ports
from rempart.wiring.settings import load

BANK = Path(__file__).parents[3] / "examples" / "bank"


def told(**changes: Any) -> Told:
    ports = Ports({}, free=lambda host, port: True)
    plan = make_plan(load(BANK), Options(state=Path("/s")), ports, Roots(spiffe="SPIFFE", web="WEB"))
    keys = SupervisorKeys({process.name: os.urandom(32) for process in plan.processes}, os.urandom(32))
    upstream = DiskUpstream(Path("/ca.pem"), Path("/ca.key"), None, "bank.example")
    remembered = Remembered(trust_domain="bank.example", ports={"wallet": 15001}, running={"pdp": [7, 8]})
    one = Told(
        plan=plan,
        remembered=remembered,
        keys=keys,
        upstream=upstream,
        lock=3,
        reports=4,
        claims=(5, 6),
        follows=None,
    )
    return dataclasses.replace(one, **changes)


def test_a_whole_plan_survives_the_way() -> None:
    sent = told()
    arrived = Told.read(memory_file("supervisor", sent.document()))
    # settings of processes are JSON anyway: a tuple in them may arrive as a list
    plans = [json.dumps(dataclasses.asdict(one.plan), default=str) for one in (sent, arrived)]
    assert plans[0] == plans[1]
    assert arrived.plan.process("wallet") == sent.plan.process("wallet")
    assert dataclasses.replace(arrived, plan=sent.plan) == sent


def test_types_are_what_they_were() -> None:
    arrived = Told.read(memory_file("supervisor", told(upstream=None, follows=7).document()))
    assert isinstance(arrived.plan.state, Path)
    assert isinstance(arrived.plan.listen, tuple)
    assert {type(process.cwd) for process in arrived.plan.processes} <= {type(Path()), type(None)}
    assert all(process.kind in type(process.kind) for process in arrived.plan.processes)
    assert (arrived.upstream, arrived.follows) == (None, 7)


def test_no_key_is_shown() -> None:
    one = told()
    assert repr(one.keys.sealing) not in repr(one)
    assert not any(repr(key) in repr(one) for key in one.keys.processes.values())
