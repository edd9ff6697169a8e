"""Fitted models as plain numbers, and what they say of a row: no code comes out of a file, and no library is needed.

`raw(row)` grows with how unusual the row is; `check(width)` raises Integrity `model_malformed` for numbers that are not
those of a model over `width` features. Scores are those of scikit-learn (`-score_samples`, of the one-class SVM
`-decision_function`) up to rounding; `tests/contract` holds them against it. Each score costs: a forest about 100 steps
of eight comparisons, an SVM one pass over its support vectors, LOF one pass over its training rows.

* IsolationForest: Liu, Ting, Zhou, "Isolation Forest", ICDM 2008: `2^(-E[h(x)] / c(psi))`.
* OneClassSVM: Schölkopf et al., "Estimating the support of a high-dimensional distribution", 2001, with an RBF kernel.
* LocalOutlierFactor: Breunig et al., "LOF: identifying density-based local outliers", SIGMOD 2000.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from rempart.kernel.errors import Integrity

MAX_TREES, MAX_NODES = 512, 1 << 16
MAX_VECTORS = 20_000
_TINY = 1e-10  # scikit-learn's guard against a density of nought


class Tree(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Nodes by index, the root first. `feature` -1: a leaf, whose `value` is the path's length there (edges, and what
    the isolation of its samples would still have taken); else rows with `row[feature] <= value` go `left`."""

    feature: list[int]
    value: list[float]
    left: list[int]
    right: list[int]


class Forest(msgspec.Struct, frozen=True, tag="IsolationForest", forbid_unknown_fields=True):
    """`expected` is c(psi), the mean path of an unsuccessful search among the samples of one tree."""

    trees: list[Tree]
    expected: float

    def raw(self, row: Sequence[float]) -> float:
        total = 0.0
        for tree in self.trees:
            features, values = tree.feature, tree.value
            node = 0
            while (feature := features[node]) >= 0:
                node = tree.left[node] if row[feature] <= values[node] else tree.right[node]
            total += values[node]
        return float(2.0 ** (-total / (len(self.trees) * self.expected)))

    def check(self, width: int) -> None:
        _must(0 < len(self.trees) <= MAX_TREES and math.isfinite(self.expected) and self.expected > 0, "its forest")
        for tree in self.trees:
            count = len(tree.feature)
            _must(0 < count <= MAX_NODES, "a tree")
            _must(count == len(tree.value) == len(tree.left) == len(tree.right), "a tree")
            for node, feature in enumerate(tree.feature):
                _must(-1 <= feature < width and math.isfinite(tree.value[node]), "a node")
                if feature >= 0:  # children come after their parent: every walk ends
                    _must(node < tree.left[node] < count and node < tree.right[node] < count, "a node")


class Scale(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Median and spread of each feature: half of the training data lies within one `spread`."""

    middle: list[float]
    spread: list[float]

    def apply(self, row: Sequence[float]) -> list[float]:
        return [(value - m) / s for value, m, s in zip(row, self.middle, self.spread, strict=True)]

    def check(self, width: int) -> None:
        _must(len(self.middle) == len(self.spread) == width and _finite(self.middle), "its scale")
        _must(all(math.isfinite(one) and one > 0 for one in self.spread), "its scale")


class Support(msgspec.Struct, frozen=True, tag="OneClassSVM", forbid_unknown_fields=True):
    """RBF kernel over scaled rows; `weights` are the dual coefficients."""

    scale: Scale
    vectors: list[list[float]]
    weights: list[float]
    offset: float
    gamma: float

    def raw(self, row: Sequence[float]) -> float:
        scaled, gamma, total = self.scale.apply(row), self.gamma, self.offset
        for vector, weight in zip(self.vectors, self.weights, strict=True):
            total += weight * math.exp(-gamma * math.dist(scaled, vector) ** 2)
        return -total

    def check(self, width: int) -> None:
        self.scale.check(width)
        _must(0 < len(self.vectors) <= MAX_VECTORS and len(self.weights) == len(self.vectors), "its vectors")
        _must(all(len(one) == width and _finite(one) for one in self.vectors) and _finite(self.weights), "its vectors")
        _must(math.isfinite(self.offset) and math.isfinite(self.gamma) and self.gamma > 0, "its kernel")


class Neighbours(msgspec.Struct, frozen=True, tag="LocalOutlierFactor", forbid_unknown_fields=True):
    """Scaled training rows, each with its reachability density and the distance of its `k`-th neighbour."""

    scale: Scale
    vectors: list[list[float]]
    density: list[float]
    reach: list[float]
    k: int

    def raw(self, row: Sequence[float]) -> float:
        scaled = self.scale.apply(row)
        near = sorted((math.dist(scaled, vector), index) for index, vector in enumerate(self.vectors))[: self.k]
        mean = sum(max(distance, self.reach[index]) for distance, index in near) / len(near)
        own = 1.0 / (mean + _TINY)
        return sum(self.density[index] for _, index in near) / len(near) / own

    def check(self, width: int) -> None:
        self.scale.check(width)
        count = len(self.vectors)
        _must(0 < self.k <= count <= MAX_VECTORS and len(self.density) == len(self.reach) == count, "its rows")
        _must(all(len(one) == width and _finite(one) for one in self.vectors), "its rows")
        _must(_finite(self.density) and _finite(self.reach), "its rows")


Fitted = Forest | Support | Neighbours


def _finite(values: Sequence[float]) -> bool:
    return all(map(math.isfinite, values))


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise Integrity("model_malformed", f"the model is not whole: {what} makes no sense", "train it again")
