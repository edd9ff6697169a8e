"""All rules of the watch on one core, against decoding the same events as JSON and nothing else.

Two streams of events as the log has them: an ordinary hour (decisions mostly, of 2,000 people at 4 services), and an
attack (half of it refused logins of 5,000 accounts from 500 networks, which fill every window). The peers decode each
event whole, one with the standard library, one with msgspec, which the engine decodes with. All take turns.
"""

from __future__ import annotations

import json
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from rempart.detection.engine import Engine
from rempart.detection.ruleset import BUILT_IN, Ruleset, load
from rempart.kernel.event import Event, EventType
from rempart.protocols.ocsf import encode

EVENTS = 20_000
ROUNDS = 5
_BEGINNING = 1_767_225_600.0


def run() -> list[dict[str, Any]]:
    ruleset = load([BUILT_IN])
    rows = []
    for name, attack in (("ordinary traffic", 0.0), ("an attack", 0.5)):
        payloads = _events(attack)
        size = statistics.mean(map(len, payloads))
        ours, standard, quick = [], [], []
        for _ in range(ROUNDS):
            ours.append(_per_second(Engine(ruleset).take, payloads))
            standard.append(_per_second(json.loads, payloads))
            quick.append(_per_second(msgspec.json.decode, payloads))
        rate = statistics.median(ours)
        for peer, rates in (("json.loads", standard), ("msgspec.json.decode", quick)):
            against = statistics.median(rates)
            rows.append(
                {
                    "what": f"all {len(ruleset.rules)} rules on, {name}, events of {size:.0f} bytes",
                    "against": peer,
                    "ours": f"{rate:,.0f} events/s a core",
                    "peer": f"{against:,.0f}/s",
                    "ratio": rate / against,
                    "target": "≥ 20,000 events/s",
                }
            )
    rows.append(_memory(ruleset))
    return rows


def _per_second(take: Callable[[bytes], Any], payloads: Iterable[bytes]) -> float:
    began = time.process_time()
    for payload in payloads:
        take(payload)
    return EVENTS / (time.process_time() - began)


def _memory(ruleset: Ruleset) -> dict[str, Any]:
    payloads = _events(0.5)
    tracemalloc.start()
    engine = Engine(ruleset)
    for payload in payloads:
        engine.take(payload)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    groups = sum(len(one.groups) for one in engine.correlators.values())
    held = sum(one.held(group[2]) for one in engine.correlators.values() for group in one.groups.values())
    return {
        "what": f"memory of {groups:,} groups with {held:,} entries, after {EVENTS:,} events",
        "against": "bound stated: 400 bytes an entry",
        "ours": f"{used / 1e6:.1f} MB, {used / held:.0f} bytes an entry",
        "ratio": used / held / 400,
        "target": "≤ 1×",
    }


def _events(attack: float) -> list[bytes]:
    chance = random.Random(7)
    return [_refused(n, chance) if chance.random() < attack else _ordinary(n, chance) for n in range(EVENTS)]


def _refused(n: int, chance: random.Random) -> bytes:
    network = f"198.51.{chance.randrange(2)}.{chance.randrange(250)}"
    details = {
        "account": f"eml_{chance.randrange(5000):024x}",
        "network": network,
        "decision": "dec_01m7yr8dk26x5v0gmq",
    }
    event = Event(
        type=EventType.LOGIN_FAILED, at=_BEGINNING + n / 20, success=False, ip=network, details=details,
        reason="wrong password", workload="spiffe://bank.example/rempart/gateway",
    )  # fmt: skip
    return encode(event, "people")


def _ordinary(n: int, chance: random.Random) -> bytes:
    person = f"usr_{chance.randrange(2000):026x}"
    ip, at = f"203.0.{chance.randrange(8)}.{chance.randrange(250)}", _BEGINNING + n / 20
    kind = chance.random()
    if kind < 0.05:
        details: dict[str, Any] = {"amr": ["pwd"], "known_place": True}
        return encode(Event(type=EventType.LOGIN, at=at, success=True, person=person, ip=ip, details=details), "people")
    if kind < 0.10:
        details = {"token": "refresh", "session": f"fam_{n % 2000}"}
        made = Event(type=EventType.TOKEN_REFRESHED, at=at, success=True, person=person, ip=ip, details=details)
        return encode(made, "people")
    service = chance.choice(("wallet", "payment", "users", "shop"))
    pep = chance.choice(("gateway", service))
    claims = {
        "iss": "https://bank.example/auth",
        "sub": person,
        "aud": "bank.example",
        "role": "user",
        "sid": f"fam_{person}",
    }
    document = {"pep": pep, "service": service, "method": "GET", "path": f"/{service}", "jwt": claims, "query": {}}
    return encode(
        Event(
            type=EventType.DECISION,
            at=at,
            success=chance.random() < 0.98,
            reason="people see their own wallet",
            person=person,
            role="user",
            workload=None if pep == "gateway" else "spiffe://bank.example/rempart/gateway",
            ip=ip,
            service=service,
            request_id=f"4a1f0a52-7a90-4b0e-9c67-{n:012x}",
            details={"rule": "wallet.own", "policy_version": "5e2df4983db7", "pep": pep, "method": "GET",
                     "path": f"/{service}", "status": 200, "input": document},
        ),
        "pdp",
    )  # fmt: skip
