"""What is kept on record of the things that were made, so that each can be traced back."""

from churn_assets.contracts.contract import Frozen


class ModelRecord(Frozen):
    """What is on record of a registered model version: enough to find everything it came from.

    Attributes:
        name: registered model in MLflow.
        version: its registered version.
        run_id: the MLflow run that made it.
        table_versions: versions of the lake's tables that it was trained on.
    """

    name: str
    version: str
    run_id: str
    chosen: str
    contract_name: str
    contract_version: str
    seed: int
    table_versions: dict[str, int]
    cross_validation: dict[str, dict[str, float]]


class BentoRecord(Frozen):
    """What is on record of a bento.

    Attributes:
        tag: name:version in the bento store.
        archive: path of the `.bento` file.
        size_bytes: of the archive.
    """

    tag: str
    model_tag: str
    archive: str
    size_bytes: int
    model: ModelRecord
