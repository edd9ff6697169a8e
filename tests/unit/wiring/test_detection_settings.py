"""`[detection]` of rempart.toml: rules and places are tried before anything starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rempart.detection.ruleset import BUILT_IN
from rempart.kernel.errors import BadInput
from rempart.wiring.settings import parse

APP = '[app]\nname = "tiny"\ntrust_domain = "tiny.example"\n'
RULE = """
title: Somebody at night
name: night
id: 7f9c24b8-0e0c-4c49-a4ad-4fbb3a2f5a11
logsource: {product: rempart}
tags: [attack.t1078]
detection: {selection: {type: people.login, person: usr_a}, condition: selection}
falsepositives: [night shifts]
level: medium
"""


def test_none_is_none() -> None:
    detection = parse(APP, Path("/app")).detection
    assert (detection.rules_dir, detection.geo_file) == (None, None)


def test_rules_and_places_relative_to_the_application(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "night.yml").write_text(RULE)
    (tmp_path / "geo.csv").write_text("network,country,latitude,longitude\n10.0.0.0/8,FR,1,1\n")
    detection = parse(APP + '[detection]\nrules = "rules"\ngeo = "geo.csv"\n', tmp_path).detection
    assert (detection.rules_dir, detection.geo_file) == (tmp_path / "rules", tmp_path / "geo.csv")


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ('rules = "nowhere"', "there is no directory"),
        ('rules = "bad"', "needs a `name`"),
        ('rules = "twice"', "another rule's"),
        ('geo = "nowhere.csv"', "nowhere.csv"),
        ('geo = "bad.csv"', "no column"),
        ('other = "x"', "other"),
    ],
)
def test_what_is_refused_names_its_line(tmp_path: Path, setting: str, why: str) -> None:
    for name in ("bad", "twice"):
        (tmp_path / name).mkdir()
    (tmp_path / "bad" / "night.yml").write_text(RULE.replace("name: night\n", ""))
    shutil.copy(BUILT_IN / "sigma" / "exports.yml", tmp_path / "twice")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadInput) as refusal:
        parse(APP + f"[detection]\n{setting}\n", tmp_path)
    assert why in refusal.value.reason
    assert ":5:" in refusal.value.reason
