"""Training: both candidates are trained, one is chosen, and it is calibrated.

The simpler candidate is chosen unless the other one is clearly better. Import this module inside
functions, because sklearn takes seconds to load.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  # enables the next one
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss, make_scorer, roc_auc_score
from sklearn.model_selection import HalvingRandomSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from churn_assets.contracts.contract import Contract
from churn_assets.core.data.features import model_frame
from churn_assets.core.modelling.pipelines import boosting_pipeline, logistic_pipeline

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Folds = list[tuple[NDArray[np.intp], NDArray[np.intp]]]
Params = dict[str, float | int]

FOLDS = 5

SEARCH_SPACE: dict[str, list[float] | list[int]] = {
    "learning_rate": [0.03, 0.05, 0.1],
    "max_iter": [100, 150, 200],
    "max_leaf_nodes": [4, 8, 16],
    "min_samples_leaf": [20, 50, 100],
    "l2_regularization": [0.0, 1.0, 10.0],
}
SEARCH_CANDIDATES = 9
"""Number of points of the search space that are tried."""

SEARCH_ROWS = 15_000
"""Maximum rows of a search: more rows take longer, but do not change the order of the points."""

MIN_SEARCH_ROWS = 1_000
MIN_ROWS_OF_RARER_CLASS = 50
"""The first round of the search takes enough rows to contain this many of the rarer class."""


class TrainingError(ValueError):
    """Too few rows to train on; the message names what is needed and what was found."""


@dataclass(frozen=True)
class Candidate:
    """A candidate model with its cross-validated quality on the training rows.

    Attributes:
        log_loss: Mean over the folds, in nats.
        log_loss_std_error: Standard error of that mean.
        auc: Area under the ROC curve, mean over the folds.
    """

    name: str
    params: Params
    log_loss: float
    log_loss_std_error: float
    auc: float


@dataclass(frozen=True)
class TrainedModel:
    """Result of the training.

    Attributes:
        estimator: Chosen candidate, calibrated.
        candidates: Both candidates, the simpler one first.
        chosen: Name of the chosen candidate.
        simple: Calibrated logistic regression; `estimator` itself if that was chosen.
    """

    estimator: CalibratedClassifierCV
    candidates: tuple[Candidate, ...]
    chosen: str
    simple: CalibratedClassifierCV


def train(
    training: pd.DataFrame,
    calibration: pd.DataFrame,
    contract: Contract,
    *,
    seed: int = 0,
) -> TrainedModel:
    """Trains both candidates, chooses one and calibrates it.

    The same rows and seed give the same bits.

    Boosting is chosen if its log loss is lower by more than one standard error of the difference
    between the two over the folds (Breiman et al., "Classification and regression trees", 1984,
    section 3.4.3). The logits are calibrated by Platt scaling ("Probabilistic outputs for support
    vector machines", 1999), which keeps the ranking.

    Args:
        training: Typed rows with derived features, label and id; a customer may have several rows.
        calibration: Rows of the same kind, of customers that are neither trained nor tested on.

    Raises:
        TrainingError: A label is unknown, or a class has too few customers for the folds. The
            check on the training set decides beforehand whether there are enough rows for a model.
    """
    _check(training, calibration, contract)
    # One thread: waiting for other threads takes longer than the work, and the last bits of sums
    # depend on the number of threads.
    with threadpool_limits(1):
        return _train(training, calibration, contract, seed)


def _train(
    training: pd.DataFrame, calibration: pd.DataFrame, contract: Contract, seed: int
) -> TrainedModel:
    inputs, labels = model_frame(training, contract), _labels(training, contract)
    folds = _folds(training, contract, seed)
    simple = logistic_pipeline(contract, seed)
    boosting = boosting_pipeline(contract, seed)
    # The search has its own folds: parameters that fit the folds of the comparison by chance would
    # make boosting look better than it is.
    params = _search(boosting, inputs, labels, _folds(training, contract, seed + 1), seed)
    boosting.set_params(**{f"model__{name}": value for name, value in params.items()})

    simple_losses, simple_aucs = _cross_validate(simple, inputs, labels, folds)
    boosting_losses, boosting_aucs = _cross_validate(boosting, inputs, labels, folds)
    gains = simple_losses - boosting_losses
    better = bool(gains.mean() > _std_error(gains))

    simple_model = _calibrated(simple, training, calibration, contract)
    strength = {"C": float(simple["model"].C)}
    return TrainedModel(
        estimator=(
            _calibrated(boosting, training, calibration, contract) if better else simple_model
        ),
        candidates=(
            _candidate("logistic", strength, simple_losses, simple_aucs),
            _candidate("boosting", params, boosting_losses, boosting_aucs),
        ),
        chosen="boosting" if better else "logistic",
        simple=simple_model,
    )


def refit(
    trained: TrainedModel,
    training: pd.DataFrame,
    calibration: pd.DataFrame,
    contract: Contract,
) -> CalibratedClassifierCV:
    """Fits and calibrates the chosen candidate again on the same rows, without the search.

    The result shows whether the model depends only on its rows, parameters and seed.
    """
    pipeline = clone(trained.estimator.estimator.estimator)
    with threadpool_limits(1):
        return _calibrated(pipeline, training, calibration, contract)


def _calibrated(
    pipeline: Pipeline, training: pd.DataFrame, calibration: pd.DataFrame, contract: Contract
) -> CalibratedClassifierCV:
    pipeline.fit(model_frame(training, contract), _labels(training, contract))
    rows = model_frame(calibration, contract)
    frozen = FrozenEstimator(pipeline)
    return CalibratedClassifierCV(frozen).fit(rows, _labels(calibration, contract))


def probabilities(
    estimator: CalibratedClassifierCV, frame: pd.DataFrame, contract: Contract
) -> Floats:
    """Returns the churn probabilities of typed rows with derived features, float64 (n,)."""
    if frame.empty:
        return np.empty(0)
    result: Floats = estimator.predict_proba(model_frame(frame, contract))[:, 1]
    return result


def _labels(frame: pd.DataFrame, contract: Contract) -> Bools:
    return frame[contract.label.name].to_numpy(dtype=np.bool_)


def _check(training: pd.DataFrame, calibration: pd.DataFrame, contract: Contract) -> None:
    label, customer = contract.label.name, contract.id.name
    faults = []
    for name, frame in (("training", training), ("calibration", calibration)):
        if unknown := int(frame[label].isna().sum()):
            faults.append(f"every label must be known, {unknown} {name} rows have none")
        customers = frame[customer].nunique()
        churned = frame.loc[frame[label].eq(True).fillna(False), customer].nunique()
        for noun, found in (("who left", churned), ("who never left", customers - churned)):
            if found < FOLDS:
                faults.append(
                    f"at least {FOLDS} customers {noun} are needed among the {name} rows, "
                    f"there are {found}"
                )
    if faults:
        raise TrainingError("; ".join(faults))


def _folds(training: pd.DataFrame, contract: Contract, seed: int) -> Folds:
    """Returns folds that keep all rows of a customer together and have equal churn rates.

    The folds are stratified by whether a customer ever left. `StratifiedGroupKFold` does the same
    with a loop over customers that takes longer than the training.
    """
    customers, ids = pd.factorize(training[contract.id.name])
    left = np.zeros(len(ids), dtype=np.bool_)
    np.logical_or.at(left, customers, _labels(training, contract))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(left, left)
    held_out = [np.isin(customers, some) for _, some in folds]
    return [(np.flatnonzero(~rows), np.flatnonzero(rows)) for rows in held_out]


def _search(
    pipeline: Pipeline, inputs: pd.DataFrame, labels: Bools, folds: Folds, seed: int
) -> Params:
    """Tunes by successive halving (Jamieson and Talwalkar, AISTATS 2016): most points on few rows.

    Two of the folds suffice to rank the points; each point is then tried on other rows.
    """
    rows = min(len(labels), SEARCH_ROWS)
    rarer = min(labels.mean(), 1 - labels.mean())
    first = min(rows, max(MIN_SEARCH_ROWS, int(np.ceil(MIN_ROWS_OF_RARER_CLASS / rarer))))
    search = HalvingRandomSearchCV(
        pipeline,
        {f"model__{name}": values for name, values in SEARCH_SPACE.items()},
        n_candidates=SEARCH_CANDIDATES,
        factor=3,
        min_resources=first,
        max_resources=rows,
        # A fold of a small sample may lack a class.
        scoring=make_scorer(
            log_loss, response_method="predict_proba", greater_is_better=False, labels=[False, True]
        ),
        cv=folds[:2],
        refit=False,
        random_state=seed,
    )
    search.fit(inputs, labels)
    return {name.removeprefix("model__"): value for name, value in search.best_params_.items()}


def _cross_validate(
    pipeline: Pipeline, inputs: pd.DataFrame, labels: Bools, folds: Folds
) -> tuple[Floats, Floats]:
    """Returns the log loss and the AUC in each fold."""
    losses, aucs = [], []
    for fitted_on, held_out in folds:
        fitted = clone(pipeline).fit(inputs.iloc[fitted_on], labels[fitted_on])
        predicted = fitted.predict_proba(inputs.iloc[held_out])[:, 1]
        losses.append(log_loss(labels[held_out], predicted))
        aucs.append(roc_auc_score(labels[held_out], predicted))
    return np.array(losses), np.array(aucs)


def _candidate(name: str, params: Params, losses: Floats, aucs: Floats) -> Candidate:
    return Candidate(
        name, params, float(losses.mean()), float(_std_error(losses)), float(aucs.mean())
    )


def _std_error(values: Floats) -> np.float64:
    error: np.float64 = values.std(ddof=1) / np.sqrt(len(values))
    return error
