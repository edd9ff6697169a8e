"""What `spire-server entry show -output json` prints becomes entries of ours, and what can't is named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.unit.workloads.doubles import DOMAIN

from rempart.kernel.errors import BadInput
from rempart.workloads.entry_document import parse_document
from rempart.workloads.spire_entries import convert

AGENT = {"trust_domain": DOMAIN, "path": "/spire/agent/x509pop/1"}


def printed(path: str = "/web", **more: Any) -> dict[str, Any]:
    """One entry with every field, in the shapes that protojson gives them (spire-api-sdk, types.Entry)."""
    return {
        "id": f"id-{path}",
        "spiffe_id": {"trust_domain": DOMAIN, "path": path},
        "parent_id": AGENT,
        "selectors": [{"type": "unix", "value": "uid:1000"}, {"type": "k8s", "value": "pod-label:app:web"}],
        "x509_svid_ttl": 600,
        "federates_with": ["partner.example"],
        "admin": True,
        "downstream": False,
        "expires_at": "1800000000",
        "dns_names": ["web.internal"],
        "revision_number": "3",
        "store_svid": False,
        "jwt_svid_ttl": 120,
        "hint": "internal",
        "created_at": "1700000000",
        **more,
    }


def shown(*entries: dict[str, Any]) -> str:
    return json.dumps({"entries": list(entries), "next_page_token": ""})


def test_every_field_arrives() -> None:
    converted = convert(shown(printed()))
    assert not converted.skipped
    (entry,) = parse_document(list(converted.entries), DOMAIN)
    document = entry.document()
    assert document == {
        "id": "",
        "spiffe_id": f"spiffe://{DOMAIN}/web",
        "parent_id": f"spiffe://{DOMAIN}/spire/agent/x509pop/1",
        "selectors": ["k8s:pod-label:app:web", "unix:uid:1000"],
        "ttl": 600,
        "jwt_ttl": 120,
        "dns_names": ["web.internal"],
        "federates_with": ["partner.example"],
        "admin": True,
        "downstream": False,
        "hint": "internal",
        "expires_at": 1_800_000_000.0,
        "fixed": False,
    }


def test_zero_means_none() -> None:
    converted = convert(shown(printed(expires_at="0", x509_svid_ttl=0, jwt_svid_ttl=0)))
    (entry,) = parse_document(list(converted.entries), DOMAIN)
    assert (entry.ttl, entry.jwt_ttl, entry.expires_at) == (0, 0, None)


def test_what_is_not_for_a_workload_here_is_skipped_with_its_reason() -> None:
    server = {"trust_domain": DOMAIN, "path": "/spire/server"}
    other = {"trust_domain": DOMAIN, "path": "/spire/agent/x509pop/2"}
    converted = convert(
        shown(
            printed(),
            printed("/alias", parent_id=server),
            printed("/host", parent_id=other, selectors=[{"type": "spiffe_id", "value": f"spiffe://{DOMAIN}/x"}]),
            printed("/aws", selectors=[{"type": "aws_iid", "value": "tag:name:x"}]),
            printed("/stored", store_svid=True),
            printed("/elsewhere", parent_id=other),
        ),
        parent=f"spiffe://{DOMAIN}{AGENT['path']}",
    )
    assert [entry["spiffe_id"] for entry in converted.entries] == [f"spiffe://{DOMAIN}/web"]
    assert [name for name, _ in converted.skipped] == [
        "id-/alias",
        "id-/host",
        "id-/aws",
        "id-/stored",
        "id-/elsewhere",
    ]


def test_the_alias_of_an_agent_with_a_join_token_is_no_second_parent() -> None:
    """`spire-server token generate -spiffeID spiffe://…/host` makes one, whose parent is the agent itself."""
    agent = {"trust_domain": DOMAIN, "path": "/spire/agent/join_token/1"}
    alias = [{"type": "spiffe_id", "value": f"spiffe://{DOMAIN}{agent['path']}"}]
    converted = convert(shown(printed(), printed("/host", parent_id=agent, selectors=alias)))
    assert [entry["spiffe_id"] for entry in converted.entries] == [f"spiffe://{DOMAIN}/web"]
    assert [name for name, _ in converted.skipped] == ["id-/host"]


def test_several_parents_need_one_named() -> None:
    other = {"trust_domain": DOMAIN, "path": "/spire/agent/x509pop/2"}
    with pytest.raises(BadInput) as refusal:
        convert(shown(printed(), printed("/b", parent_id=other)))
    assert refusal.value.code == "several_parents"


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", '{"entries": 1}', '{"entries": [1]}', '{"entries": [{}]}'),
        *(shown(printed(selectors=[{}])), shown(printed(spiffe_id="x")), shown(printed(expires_at="soon"))),
    ],
)
def test_what_spire_did_not_print_is_refused(text: str) -> None:
    with pytest.raises(BadInput) as refusal:
        convert(text)
    assert refusal.value.code == "bad_spire_entries"
