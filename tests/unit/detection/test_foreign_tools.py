"""pySigma, the field's own parser, reads every rule that is standard Sigma and refuses the ones that are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from sigma.collection import SigmaCollection
from sigma.correlations import SigmaCorrelationRule
from sigma.exceptions import SigmaError
from sigma.processing.pipeline import ProcessingPipeline
from sigma.rule import SigmaRule
from sigma.validation import SigmaValidator
from sigma.validators.core import validators

from rempart.detection.rule import EXTENSIONS, Correlation
from rempart.detection.ruleset import BUILT_IN, load

ROOT = Path(__file__).resolve().parents[3]
STANDARD, EXTENDED = BUILT_IN / "sigma", BUILT_IN / "extended"
RULES = load([BUILT_IN]).rules
# Validators that fetch lists from elsewhere, when they run: nothing here asks the network.
OFFLINE = [one for name, one in validators.items() if "attack" not in name and "d3" not in name]


def test_pysigma_reads_the_standard_rules_as_they_are_read_here() -> None:
    collection = SigmaCollection.load_ruleset([STANDARD])
    assert collection.errors == []
    theirs = {rule.name: rule for rule in collection.rules}
    ours = {rule.name: rule for rule in RULES if not (isinstance(rule, Correlation) and rule.kind in EXTENSIONS)}
    assert set(theirs) == set(ours)
    for name, rule in theirs.items():
        own = ours[name]
        assert str(rule.id) == own.id
        assert str(rule.level).lower().replace("informational", "info") == str(own.severity)
        assert {tag.name.upper() for tag in rule.tags if tag.name.startswith("t1")} == set(own.attack)
        if isinstance(rule, SigmaCorrelationRule):
            assert isinstance(own, Correlation)
            assert rule.type.name.lower() == own.kind
            assert rule.timespan.seconds == own.timespan
            assert tuple(rule.group_by or ()) == own.group_by
            assert [reference.reference for reference in rule.rules] == list(own.rules)
        else:
            assert isinstance(rule, SigmaRule)
            assert rule.detection.parsed_condition[0].parsed is not None


def test_pysigmas_validators_find_nothing() -> None:
    collection = SigmaCollection.load_ruleset([STANDARD])
    assert SigmaValidator(OFFLINE).validate_rules(iter(collection.rules)) == []


@pytest.mark.parametrize("path", sorted(EXTENDED.glob("*.yml")), ids=lambda path: path.stem)
def test_an_extension_is_refused_rather_than_misread(path: Path) -> None:
    for document in yaml.safe_load_all(path.read_text()):
        if document["correlation"]["type"] in EXTENSIONS:
            with pytest.raises(SigmaError):
                SigmaCorrelationRule.from_dict(document)


def test_the_pipeline_names_the_fields_as_the_events_have_them() -> None:
    pipeline = ProcessingPipeline.from_yaml((ROOT / "deploy" / "sigma" / "rempart.yml").read_text())
    collection = SigmaCollection.load_ruleset([STANDARD])
    rule = next(rule for rule in collection.rules if rule.name == "passkey_counter_back")
    pipeline.apply(rule)
    fields = {item.field for item in rule.detection.detections["selection"].detection_items}
    assert fields == {"unmapped.rempart.type", "unmapped.rempart.details.passkey"}
