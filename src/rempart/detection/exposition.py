"""Prometheus' text exposition format 0.0.4 and OpenMetrics 1.0: read pages of many components, write them as one.

Sources: https://prometheus.io/docs/instrumenting/exposition_formats/, "Text-based format", and OpenMetrics 1.0, "Text
format", which has exemplars besides. Within a page all lines of a family stand together and HELP and TYPE appear once
at most; two components that count the same thing break that when their pages are merely joined.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client.utils import floatToGoString

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_TYPES = frozenset({"counter", "gauge", "histogram", "summary", "untyped"})
_EOF = "# EOF"
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\[\\"n])*"'
_SAMPLE = re.compile(
    rf"({_NAME})[ \t]*(?:\{{[ \t]*((?:{_LABEL}(?:[ \t]*,[ \t]*|(?=[ \t]*\}})))*)[ \t]*\}})?"
    r"[ \t]*([^ \t]+)(?:[ \t]+(-?\d+(?:\.\d+)?))?"
    rf"(?: # (\{{(?:{_LABEL},?){{0,4}}\}} [0-9.eE+-]+(?: [0-9.]+)?))?"
)
_META = re.compile(rf"#[ \t]+(HELP|TYPE)[ \t]+({_NAME})(?:[ \t]+(.*))?")
_OWN_LABEL = re.compile(r'(?<![a-zA-Z0-9_])component="')
_BOUND = re.compile(r'(?<![a-zA-Z0-9_])(le|quantile)="([^"\\]*)"')
_PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}


class MalformedPage(ValueError):
    """A page isn't in the format; the text names the line."""


@dataclass(slots=True)
class Family:
    """`samples` are `(name, labels as written, without braces; value; exemplar as written, or empty)`, in the order of
    the page. `name` and `type` are those of format 0.0.4: a counter's name ends as its samples' do."""

    name: str
    type: str = "untyped"
    help: str = ""
    samples: list[tuple[str, str, str, str]] = field(default_factory=list)


def parse(page: str) -> list[Family]:
    """The families of one page, each once; raises MalformedPage.

    Timestamps are dropped: a merged page is read at one moment. A page that ends as OpenMetrics must is OpenMetrics.
    """
    openmetrics = page.rstrip().endswith(_EOF)
    families: dict[str, Family] = {}
    owner: dict[str, str] = {}  # sample name → family, for the parts of histograms and summaries
    for number, raw in enumerate(page.split("\n"), 1):
        line = raw.strip(" \t\r")
        if not line:
            continue
        if line[0] == "#":
            meta = _META.fullmatch(line)
            if meta is not None:
                _describe(families, owner, meta, number, openmetrics)
            continue
        sample = _SAMPLE.fullmatch(line)
        if sample is None or not _is_number(sample[3]):
            raise MalformedPage(f"line {number} is not a sample")
        name, labels, value, _, exemplar = sample.groups()
        if not (family := owner.get(name, name)):
            continue
        labels = (labels or "").rstrip(" \t,")
        families.setdefault(family, Family(family)).samples.append((name, labels, value, exemplar or ""))
    return [family for family in families.values() if family.samples]


def _describe(
    families: dict[str, Family], owner: dict[str, str], meta: re.Match[str], number: int, openmetrics: bool
) -> None:
    kind, name, text = meta.groups()
    if openmetrics and kind == "TYPE":
        name, text = _as_before(families, owner, name, text)
    family = families.setdefault(name, Family(name))
    if kind == "HELP":
        family.help = (text or "").replace('\\"', '"') if openmetrics else text or ""
        return
    if text not in _TYPES:
        raise MalformedPage(f"line {number} names an unknown type")
    if family.samples:
        raise MalformedPage(f"line {number} gives the type of {name} after its samples")
    family.type = text
    for suffix in _PARTS.get(text, ()):
        owner[name + suffix] = name


