"""Prometheus' text exposition format 0.0.4: read pages of many components, write them as one.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/, "Text-based format". Within a page all lines of a
family stand together and HELP and TYPE appear once at most; two components that count the same thing break that when
their pages are merely joined.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_TYPES = frozenset({"counter", "gauge", "histogram", "summary", "untyped"})
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\[\\"n])*"'
_SAMPLE = re.compile(
    rf"({_NAME})[ \t]*(?:\{{[ \t]*((?:{_LABEL}(?:[ \t]*,[ \t]*|(?=[ \t]*\}})))*)[ \t]*\}})?"
    r"[ \t]*([^ \t]+)(?:[ \t]+(-?\d+))?"
)
_META = re.compile(rf"#[ \t]+(HELP|TYPE)[ \t]+({_NAME})(?:[ \t]+(.*))?")
_OWN_LABEL = re.compile(r'(?<![a-zA-Z0-9_])component="')
_PARTS = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}


class MalformedPage(ValueError):
    """A page isn't in the format; the text names the line."""


@dataclass(slots=True)
class Family:
    """`samples` are `(name, labels as written, without braces; value)`, in the order of the page."""

    name: str
    type: str = "untyped"
    help: str = ""
    samples: list[tuple[str, str, str]] = field(default_factory=list)


def parse(page: str) -> list[Family]:
    """The families of one page, each once; raises MalformedPage.

    Timestamps are dropped: a merged page is read at one moment.
    """
    families: dict[str, Family] = {}
    owner: dict[str, str] = {}  # sample name → family, for the parts of histograms and summaries
    for number, raw in enumerate(page.split("\n"), 1):
        line = raw.strip(" \t\r")
        if not line:
            continue
        if line[0] == "#":
            meta = _META.fullmatch(line)
            if meta is not None:
                _describe(families, owner, meta, number)
            continue
        sample = _SAMPLE.fullmatch(line)
        if sample is None or not _is_number(sample[3]):
            raise MalformedPage(f"line {number} is not a sample")
        name, labels, value, _ = sample.groups()
        family = owner.get(name, name)
        families.setdefault(family, Family(family)).samples.append((name, (labels or "").rstrip(" \t,"), value))
    return [family for family in families.values() if family.samples]


def _describe(families: dict[str, Family], owner: dict[str, str], meta: re.Match[str], number: int) -> None:
    kind, name, text = meta.groups()
    family = families.setdefault(name, Family(name))
    if kind == "HELP":
        family.help = text or ""
        return
    if text not in _TYPES:
        raise MalformedPage(f"line {number} names an unknown type")
    if family.samples:
        raise MalformedPage(f"line {number} gives the type of {name} after its samples")
    family.type = text
    for suffix in _PARTS.get(text, ()):
        owner[name + suffix] = name


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


@dataclass(frozen=True)
class Merged:
    """`text` is the page; `conflicts` counts, for each component, the families left out because another component
    gives the same name another type."""

    text: str
    conflicts: Mapping[str, int]


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
            into.samples += [(name, _with(mark, labels), value) for name, labels, value in family.samples]
    return Merged("".join(_lines(merged)), conflicts)


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
        for name, labels, value in family.samples:
            yield f"{name}{{{labels}}} {value}\n"


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
