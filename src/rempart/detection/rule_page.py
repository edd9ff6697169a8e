"""The list of rules in docs/detections.md, from the rule files: `python -m rempart.detection.rule_page` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .engine import Engine, in_words
from .rule import Correlation, Kind
from .ruleset import BUILT_IN, Ruleset, load

_SEVERITIES = ("critical", "high", "medium")
_BEGIN, _END = "<!-- rules: python -m rempart.detection.rule_page -->\n", "<!-- end of rules -->"


def documents(directories: Sequence[Path]) -> list[dict[str, Any]]:
    """Every rule that alerts, the most severe first: `{rule, severity, attack, title, description, …}`."""
    ruleset = load([BUILT_IN, *directories])
    engine = Engine(ruleset)
    found = [
        {
            "rule": rule.name,
            "id": rule.id,
            "severity": str(rule.severity),
            "attack": list(rule.attack),
            "title": rule.title,
            "description": rule.description,
            "how": _how(rule, ruleset),
            "falsepositives": list(rule.falsepositives),
        }
        for rule in ruleset.rules
        if engine.speaks(rule.name) and rule.alerts
    ]
    return sorted(found, key=lambda one: (_SEVERITIES.index(one["severity"]), one["rule"]))


def page() -> str:
    """Markdown."""
    lines = [
        "| rule | severity | ATT&CK | what happened | when | what else may cause it |",
        "|---|---|---|---|---|---|",
    ]
    for one in documents([]):
        techniques = ", ".join(
            f"[{id}](https://attack.mitre.org/techniques/{id.replace('.', '/')}/)" for id in one["attack"]
        )
        cells = (f"`{one['rule']}`", one["severity"], techniques, one["description"], one["how"])
        lines.append(f"| {' | '.join(cells)} | {'; '.join(one['falsepositives'])} |")
    return "\n".join(lines) + "\n"


def written(text: str) -> str:
    """A page with its list of rules as it is now."""
    before, _, rest = text.partition(_BEGIN)
    return before + _BEGIN + page() + _END + rest.partition(_END)[2]


def _how(rule: Any, ruleset: Ruleset) -> str:
    if not isinstance(rule, Correlation):
        return "each time"
    by = f" of one {' and '.join(f'`{field}`' for field in rule.group_by)}" if rule.group_by else ""
    span = in_words(rule.timespan)
    match rule.kind:
        case Kind.EVENT_COUNT:
            return f"{rule.threshold} events{by} within {span}"
        case Kind.VALUE_COUNT:
            return f"{rule.threshold} values of `{rule.fields[0]}`{by} within {span}"
        case Kind.TEMPORAL | Kind.TEMPORAL_ORDERED:
            word = ", then " if rule.kind is Kind.TEMPORAL_ORDERED else " and "
            return f"{word.join(f'`{name}`' for name in rule.rules)}{by} within {span}"
        case Kind.NEW_TERMS:
            learning = f", after {in_words(rule.learning)} of learning" if rule.learning else ""
            return f"`{' + '.join(rule.fields)}`{by} not seen for {span}{learning}"
        case Kind.INACTIVITY:
            return f"first event{by} after {span}"
        case Kind.GEO_VELOCITY:
            return f"two places{by}, {rule.distance:g} km apart or more, faster than {rule.limit:g} km/h"
        case Kind.OUT_OF_ORDER:
            return f"an event{by} older than the newest by more than {span}"
    return ""  # pragma: no cover - the match above is complete


if __name__ == "__main__":
    here = Path("docs/detections.md")
    here.write_text(written(here.read_text("utf-8")), "utf-8")
