"""The merged page is one that Prometheus reads, whatever the components' pages were."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as text_string_to_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from rempart.detection.exposition import MalformedPage, gauge, merge, parse


def page_of(*values: int) -> str:
    registry = CollectorRegistry()
    counter = Counter("rempart_things_total", "Things.", ["kind"], registry=registry)
    histogram = Histogram("rempart_wait_seconds", "Waiting.", registry=registry)
    for value in values:
        counter.labels('a "quoted" \\ kind\n' if value % 2 else "plain").inc(value)
        histogram.observe(value)
    return generate_latest(registry).decode()


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (s.name, frozenset(s.labels.items())): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_each_family_stands_once_with_the_samples_of_all_components() -> None:
    text = merge({"pdp": parse(page_of(1, 2)), "people": parse(page_of(3))}).text
    assert text.count("# TYPE rempart_things_total counter") == 1
    assert text.count("# HELP rempart_things_total") == 1
    expected = {
        (name, labels | {("component", component)}): value
        for component, page in (("pdp", page_of(1, 2)), ("people", page_of(3)))
        for (name, labels), value in samples(page).items()
    }
    merged = samples(text)
    created = {key for key in merged if key[0].endswith("_created")}
    assert {k: v for k, v in merged.items() if k not in created} == {
        k: v for k, v in expected.items() if not k[0].endswith("_created")
    }


def test_a_samples_own_component_label_is_kept_under_another_name() -> None:
    assert (
        'a{component="pdp",exported_component="x",of_component="y"} 1'
        in merge({"pdp": parse('a{component="x",of_component="y"} 1\n')}).text
    )


def test_a_family_of_another_type_is_left_out_and_counted() -> None:
    merged = merge({"one": parse("# TYPE a counter\na 1\n"), "two": parse("# TYPE a gauge\na 2\nb 3\n")})
    assert merged.conflicts == {"one": 0, "two": 1}
    assert 'a{component="two"}' not in merged.text
    assert 'b{component="two"} 3' in merged.text


@pytest.mark.parametrize(
    "page",
    [
        "a",
        "a{",
        'a{b="} 1',
        "a{b=c} 1",
        "1a 1",
        "a one",
        "a 1 2 3",
        "# TYPE a strange\n",
        "a 1\n# TYPE a counter\n",
        "a 1_0",
    ],
)
def test_a_malformed_page_is_refused(page: str) -> None:
    with pytest.raises(MalformedPage, match="line"):
        parse(page)


@pytest.mark.parametrize(
    "page", ['a{b="} 1"} 2\n', 'a{b="c",} 1\n', "a +Inf\n", "a NaN 1700000000000\n", "# a remark\na 1\r\n", "\n"]
)
def test_what_the_format_allows_is_read(page: str) -> None:
    parse(page)


@settings(max_examples=60)
@given(st.text(alphabet=st.sampled_from('a1_:{}=",\\ \n#TYPE'), max_size=60))
def test_any_text_is_read_or_refused(page: str) -> None:
    try:
        families = parse(page)
    except MalformedPage:
        return
    assert merge({"x": families}).openmetrics  # any of it can be written
    again = parse(merge({"x": families}).text)
    assert sum(len(f.samples) for f in again) == sum(len(f.samples) for f in families)


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=8), st.floats(allow_nan=False), max_size=4))
def test_a_gauge_names_its_components_whatever_they_are_called(values: dict[str, float]) -> None:
    text = gauge("rempart_component_up", "Up.", values)
    assert sum(len(f.samples) for f in parse(text)) == len(values)


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool isn't installed")
def test_promtool_accepts_the_page() -> None:
    registry = CollectorRegistry()
    Gauge("rempart_audit_lag_seconds", "Lag.", registry=registry).set(0.5)
    pages = {"pdp": parse(page_of(1)), "people": parse(page_of(2)), "log": parse(generate_latest(registry).decode())}
    text = gauge("rempart_component_up", "1 when the component answered.", {"pdp": 1, "dead": 0}) + merge(pages).text
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr + checked.stdout


def test_examples_of_a_component_are_in_the_page_for_who_reads_them() -> None:
    registry = CollectorRegistry()
    seconds = Histogram("rempart_people_request_seconds", 'Time "from" request', registry=registry, buckets=(0.5, 1))
    seconds.observe(0.3, {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"})
    Counter("rempart_logins", "Logins", registry=registry).inc(2)
    envoys = '# TYPE envoy_ms histogram\nenvoy_ms_bucket{le="1"} 3\nenvoy_ms_bucket{le="+Inf"} 3\nenvoy_ms_count 3\n'
    envoys += "envoy_ms_sum 2\n# TYPE envoy_cx counter\nenvoy_cx 4\n# TYPE envoy_odd untyped\nenvoy_odd 5\n"
    merged = merge({"people": parse(openmetrics.generate_latest(registry).decode()), "gateway": parse(envoys)})
    families = {family.name: family for family in text_string_to_openmetrics(merged.openmetrics)}
    assert families["rempart_logins"].type == "counter"
    assert families["envoy_cx"].type == families["envoy_odd"].type == "unknown"
    assert families["envoy_ms"].samples[0].labels["le"] == "1.0"
    examples = [s.exemplar for s in families["rempart_people_request_seconds"].samples if s.exemplar]
    assert [(one.labels, one.value) for one in examples] == [({"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}, 0.3)]
    assert samples(merged.text)[("rempart_logins_total", frozenset({("component", "people")}))] == 2
    assert "trace_id" not in merged.text