def _as_before(families: dict[str, Family], owner: dict[str, str], name: str, text: str) -> tuple[str, str]:
    """A family of OpenMetrics by the name and type it has in 0.0.4. When series began is left out."""
    if text in ("counter", "histogram", "summary"):
        owner[f"{name}_created"] = ""
    if text == "counter":
        described = families.pop(name, Family(name))
        described.name = name = f"{name}_total"
        families[name] = described
    return name, text if text in _TYPES else "untyped"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


@dataclass(frozen=True)
class Merged:
    """`conflicts` counts, for each component, the families left out because another component gives the same name
    another type."""

    families: Mapping[str, Family]
    conflicts: Mapping[str, int]

    @property
    def text(self) -> str:
        return "".join(_lines(self.families))

    @property
    def openmetrics(self) -> str:
        """With exemplars. A counter that isn't named as OpenMetrics wants (Envoy's) is of unknown type there."""
        return "".join(_openmetrics_lines(self.families)) + _EOF + "\n"


def merge(pages: Mapping[str, list[Family]]) -> Merged:
    """One page of all families, each sample with `component="NAME"`; its own label of that name becomes `exported_…`.

    The first component that names a family settles its type and help.
    """
    merged: dict[str, Family] = {}
    conflicts = dict.fromkeys(pages, 0)
    for component, families in pages.items():
        mark = f'component="{escape(component)}"'
        for family in families:
            into = merged.setdefault(family.name, Family(family.name, family.type, family.help))
            if into.type != family.type:
                conflicts[component] += 1
                continue
            into.help = into.help or family.help
            into.samples += [(name, _with(mark, labels), value, seen) for name, labels, value, seen in family.samples]
    return Merged(merged, conflicts)


def _with(mark: str, labels: str) -> str:
    if not labels:
        return mark
    if 'component="' in labels:
        labels = _rename(labels)
    return f"{mark},{labels}"


def _rename(labels: str) -> str:
    pairs = re.findall(_LABEL, labels)
    return ",".join("exported_" + pair if _OWN_LABEL.match(pair) else pair for pair in pairs)


def _lines(families: Mapping[str, Family]) -> Iterator[str]:
    for family in families.values():
        if family.help:
            yield f"# HELP {family.name} {family.help}\n"
        yield f"# TYPE {family.name} {family.type}\n"
        for name, labels, value, _ in family.samples:
            yield f"{name}{{{labels}}} {value}\n"


def _openmetrics_lines(families: Mapping[str, Family]) -> Iterator[str]:
    for family in families.values():
        name, kind = family.name, family.type
        if kind == "counter" and name.endswith("_total") and name.removesuffix("_total") not in families:
            name = name.removesuffix("_total")
        elif kind in ("counter", "untyped"):
            kind = "unknown"
        if family.help:
            help = family.help.replace('"', '\\"')
            yield f"# HELP {name} {help}\n"
        yield f"# TYPE {name} {kind}\n"
        for sample, labels, value, exemplar in family.samples:
            if kind in ("histogram", "summary"):
                labels = _BOUND.sub(_canonical, labels)
            kept = f" # {exemplar}" if exemplar and kind in ("histogram", "counter") else ""
            yield f"{sample}{{{labels}}} {value}{kept}\n"


def _canonical(bound: re.Match[str]) -> str:
    """OpenMetrics 1.0, "Considerations: Canonical Numbers": 1 is 1.0."""
    if not _is_number(bound[2]):
        return bound[0]
    number = floatToGoString(float(bound[2]))  # type: ignore[no-untyped-call]  # prometheus_client has no types there
    return f'{bound[1]}="{number}"'


def gauge(name: str, about: str, values: Mapping[str, float]) -> str:
    """One gauge by component, as text; an empty string without values."""
    if not values:
        return ""
    rows = "".join(f'{name}{{component="{escape(key)}"}} {_number(value)}\n' for key, value in values.items())
    return f"# HELP {name} {about}\n# TYPE {name} gauge\n{rows}"


def _number(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and value == int(value) else repr(value)


def escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
