"""Rule files → a checked set of rules: every reference is there, nothing goes in circles, no name is taken twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .matching import Getter, refuse
from .places import Enrichment
from .ports import Places
from .rule import Correlation, Detection, read_rule

BUILT_IN = Path(__file__).parent / "rules"
MAX_FILE_BYTES = 256 << 10
MAX_RULES = 500


@dataclass(frozen=True, slots=True)
class Ruleset:
    """Rules that fit together, compiled against one enrichment."""

    rules: Sequence[Detection | Correlation]
    enrichment: Enrichment


def load(directories: Sequence[Path], places: Places | None = None) -> Ruleset:
    """All `*.yml` below `directories`, in the order of their paths. Raises BadInput `bad_rule`."""
    files = [path for directory in directories for path in sorted(directory.rglob("*.yml"))]
    rules: list[Detection | Correlation] = []
    enrichment = Enrichment(places)
    for path in files:
        rules += read_file(path, enrichment.fields)
        if len(rules) > MAX_RULES:
            raise refuse(path.name, f"there are more than {MAX_RULES} rules")
    check(rules)
    return Ruleset(rules, enrichment)


def read_file(path: Path, fields: Mapping[str, Getter]) -> list[Detection | Correlation]:
    import yaml

    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise refuse(path.name, f"the file is longer than {MAX_FILE_BYTES} bytes")
        documents = list(yaml.safe_load_all(content))
    except (OSError, yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise refuse(path.name, f"it can't be read: {' '.join(str(error).split())[:200]}") from None
    return [read_rule(document, path.name, fields) for document in documents if document is not None]


def check(rules: Iterable[Detection | Correlation]) -> None:
    """Raises BadInput `bad_rule`."""
    known: dict[str, Detection | Correlation] = {}
    for rule in rules:
        for reference in (rule.name, rule.id):
            if reference in known:
                raise refuse(rule.name, f"its name or id {reference} is another rule's")
            known[reference] = rule
    for rule in known.values():
        if isinstance(rule, Correlation):
            missing = [reference for reference in rule.rules if reference not in known]
            if missing:
                raise refuse(rule.name, f"it refers to {missing[0]!r}, which is no rule")
    for rule in known.values():
        _check_circle(rule, known, ())


def _check_circle(
    rule: Detection | Correlation, known: Mapping[str, Detection | Correlation], above: tuple[str, ...]
) -> None:
    if rule.name in above or len(above) > 8:
        raise refuse(rule.name, "it refers to itself, or through more than eight others")
    if isinstance(rule, Correlation):
        for reference in rule.rules:
            _check_circle(known[reference], known, (*above, rule.name))
