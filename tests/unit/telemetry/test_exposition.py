"""Read back by Prometheus' own client library."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from rempart.telemetry.exposition import Exposition

LABEL = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(LABEL, st.floats(-1e300, 1e300) | st.integers(0, 10**14), max_size=5))
def test_what_is_written_is_what_is_read(values: dict[str, float]) -> None:
    page = Exposition()
    page.family(
        "one_total", "counter", "Of each", [({"name": name, "of": "x"}, value) for name, value in values.items()]
    )
    page.single("two", "gauge", "Alone", 7)
    one, two = text_string_to_metric_families(page.text())
    assert (one.name, one.type, one.documentation) == ("one", "counter", "Of each")
    read = {sample.labels["name"]: sample.value for sample in one.samples}
    assert read.keys() == values.keys()
    assert all(abs(read[name] - value) <= abs(value) * 1e-14 or read[name] == value for name, value in values.items())
    assert [sample.value for sample in two.samples] == [7]


def test_numbers_are_written_as_short_as_they_are() -> None:
    page = Exposition()
    page.single("a", "gauge", "A", 0.1 + 0.2)
    page.single("b", "gauge", "B", True)
    page.single("c", "gauge", "C", 1795317780)
    assert [line for line in page.text().splitlines() if not line.startswith("#")] == ["a 0.3", "b 1", "c 1795317780"]
