"""scikit-learn fits; what it found leaves as plain numbers (`detection.models.estimators`), never as an object of it.

Needs the optional extra `models`. Imported by the training process alone: it takes some 140 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.svm import OneClassSVM

from rempart.detection.models.estimators import Forest, Neighbours, Scale, Support, Tree

Rows = Sequence[Sequence[float]]
TREES = 100
SAMPLES = 256  # of each tree: Liu et al. found no gain beyond
_LEAST_SPREAD = 0.05  # of a feature that hardly varies: a new value of it counts, and not beyond all measure


class SklearnFitter:
    """Implements `detection.models.ports.Fitter`."""

    def forest(self, rows: Rows, *, seed: int) -> Forest:
        matrix = numpy.asarray(rows, dtype=numpy.float32)
        model = IsolationForest(n_estimators=TREES, max_samples=min(SAMPLES, len(rows)), random_state=seed, n_jobs=1)
        model.fit(matrix)
        return Forest([_tree(one.tree_) for one in model.estimators_], _mean_path(int(model.max_samples_)))

    def support(self, rows: Rows, *, nu: float) -> Support:
        matrix, scale = _scaled(rows)
        gamma = 1.0 / (matrix.shape[1] * max(float(matrix.var()), 1e-6))
        model = OneClassSVM(kernel="rbf", gamma=gamma, nu=nu).fit(matrix)
        return Support(
            scale,
            model.support_vectors_.tolist(),
            model.dual_coef_[0].tolist(),
            float(model.intercept_[0]),
            gamma,
        )

    def neighbours(self, rows: Rows, *, k: int) -> Neighbours:
        matrix, scale = _scaled(rows)
        model = LocalOutlierFactor(n_neighbors=k, novelty=True).fit(matrix)
        reach = model._distances_fit_X_[:, model.n_neighbors_ - 1]
        return Neighbours(scale, matrix.tolist(), model._lrd.tolist(), reach.tolist(), int(model.n_neighbors_))


def _tree(tree: Any) -> Tree:
    """Leaves get the length of the path to them; children of a node come after it."""
    depth = [0] * tree.node_count
    values: list[float] = []
    features: list[int] = []
    left, right = tree.children_left.tolist(), tree.children_right.tolist()
    for node in range(tree.node_count):
        if left[node] < 0:
            features.append(-1)
            values.append(depth[node] + _mean_path(int(tree.n_node_samples[node])))
        else:
            depth[left[node]] = depth[right[node]] = depth[node] + 1
            features.append(int(tree.feature[node]))
            values.append(float(tree.threshold[node]))
    return Tree(features, values, left, right)


def _mean_path(samples: int) -> float:
    """c(n) of Liu et al., equation 1."""
    if samples <= 1:
        return 0.0
    if samples == 2:
        return 1.0
    return float(2.0 * (numpy.log(samples - 1.0) + numpy.euler_gamma) - 2.0 * (samples - 1.0) / samples)


def _scaled(rows: Rows) -> tuple[Any, Scale]:
    """Robust: median and half the distance of the quartiles, so that a tenth of poison moves nothing much."""
    matrix = numpy.asarray(rows, dtype=numpy.float64)
    middle = numpy.median(matrix, axis=0)
    low, high = numpy.percentile(matrix, (25, 75), axis=0)
    spread = numpy.maximum((high - low) / 1.349, numpy.maximum(_LEAST_SPREAD, 0.1 * matrix.std(axis=0)))
    return (matrix - middle) / spread, Scale(middle.tolist(), spread.tolist())
