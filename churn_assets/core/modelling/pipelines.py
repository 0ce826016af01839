"""Unfitted pipelines of the two candidates: logistic regression, and boosting that must beat it.

Both take the frames of `core.data.features.model_frame`. They consist of public sklearn parts only,
so that a fitted pipeline can be stored without pickle.
"""

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)

from churn_assets.contracts.contract import NUMBER_LIMIT, Contract

MOST_OPEN_CATEGORIES = 50
"""Maximum number of values of an open category: the most frequent ones, all others merged."""

SCALED_LIMIT = 10.0
"""Standard deviations at which numbers are clipped: one outlier must not dominate a logit."""

NULL_NUMBER = -2 * NUMBER_LIMIT
"""Value that replaces a null number for the trees."""

SKOPS_TRUSTED: tuple[str, ...] = (
    "functools.partial",
    "numpy.clip",
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
)
"""Types in a fitted, calibrated candidate that skops does not trust by default."""


def logistic_pipeline(contract: Contract, seed: int = 0) -> Pipeline:
    """Logistic regression on standardised numbers and one-hot categories.

    A null number becomes the median and an indicator; a null category is a category of its own.
    """
    numbers = make_pipeline(
        _clip(NUMBER_LIMIT),
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
        _clip(SCALED_LIMIT),
    )
    closed, open_ = _closed(contract), _open(contract)
    values = [[*(contract[name].values or ()), np.nan] for name in closed]
    one_hot = OneHotEncoder(categories=values, handle_unknown="ignore", sparse_output=False)
    learned = OneHotEncoder(
        max_categories=MOST_OPEN_CATEGORIES,
        handle_unknown="infrequent_if_exist",
        sparse_output=False,
    )
    columns = [
        ("numbers", numbers, list(contract.numbers)),
        ("closed", one_hot, closed),
        ("open", learned, open_),
    ]
    model = LogisticRegression(max_iter=1000, random_state=seed)
    return Pipeline([("columns", _column_transformer(columns)), ("model", model)])


def boosting_pipeline(contract: Contract, seed: int = 0) -> Pipeline:
    """Gradient boosted trees that split numbers by a threshold and categories by a subset.

    A null number becomes a number below all others, so that a split can separate it. The trees
    support nulls, but not a column of nulls only, which may occur in a fold. A split sends null and
    unknown categories in the direction that it learned, or with the majority if it never saw any.
    """
    closed, open_ = _closed(contract), _open(contract)
    as_null = {
        "handle_unknown": "use_encoded_value",
        "unknown_value": np.nan,
        "encoded_missing_value": np.nan,
    }
    values = [list(contract[name].values or ()) for name in closed]
    below = SimpleImputer(strategy="constant", fill_value=NULL_NUMBER, keep_empty_features=True)
    numbers = make_pipeline(_clip(NUMBER_LIMIT), below)
    columns = [
        ("closed", OrdinalEncoder(categories=values, **as_null), closed),
        ("open", OrdinalEncoder(max_categories=MOST_OPEN_CATEGORIES, **as_null), open_),
        ("numbers", numbers, list(contract.numbers)),
    ]
    model = HistGradientBoostingClassifier(
        categorical_features=list(range(len(closed) + len(open_))),
        early_stopping=False,
        random_state=seed,
    )
    return Pipeline([("columns", _column_transformer(columns)), ("model", model)])


def _column_transformer(columns: list[tuple[str, object, list[str]]]) -> ColumnTransformer:
    used = [(name, step, names) for name, step, names in columns if names]
    return ColumnTransformer(used, sparse_threshold=0, verbose_feature_names_out=False)


def _clip(limit: float) -> FunctionTransformer:
    return FunctionTransformer(
        np.clip, kw_args={"a_min": -limit, "a_max": limit}, feature_names_out="one-to-one"
    )


def _closed(contract: Contract) -> list[str]:
    return [name for name in contract.categories if contract[name].values is not None]


def _open(contract: Contract) -> list[str]:
    return [name for name in contract.categories if contract[name].values is None]
