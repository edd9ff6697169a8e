"""The fast writer of decisions makes the document that the general one makes."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from rempart.policy.record import Ruling, as_event, encode
from rempart.protocols import ocsf

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=200)
@given(
    allow=st.booleans(),
    rule=_text,
    reason=_text,
    method=st.sampled_from(["GET", "POST", "PATCH", "PROPFIND", "DELETE"]),
    path=_text,
    service=_text,
    person=_text,
    role=_text,
    workload=_text,
    ip=_text,
    request_id=_text,
    trace_id=_text,
    code=st.sampled_from(["", "forbidden", "multiple_uri_sans", "invalid_token"]),
    failure=_text,
    question=st.sampled_from(["", '{"method":"GET","jwt":null}']),
)
def test_it_is_the_same_document(
    allow: bool,
    rule: str,
    reason: str,
    method: str,
    path: str,
    service: str,
    person: str,
    role: str,
    workload: str,
    ip: str,
    request_id: str,
    trace_id: str,
    code: str,
    failure: str,
    question: str,
) -> None:
    ruling = Ruling(
        id="dec_1",
        at=1_700_000_000.123,
        pep="gateway",
        allow=allow,
        rule=rule,
        reason=reason,
        policy_version="v1",
        method=method,
        path=path,
        quoted_path=json.dumps(path),
        service=service,
        code=code,
        status=200 if allow else 403,
        person=person,
        role=role,
        workload=workload,
        ip=ip,
        request_id=request_id,
        trace_id=trace_id,
        token_failure=failure,
        input_json=question,
    )
    assert msgspec.json.decode(encode(ruling, "pdp")) == msgspec.json.decode(ocsf.encode(as_event(ruling), "pdp"))


def test_what_is_too_long_is_cut_and_still_recorded() -> None:
    long = json.dumps({"query": "x" * 70_000})
    ruling = Ruling(
        id="dec_1",
        at=1.0,
        pep="gateway",
        allow=False,
        rule="r",
        reason="",
        policy_version="v",
        method="GET",
        path="/",
        quoted_path='"/"',
        service="",
        input_json=long,
    )
    payload = encode(ruling, "pdp")
    assert len(payload) <= ocsf.MAX_BYTES
    assert ocsf.decode_summary(payload).id == "dec_1"
