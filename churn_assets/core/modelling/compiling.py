"""Compilation of a fitted model into a scorer.

This is the only module that reads sklearn's private trees. It does not reimplement the
preprocessing of the pipeline, but sends probe rows through it. Import this module inside functions,
because sklearn takes seconds to load.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import Pipeline

from churn_assets.contracts.contract import NUMBER_LIMIT, Contract
from churn_assets.core.modelling.pipelines import SCALED_LIMIT
from churn_assets.core.modelling.scorer import (
    MOST_LEAVES,
    Codes,
    Floats,
    LinearScorer,
    Scorer,
    TreeScorer,
)

Bools = NDArray[np.bool_]

UNSEEN = "\N{REPLACEMENT CHARACTER} no such category \N{REPLACEMENT CHARACTER}"
"""Placeholder for every category that a model does not know."""


def compile_scorer(estimator: CalibratedClassifierCV, contract: Contract) -> Scorer:
    """Converts a fitted model to plain arrays.

    Args:
        estimator: Frozen pipeline of `core.modelling.pipelines`, calibrated by a sigmoid.

    Returns:
        Scorer whose probabilities equal the estimator's to 1e-12.

    Raises:
        ValueError: The calibration is not a sigmoid, or a tree has more than 64 leaves.
    """
    (calibrated,) = estimator.calibrated_classifiers_
    if calibrated.method != "sigmoid":
        raise ValueError(f"calibration {calibrated.method!r} cannot be compiled, only 'sigmoid'")
    pipeline: Pipeline = calibrated.estimator.estimator
    sigmoid = calibrated.calibrators[0]
    shared = {
        "numbers": contract.numbers,
        "slope": float(sigmoid.a_),
        "offset": float(sigmoid.b_),
    }
    if hasattr(pipeline["model"], "coef_"):
        return _linear(pipeline, contract, shared)
    return _trees(pipeline, contract, shared)


def _probes(contract: Contract, changes: list[tuple[str, Any]]) -> pd.DataFrame:
    """Returns one customer per change: that input set, all others null, as in `model_frame`."""
    n = len(changes)
    numbers = {name: np.full(n, np.nan) for name in contract.numbers}
    categories = {name: np.full(n, np.nan, dtype=object) for name in contract.categories}
    columns: dict[str, NDArray[Any]] = numbers | categories
    for row, (name, value) in enumerate(changes):
        columns[name][row] = value
    return pd.DataFrame(columns)


def _known(pipeline: Pipeline, contract: Contract, name: str) -> list[str]:
    """Returns every category that the pipeline may distinguish from an unseen one."""
    if (values := contract[name].values) is not None:
        return list(values)
    steps = pipeline["columns"]
    position = next(names for step, _, names in steps.transformers_ if step == "open").index(name)
    learned = steps.named_transformers_["open"].categories_[position]
    return [value for value in learned if isinstance(value, str)]


# --- Trees -----------------------------------------------------------------------------------


def _trees(pipeline: Pipeline, contract: Contract, shared: Mapping[str, Any]) -> Scorer:
    """Builds a `TreeScorer`: per feature one table row for each possible outcome of its splits."""
    forest = _Forest(pipeline)
    tables: list[NDArray[Any]] = []
    bounds: list[Floats] = []
    for name in contract.numbers:
        split_at = forest.thresholds(name)
        # Numbers are clipped before they reach the trees, so thresholds beyond the limit do not
        # separate known numbers.
        inside = split_at[(split_at >= -NUMBER_LIMIT) & (split_at < NUMBER_LIMIT)]
        bounds.append(np.append(inside, np.inf))
        known = [(name, value) for value in inside] + [(name, np.inf)]
        tables.append(forest.masks(name, _probes(contract, [*known, (name, np.nan)])))
    codes = {}
    start = sum(map(len, tables))
    for name in contract.categories:
        values = _known(pipeline, contract, name)
        probes = _probes(contract, [(name, value) for value in (*values, np.nan, UNSEEN)])
        rows, row_of = np.unique(forest.masks(name, probes), axis=0, return_inverse=True)
        *known_rows, null, unknown = (start + row_of).tolist()
        codes[name] = Codes(dict(zip(values, known_rows, strict=True)), null, unknown)
        tables.append(rows)
        start += len(rows)
    return TreeScorer(
        codes=codes,
        masks=np.concatenate(tables),
        thresholds=np.concatenate([np.empty(0), *bounds]),
        leaves=forest.leaves,
        baseline=np.array(forest.baseline),
        **shared,
    )


class _Forest:
    """Nodes of all trees of a fitted boosting pipeline, with the leaves below each node.

    Attributes:
        leaves: Leaf values (trees, width), the leaves of a tree from left to right.
        baseline: Log-odds before the first tree.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._model = pipeline["model"]
        trees = [predictors[0] for predictors in self._model._predictors]
        most = max(tree.get_n_leaf_nodes() for tree in trees)
        if most > MOST_LEAVES:
            raise ValueError(f"a tree has {most} leaves, a scorer holds at most {MOST_LEAVES}")
        width = next(bits for bits in (8, 16, 32, 64) if most <= bits)
        self._dtype = np.dtype(f"u{width // 8}")
        self._trees = [(tree, *_spans(tree.nodes)) for tree in trees]
        self.leaves = np.zeros((len(trees), width))
        for row, (tree, _, order) in zip(self.leaves, self._trees, strict=True):
            row[: len(order)] = tree.nodes["value"][order]
        self.baseline = float(self._model._baseline_prediction.item())
        names = np.array(pipeline[:-1].get_feature_names_out())
        categorical = self._model.is_categorical_
        if categorical is not None:  # the model's own encoder puts them first
            names = np.concatenate([names[categorical], names[~categorical]])
        self._position = {str(name): i for i, name in enumerate(names)}

    def thresholds(self, name: str) -> Floats:
        """Returns the sorted thresholds of the splits by a number."""
        found = [
            tree.nodes["num_threshold"][self._splits(tree.nodes, name)] for tree, *_ in self._trees
        ]
        return np.unique(np.concatenate(found))

    def masks(self, name: str, probes: pd.DataFrame) -> NDArray[Any]:
        """Returns masks of the leaves that a feature does not rule out, (probes, trees)."""
        encoded = self._model._preprocess_X(self._pipeline[:-1].transform(probes), reset=False)
        values = encoded[:, self._position[name]]
        everything = self._dtype.type(2 ** (8 * self._dtype.itemsize) - 1)
        result = np.full((len(probes), len(self._trees)), everything)
        for column, (tree, spans, _) in zip(result.T, self._trees, strict=True):
            for i in self._splits(tree.nodes, name):
                first, end = spans[tree.nodes["left"][i]]
                ruled_out = self._dtype.type(2**end - 2**first)
                column[_goes_right(tree, tree.nodes[i], values)] &= ~ruled_out
        return result

    def _splits(self, nodes: NDArray[Any], name: str) -> NDArray[np.intp]:
        return np.flatnonzero(
            (nodes["is_leaf"] == 0) & (nodes["feature_idx"] == self._position[name])
        )


