"""Our scores of plain numbers are scikit-learn's own, to rounding: the fitter and the estimators hold one contract."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.svm import OneClassSVM

from rempart.backends.sklearn_fitter import SklearnFitter

WIDTH = 7


def rows(count: int, seed: int, spread: float = 1.0) -> numpy.ndarray:
    chance = numpy.random.default_rng(seed)
    found = chance.normal(scale=spread, size=(count, WIDTH)).astype(numpy.float32)
    found[:, 0] = numpy.round(found[:, 0])  # ties, and a feature of few values
    found[:, 1] = 0.5  # one that never varies
    return found


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1000))
def test_a_forest_scores_as_isolation_forest(seed: int) -> None:
    known, new = rows(300, seed), rows(60, seed + 1, 3.0)
    ours = SklearnFitter().forest(known.tolist(), seed=seed)
    theirs = IsolationForest(n_estimators=100, max_samples=256, random_state=seed).fit(known)
    ours.check(WIDTH)
    expected = -theirs.score_samples(new)
    assert [ours.raw(row) for row in new.tolist()] == pytest.approx(expected.tolist(), abs=1e-12)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.02, 0.1, 0.3]))
def test_support_vectors_score_as_one_class_svm(seed: int, nu: float) -> None:
    known, new = rows(200, seed), rows(60, seed + 1, 3.0)
    ours = SklearnFitter().support(known.tolist(), nu=nu)
    ours.check(WIDTH)
    scaled, others = ([ours.scale.apply(row) for row in one.tolist()] for one in (known, new))
    theirs = OneClassSVM(gamma=ours.gamma, nu=nu).fit(scaled)
    expected = -theirs.decision_function(others)
    assert [ours.raw(row) for row in new.tolist()] == pytest.approx(expected.tolist(), abs=1e-9)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 30))
def test_neighbours_score_as_local_outlier_factor(seed: int, k: int) -> None:
    known, new = rows(120, seed), rows(60, seed + 1, 3.0)
    ours = SklearnFitter().neighbours(known.tolist(), k=k)
    ours.check(WIDTH)
    scaled, others = ([ours.scale.apply(row) for row in one.tolist()] for one in (known, new))
    theirs = LocalOutlierFactor(n_neighbors=k, novelty=True).fit(scaled)
    expected = -theirs.score_samples(numpy.asarray(others))
    assert [ours.raw(row) for row in new.tolist()] == pytest.approx(expected.tolist(), rel=1e-9)


def test_the_same_job_gives_the_same_model() -> None:
    known = rows(300, 1).tolist()
    assert SklearnFitter().forest(known, seed=5) == SklearnFitter().forest(known, seed=5)


def test_a_tenth_of_poison_hardly_moves_the_scale() -> None:
    good = rows(300, 1)
    poisoned = good.copy()
    poisoned[:30, 2] = 1e6
    before, after = (SklearnFitter().support(one.tolist(), nu=0.05).scale for one in (good, poisoned))
    assert abs(before.middle[2] - after.middle[2]) < 0.2
