"""The bank's policy: its own tests pass on both evaluators, and they notice when a condition is taken out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rempart.backends.regorus_engine import RegorusEngine
from rempart.policy.bundle import read_directory
from rempart.policy.model import Report

POLICY = Path(__file__).parents[3] / "examples" / "bank" / "policy"


def inspect(directory: Path) -> Report:
    return RegorusEngine().inspect(read_directory(directory), {})


def test_it_is_good_and_the_fast_evaluator_answers_it() -> None:
    report = inspect(POLICY)
    assert report.ok, report.summary()
    assert report.evaluator == "rvm", report.why


@pytest.mark.parametrize(
    ("condition", "instead"),
    [
        ("\tinput.query.user_id == person\n", "\tinput.query.user_id\n"),
        ('\tinput.path == "/payments"\n\trole == "user"\n', '\tinput.path == "/payments"\n\tperson\n'),
        ('\tinput.path == "/transfers"\n\trole == "user"\n', '\tinput.path == "/transfers"\n'),
        ('\tfrom_workload("payment")\n', '\tinput.pep == "sidecar"\n'),
        (
            '\tinput.method == "PATCH"\n\tcount(input.segments) == 2\n\tusers_path\n\trole == "admin"\n',
            '\tinput.method == "PATCH"\n',
        ),
    ],
)
def test_its_tests_notice_a_hole(tmp_path: Path, condition: str, instead: str) -> None:
    shutil.copytree(POLICY, tmp_path / "policy")
    file = tmp_path / "policy" / "authz.rego"
    text = file.read_text()
    assert text.count(condition) >= 1
    file.write_text(text.replace(condition, instead))
    report = inspect(tmp_path / "policy")
    assert not report.faults
    assert not report.ok