def _goes_right(tree: Any, node: Any, values: Floats) -> Bools:
    """Returns which values a split sends to the right."""
    null = np.isnan(values)
    if node["is_categorical"]:
        code = np.where(null, 0, values).astype(np.int64)
        words = tree.raw_left_cat_bitsets[node["bitset_idx"]]
        right = (words[code // 32] >> (code % 32).astype(np.uint32)) & 1 == 0
    else:
        right = values > node["num_threshold"]
    result: Bools = np.where(null, not node["missing_go_to_left"], right)
    return result


def _spans(nodes: NDArray[Any]) -> tuple[dict[int, tuple[int, int]], list[int]]:
    """Returns the range of leaves below each node, and the leaf nodes from left to right."""
    spans: dict[int, tuple[int, int]] = {}
    order: list[int] = []

    def visit(i: int) -> None:
        first = len(order)
        if nodes["is_leaf"][i]:
            order.append(i)
        else:
            visit(int(nodes["left"][i]))
            visit(int(nodes["right"][i]))
        spans[i] = first, len(order)

    visit(0)
    return spans, order


# --- Logistic regression ---------------------------------------------------------------------


def _linear(pipeline: Pipeline, contract: Contract, shared: Mapping[str, Any]) -> Scorer:
    """Builds a `LinearScorer` of what each input adds to the log-odds of an all-null customer."""
    weights_of_columns = pipeline["model"].coef_[0]

    def added(changes: list[tuple[str, Any]]) -> Floats:
        rows = pipeline[:-1].transform(
            _probes(contract, [*changes, (contract.model_inputs[0], np.nan)])
        )
        result: Floats = (rows[:-1] - rows[-1]) @ weights_of_columns
        return result

    (intercept,) = pipeline.decision_function(
        _probes(contract, [(contract.model_inputs[0], np.nan)])
    )
    weights: list[float] = []
    codes = {}
    for name in contract.categories:
        values = _known(pipeline, contract, name)
        start = len(weights)
        weights += added([(name, value) for value in (*values, np.nan, UNSEEN)]).tolist()
        *known, null, unknown = range(start, len(weights))
        codes[name] = Codes(dict(zip(values, known, strict=True)), null, unknown)
    terms = np.empty((len(contract.numbers), 4))
    if contract.numbers:
        scaler = pipeline["columns"].named_transformers_["numbers"]["standardscaler"]
        n = len(contract.numbers)
        centre, scale = scaler.mean_[:n], scaler.scale_[:n]
        at_centre = added(list(zip(contract.numbers, centre, strict=True)))
        terms = np.column_stack([at_centre, centre, scale, weights_of_columns[:n]])
    return LinearScorer(
        codes=codes,
        terms=terms,
        weights=np.array(weights),
        limits=np.array([NUMBER_LIMIT, SCALED_LIMIT]),
        intercept=np.array(intercept),
        **shared,
    )
