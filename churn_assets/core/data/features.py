"""Derived features, model inputs and request bodies of validated rows."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from churn_assets.contracts.contract import Contract


def model_columns(frame: pd.DataFrame, contract: Contract) -> dict[str, NDArray[Any]]:
    """Returns the model inputs of rows with the contract's dtypes, in the format of a scorer.

    Args:
        frame: Rows with the contract's features and derived features.

    Returns:
        Arrays of shape (n,) by `contract.model_inputs`, in that order: numbers as float64 with
        NaN for null, categories as objects (text or NaN).
    """
    return {name: _floats(frame[name]) for name in contract.numbers} | {
        name: _objects(frame[name], np.nan) for name in contract.categories
    }


def model_frame(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Returns `model_columns` as a frame, the format of a pipeline."""
    return pd.DataFrame(model_columns(frame, contract), index=frame.index)


def derive_features(frame: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """Returns `frame` with the contract's derived features added, float64 with NaN for null."""
    needed = {name for feature in contract.derived for name in feature.inputs}
    columns = {
        name: _objects(frame[name], None)
        if contract[name].kind == "category"
        else _floats(frame[name])
        for name in needed
    }
    return frame.assign(**contract.derive(columns))


def requests(frame: pd.DataFrame, contract: Contract) -> list[dict[str, Any]]:
    """Converts rows to request bodies of the service: id and features as JSON values."""
    names = [contract.id.name, *(column.name for column in contract.features)]
    plain = frame[names].astype(object)
    records = plain.where(frame[names].notna(), None).to_dict("records")
    return [{str(name): value for name, value in record.items()} for record in records]


def _floats(values: pd.Series) -> NDArray[np.float64]:
    return values.to_numpy(dtype=np.float64, na_value=np.nan)


def _objects(values: pd.Series, null: Any) -> NDArray[np.object_]:
    return values.to_numpy(dtype=object, na_value=null)
