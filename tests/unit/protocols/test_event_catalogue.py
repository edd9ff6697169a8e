"""The catalogue of events: complete, true about who emits what, valid against OCSF's published schema, documented."""

from __future__ import annotations

import ast
import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from rempart.kernel.event import Event, EventType, Severity
from rempart.protocols.event_catalogue import CATALOGUE
from rempart.protocols.event_page import page
from rempart.protocols.ocsf import VERSION, encode

ROOT = Path(__file__).parents[3]
LATER = {"attack"}
FULL: dict[str, Any] = {
    "person": "usr_1",
    "role": "user",
    "workload": "spiffe://bank.example/wallet",
    "ip": "2001:db8::1",
    "service": "wallet",
    "request_id": "r1",
    "trace_id": "0af7651916cd43dd8448eb211c80319c",
    "reason": "why",
    "before": {"a": 1},
    "after": {"a": 2},
    "details": {"rule": "r", "policy_version": "v", "method": "PATCH", "path": "/p", "status": 403, "pid": 5},
}
HOSTILE = {**FULL, "person": "\ud800", "details": {"method": "<script>", "path": "x" * 70_000, "status": "403"}}
FORMS: dict[str, dict[str, Any]] = {
    "bare": {},
    "full": FULL,
    "workload": {**FULL, "person": None},
    "operator": {"operator": "uid:0"},
    "hostile": HOSTILE,
}


@cache
def validator(class_uid: int) -> Draft202012Validator:
    """Of the class as schema.ocsf.io publishes it, which ocsf-json-schema packages; no profiles."""
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION))
    name = schema.lookup_class_name_from_uid(class_uid=class_uid)
    return Draft202012Validator(schema.get_class_schema(class_name=name, profiles=[]))


def problems(event: Event) -> list[str]:
    document = json.loads(encode(event, "pdp"))
    return [f"{list(error.path)}: {error.message}" for error in validator(document["class_uid"]).iter_errors(document)]


@pytest.mark.parametrize("kind", list(EventType))
@pytest.mark.parametrize(
    "fields",
    [{}, FULL, {**FULL, "person": None}, {"operator": "uid:0"}, HOSTILE],
    ids=["bare", "full", "workload", "operator", "hostile"],
)
def test_every_type_is_valid_ocsf_whatever_it_holds(kind: EventType, fields: dict[str, Any]) -> None:
    for severity in (Severity.INFO, Severity.CRITICAL):
        assert problems(Event(type=kind, at=1_700_000_000.5, success=False, severity=severity, **fields)) == []


def test_the_check_finds_what_is_not_ocsf() -> None:
    document = json.loads(encode(Event(type=EventType.LOGIN, at=1.0, success=True), "people"))
    document["src_endpoint"] = {"ip": "1.2.3.4", "made_up": 1}
    assert not validator(3002).is_valid(document)


def test_every_type_has_its_row() -> None:
    assert set(CATALOGUE) == set(EventType)


def test_who_emits_a_type_is_who_the_catalogue_says() -> None:
    """A type is emitted where its name stands in code, but for who only reads events."""
    found: dict[str, set[str]] = defaultdict(set)
    readers = ("attack", "backends", "detection", "pages/activity.py", "protocols", "kernel", "audit/metrics.py", "cli")
    readers += ("agents/host_record.py",)
    for path in (ROOT / "src/rempart").rglob("*.py"):
        relative = path.relative_to(ROOT / "src/rempart").as_posix()
        if any(reader in relative for reader in readers):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "EventType":
                found[node.attr].add(relative.split("/")[0])
    for kind, row in CATALOGUE.items():
        emitters, rooms = set(row.emitters), found[kind.name]
        assert rooms <= emitters | {"audit", "servers"}, f"{kind} is made by {rooms}"  # who takes others' events in
        assert rooms or emitters & (LATER | {"application", "detection"}), f"nobody makes {kind}"


def test_the_page_of_the_docs_is_made_from_it() -> None:
    written = (ROOT / "docs/events.md").read_text("utf-8")
    assert written == page(), "run `python -m rempart.protocols.event_page > docs/events.md`"
