"""Entries as people write them: every mistake has its line, nothing is guessed."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.kernel.errors import BadInput
from rempart.workloads.entry_document import parse_document
from rempart.workloads.entry_yaml import parse_yaml
from rempart.workloads.model import Selector

DOMAIN = "bank.example"
GOOD = """
entries:
  - spiffe_id: spiffe://bank.example/batch
    selectors: ["unix:uid:1000", {type: unix, value: "path:/usr/bin/batch"}]
    parent_id: spiffe://bank.example/host
    ttl: 600
    dns_names: [batch.internal]
    hint: internal
    expires_at: 2027-01-01T00:00:00Z
"""


def test_everything_that_can_be_said() -> None:
    (entry,) = parse_yaml(GOOD, DOMAIN)
    assert str(entry.spiffe_id) == "spiffe://bank.example/batch"
    assert sorted(map(str, entry.selectors)) == ["unix:path:/usr/bin/batch", "unix:uid:1000"]
    assert (entry.ttl, entry.dns_names, entry.hint) == (600, ("batch.internal",), "internal")
    assert entry.expires_at == 1_798_761_600.0


def test_a_bare_list_and_json_mean_the_same() -> None:
    (listed,) = parse_yaml("- {spiffe_id: spiffe://bank.example/b, selectors: ['unix:uid:1']}", DOMAIN)
    json = [{"spiffe_id": "spiffe://bank.example/b", "selectors": ["unix:uid:1"]}]
    assert [listed] == parse_document(json, DOMAIN) == parse_document({"entries": json}, DOMAIN)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- spiffe_id: spiffe://partner.example/b\n  selectors: ['unix:uid:1']", ":1: .*not in this trust domain"),
        ("- spiffe_id: spiffe://bank.example/rempart/gateway\n  selectors: ['unix:uid:1']", ":1: .*Rempart's own"),
        ("- spiffe_id: spiffe://bank.example/rempart\n  selectors: ['unix:uid:1']", "Rempart's own"),
        ("- spiffe_id: spiffe://bank.example\n  selectors: ['unix:uid:1']", "no workload"),
        ("\n\n- spiffe_id: spiffe://bank.example/b\n  selectors: []", ":3: selectors"),
        ("- spiffe_id: spiffe://bank.example/b", "selectors is a list"),
        ("- spiffe_id: spiffe://bank.example/b\n  selectors: ['k9s:ns:x']", "not a selector"),
        ("- spiffe_id: spiffe://bank.example/b\n  selectors: ['unix:uid:-1']", "no process could have"),
        ("- spiffe_id: spiffe://bank.example/b\n  selectors: ['unix:uid:01']", "no process could have"),
        ("- spiffe_id: spiffe://bank.example/b\n  selectors: ['unix:uid:1']\n  tll: 3", "unknown key 'tll'"),
        ("- spiffe_id: spiffe://bank.example/b\n  selectors: ['unix:uid:1']\n  ttl: -1", "ttl is a number"),
        ("- spiffe_id: spiffe://bank.example/b\n  selectors: ['unix:uid:1']\n  ttl: true", "ttl is a number"),
        ("- spiffe_id: spiffe://bank.example/b\n  selectors: ['unix:uid:1']\n  expires_at: soon", "expires_at"),
        ("- spiffe_id: spiffe://bank.example/b\n  selectors: ['unix:uid:1']\n  dns_names: ['*.x']", "dns_names"),
        ("- spiffe_id: spiffe://bank.example/b\n  spiffe_id: spiffe://bank.example/c", ":2: .*twice"),
        ("- &a {spiffe_id: x}\n- *a", ":2: aliases"),
        ("a: [", ":1"),
        ("", "no list"),
        ("other: []", "one key"),
        ("- !!python/object/apply:os.system ['true']", ":1: could not determine a constructor"),
        ("- x", "an entry is a map"),
    ],
)
def test_mistakes_are_told_with_their_line(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as refusal:
        parse_yaml(text, DOMAIN, name="e.yaml")
    assert refusal.value.code == "bad_entries"


def test_all_mistakes_are_told_together() -> None:
    text = "- {spiffe_id: a, selectors: [b]}\n- {spiffe_id: c, selectors: []}"
    with pytest.raises(BadInput) as refusal:
        parse_yaml(text, DOMAIN, name="e.yaml")
    assert len(refusal.value.reason.splitlines()) == 4


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.text(max_size=80), st.text(alphabet="-:{}[]&*!|>'\"\n \tab0spiffe_id,", max_size=80)))
def test_any_text_is_entries_or_bad_input(text: str) -> None:
    with contextlib.suppress(BadInput):
        parse_yaml(text, DOMAIN)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["spiffe_id", "selectors", "ttl", "dns_names", "hint", "expires_at", "parent_id", "x"]),
            _JSON,
        ),
        max_size=3,
    )
)
def test_any_document_is_entries_or_bad_input(document: object) -> None:
    with contextlib.suppress(BadInput):
        parse_document(document, DOMAIN)


@given(st.text(max_size=60))
@settings(max_examples=100, deadline=None)
def test_a_selector_reads_back_as_it_was_written(text: str) -> None:
    for prefix in ("unix:path:/", "unix:uid:", "supervisor:service:", ""):
        try:
            selector = Selector.parse(prefix + text)
        except BadInput:
            continue
        assert str(selector) == prefix + text


def test_every_field_of_an_entry_can_be_written() -> None:
    text = """
spiffe_id: spiffe://bank.example/batch
parent_id: spiffe://bank.example/agent
selectors: ["unix:supplementary_group:audit", "systemd:fragment_path:/etc/systemd/system/b.service", "k8s:ns:prod"]
ttl: {x509: 600, jwt: 60}
dns_names: [batch.internal]
federates_with: [partner.example, "spiffe://other.example"]
admin: true
downstream: true
hint: internal
expires_at: 2027-01-01T00:00:00Z
"""
    (entry,) = parse_yaml(text, "bank.example")
    assert (entry.ttl, entry.jwt_ttl, entry.admin, entry.downstream) == (600, 60, True, True)
    assert entry.federates_with == ("other.example", "partner.example")
    assert len(entry.selectors) == 3


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ttl: {x509: 1, other: 2}", "ttl is"),
        ("ttl: {jwt: -1}", "ttl is"),
        ("ttl: true", "ttl is"),
        ("admin: 1", "admin is true or false"),
        ("downstream: 'yes'", "downstream is true or false"),
        ("federates_with: partner.example", "federates_with is a list"),
        ("federates_with: ['UPPER.example']", "federates_with: "),
        ("federates_with: [bank.example]", "names this trust domain itself"),
    ],
)
def test_a_wrong_field_is_named(line: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        parse_yaml(f"spiffe_id: spiffe://bank.example/b\nselectors: ['unix:uid:1']\n{line}", "bank.example")
