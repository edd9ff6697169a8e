"""Training in a child: what goes in comes out as a model, and whatever it does the parent goes on."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from tests.models_support import noisy_rows, usual_rows

from rempart.detection.models.model import Subject
from rempart.detection.models.training import Job, features_of
from rempart.kernel.errors import RempartError, Unavailable, Unprocessable
from rempart.servers import model_trainer
from rempart.servers.model_training import ChildTrainer


def job(rows: int = 300) -> Job:
    return Job(Subject.LOGINS, list(usual_rows(Subject.LOGINS)[:rows]), len(features_of(Subject.LOGINS)), 1)


def test_a_child_trains() -> None:
    trained = asyncio.run(ChildTrainer().train(job()))
    trained.check(features_of(Subject.LOGINS))
    assert trained.rows == 300


def test_too_few_rows_are_said_by_their_code() -> None:
    with pytest.raises(Unprocessable) as caught:
        asyncio.run(ChildTrainer().train(job(5)))
    assert caught.value.code == "not_enough_data"


def test_a_child_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(Unavailable) as caught:
        asyncio.run(ChildTrainer(within=0.2).train(job(20)))
    assert caught.value.code == "training_failed"


@pytest.mark.parametrize("said", ["exit 9", "echo nonsense", "echo '{}'", "echo '{\"code\": 1}' >&2; exit 1"])
def test_a_child_that_answers_nonsense_is_not_believed(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\n{said}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(RempartError) as caught:
        asyncio.run(ChildTrainer().train(job(20)))
    assert caught.value.code == "training_failed"


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import msgspec

    monkeypatch.setitem(sys.modules, "rempart.backends.sklearn_fitter", None)
    with pytest.raises(Unavailable) as caught:
        model_trainer.fit(msgspec.msgpack.encode(job(20)))
    assert caught.value.code == "no_trainer"
    assert "rempart[models]" in caught.value.remedy


def test_a_job_that_is_none() -> None:
    with pytest.raises(RempartError, match="training job"):
        model_trainer.fit(b"\x80\x04cos\nsystem\n.")


def test_rows_of_any_values_within_their_bounds_can_be_trained_on() -> None:
    rows = noisy_rows(60)
    trained = asyncio.run(ChildTrainer().train(Job(Subject.LOGINS, rows, len(features_of(Subject.LOGINS)), 1)))
    trained.check(features_of(Subject.LOGINS))
