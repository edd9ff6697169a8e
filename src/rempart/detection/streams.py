"""Test streams: for each rule events that must alert and events that must not, as data beside the rules.

A file `streams/RULE.yaml` is a list of streams:

    - stream: what happens, in words
      gives: {RULE: 1}           # every alert there is, by rule; {} for none
      places: {203.0.113.0/24: [FR, 48.9, 2.4]}
      events:
        - {type: people.login_failed, repeat: 10, every: 20s, details: {account: "eml_{n}"}}

An event is written as in `unmapped.rempart`; what every event has is filled in. `at` is an offset from the stream's
beginning, by default where the last one ended; `repeat`, `every` tell it again with `{n}` counted up; `again: true`
tells all events of the stream so far once more, as a journal that is read twice does. Signals (level low) don't count.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rempart.kernel.event import Severity

from .engine import Engine
from .matching import refuse
from .model import Alert
from .ports import Place
from .ruleset import Ruleset

BEGINNING = 1_767_225_600.0  # 2026-01-01T00:00:00Z
_OFFSET = re.compile(r"(-?[0-9]{1,7})(ms|s|m|h|d|)")
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_MAX_EVENTS = 100_000
_SOURCES = {"decision": "pdp", "people": "people", "workloads": "identity", "money": "sequencer", "mesh": "sequencer"}


@dataclass(frozen=True, slots=True)
class Stream:
    """`gives` is how many alerts of which rule must come."""

    rule: str
    name: str
    gives: Mapping[str, int]
    events: Sequence[Mapping[str, Any]]
    places: Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Result:
    stream: Stream
    got: Mapping[str, int]

    @property
    def ok(self) -> bool:
        return dict(self.got) == dict(self.stream.gives)


class FixedPlaces:
    """Implements `ports.Places` with a handful of networks."""

    def __init__(self, places: Mapping[str, Sequence[Any]]) -> None:
        self._places = [
            (ipaddress.ip_network(str(network)), Place(str(country), float(latitude), float(longitude)))
            for network, (country, latitude, longitude) in places.items()
        ]

    def locate(self, ip: str) -> Place | None:
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return None
        return next((place for network, place in self._places if address in network), None)


def read_streams(path: Path) -> list[Stream]:
    """Raises BadInput `bad_rule`."""
    import yaml

    try:
        content = yaml.safe_load(path.read_bytes())
        return [
            Stream(
                path.name.removesuffix(".yaml"),
                str(one["stream"]),
                {str(rule): int(count) for rule, count in one["gives"].items()},
                tuple(_expand(one["events"])),
                one.get("places") or {},
            )
            for one in content
        ]
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise refuse(path.name, f"its streams can't be read: {' '.join(str(error).split())[:200]!r}") from None


def streams_of(directories: Sequence[Path]) -> list[Stream]:
    """All streams below the rule directories."""
    files = [path for directory in directories for path in sorted(directory.glob("**/streams/*.yaml"))]
    return [stream for path in files for stream in read_streams(path)]


def missing_streams(ruleset: Ruleset, streams: Sequence[Stream]) -> list[str]:
    """What keeps a rule that alerts from being tested: it needs a stream that does and one that does not."""
    engine = Engine(ruleset)
    problems = []
    for rule in engine.rules:
        if not rule.alerts or not engine.speaks(rule.name):
            continue
        own = [stream for stream in streams if stream.rule == rule.name]
        if not any(rule.name in stream.gives for stream in own):
            problems.append(f"{rule.name} has no stream that makes it alert")
        if not any(not stream.gives for stream in own):
            problems.append(f"{rule.name} has no stream that makes nothing alert")
    return problems


def run_stream(stream: Stream, ruleset: Ruleset) -> tuple[Result, list[Alert]]:
    """With a new engine; the stream's places replace the ruleset's."""
    ruleset.enrichment.use(FixedPlaces(stream.places))
    engine = Engine(ruleset)
    alerts = [alert for event in stream.events for alert in engine.take_own(event)]
    spoken = [alert for alert in alerts if alert.severity not in (Severity.INFO, Severity.LOW)]
    return Result(stream, Counter(alert.rule for alert in spoken)), alerts


def _expand(templates: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    clock = 0.0
    told: list[dict[str, Any]] = []
    for template in templates:
        if template.get("again"):
            yield from list(told)
            continue
        rest = {name: value for name, value in template.items() if name not in ("repeat", "every", "at")}
        clock = _seconds(template["at"]) if "at" in template else clock
        for n in range(int(template.get("repeat", 1))):
            if len(told) >= _MAX_EVENTS:
                raise ValueError(f"more than {_MAX_EVENTS} events")
            event = {
                "id": f"evt_{len(told)}",
                "source": _SOURCES.get(str(rest.get("type")).partition(".")[0], "supervisor"),
                "success": True,
                "severity": "info",
                "at": int((BEGINNING + clock) * 1000),
                **_filled(rest, n),
            }
            told.append(event)
            yield event
            clock += _seconds(template.get("every", "1s"))


def _seconds(text: object) -> float:
    found = _OFFSET.fullmatch(str(text))
    if not found:
        raise ValueError(f"{text!r} is no offset such as 20s or 3h")
    return int(found[1]) * _UNITS[found[2]]


def _filled(value: Any, n: int) -> Any:
    if isinstance(value, str):
        return value.replace("{n}", str(n))
    if isinstance(value, dict):
        return {str(name): _filled(inner, n) for name, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, n) for inner in value]
    return value
