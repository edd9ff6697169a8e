"""Run attacks against a scene, and find in the record what they left there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from rempart.kernel.errors import RempartError

from .model import Attack, Finding, Outcome, Trace, got_through, not_tried
from .record import Record
from .registered import unregister
from .scene import Scene
from .wire import NoAnswer

_WORKERS = 4
_REFUSED = Trace(("mesh.request_refused",))
_RECORDED_WITHIN = 6.0  # seconds; the sequencer is a second behind at most


@dataclass(frozen=True, slots=True)
class Report:
    """`findings` in the order of the catalog. `tried` leaves out what could not be tried here."""

    findings: Sequence[Finding]

    @property
    def tried(self) -> int:
        return sum(finding.blocked is not None for finding in self.findings)

    @property
    def blocked(self) -> int:
        return sum(finding.blocked is True for finding in self.findings)

    def document(self) -> dict[str, Any]:
        return {
            "attacks": [finding.document() for finding in self.findings],
            "tried": self.tried,
            "blocked": self.blocked,
            "not_tried": len(self.findings) - self.tried,
        }


@dataclass(frozen=True, slots=True)
class _Run:
    attack: Attack
    outcome: Outcome
    start: float
    end: float
    sources: frozenset[str]


def run(scene: Scene, attacks: Sequence[Attack], progress: Callable[[Finding], None] = lambda finding: None) -> Report:
    """Four at a time; those that need to be alone one after the other. `progress` is called as each ends, before its
    evidence is looked up, from any thread."""
    began = time.time()
    for role, index in {(account.role, 0) for account in scene.accounts} | {("user", 1)}:
        scene.session(role, index)

    def one(attack: Attack) -> _Run:
        ran = _run(scene, attack)
        progress(_finding(ran, ""))
        return ran

    with ThreadPoolExecutor(_WORKERS) as pool:
        runs = list(pool.map(one, [attack for attack in attacks if not attack.alone]))
    runs += [one(attack) for attack in attacks if attack.alone]
    unregister(scene)
    findings = {finding.attack.id: finding for finding in _with_evidence(scene, began, runs)}
    return Report([findings[attack.id] for attack in attacks])


def _run(scene: Scene, attack: Attack) -> _Run:
    scene.take_sources()
    scene.new_source()
    start = time.time()
    try:
        missing = scene.lacks(attack.needs)
        outcome = not_tried(f"this application has no {missing}") if missing else attack.run(scene)
    except NoAnswer as refusal:
        outcome = got_through(f"the attack broke off: {refusal}")
    except (RempartError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        outcome = got_through(f"the attack failed, which proves nothing: {type(error).__name__}: {error}")
    return _Run(attack, outcome, start, time.time(), scene.take_sources())


def _finding(ran: _Run, evidence: str) -> Finding:
    outcome = ran.outcome
    return Finding(ran.attack, outcome.blocked, outcome.observed, outcome.stopped_by, evidence)


def _with_evidence(scene: Scene, began: float, runs: Sequence[_Run]) -> list[Finding]:
    """Ids and traces are held against the record until all are found or time is up."""
    record = Record(scene, began)
    deadline = time.monotonic() + _RECORDED_WITHIN
    while True:
        try:
            record.read()
        except NoAnswer:
            record.events = []
        findings = [_finding(ran, _evidence(record, ran)) for ran in runs]
        if all(finding.evidence or not _expected(ran) for finding, ran in zip(findings, runs, strict=True)):
            break
        if time.monotonic() >= deadline:
            break
        time.sleep(0.5)
    return [
        replace(f, evidence=f.evidence or ("not in the record" if _expected(r) else ""))
        for f, r in zip(findings, runs, strict=True)
    ]


def _expected(ran: _Run) -> bool:
    return ran.outcome.blocked is True and bool(ran.outcome.evidence)


def _evidence(record: Record, ran: _Run) -> str:
    evidence = ran.outcome.evidence
    if isinstance(evidence, Trace):
        event = record.by_trace(evidence, ran.start, ran.end, ran.sources)
        return str(event["id"]) if event else ""
    if " " in evidence or "/" in evidence or not evidence:
        return evidence
    event = record.by_id(evidence)
    if event is None and not evidence.startswith("dec_"):  # refused before any decision; alike ones are recorded once
        event = record.by_trace(_REFUSED, ran.start, ran.end, ran.sources)
    return str(event["id"]) if event else ""
