"""Every name that the project imports from Dagster's private modules.

These names have no public export in dagster 1.13.27, the version for which each reason below was
checked. They may move in any release: `test_dagster_internals.py` names those that have gone.
When a release exports a name publicly, import it from `dagster` and delete it here.
"""

from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.definitions.declarative_automation.automation_condition import (
    BuiltinAutomationCondition,
)
from dagster._core.definitions.declarative_automation.operators import DepsAutomationCondition
from dagster._core.definitions.freshness import CronFreshnessPolicy, TimeWindowFreshnessPolicy
from dagster._core.errors import DagsterAssetCheckFailedError
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepDelegatingExecutor
from dagster._core.instance import InstanceRef
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.dagster_run import IN_PROGRESS_RUN_STATUSES
from dagster._core.storage.event_log.in_memory import InMemoryEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._core.storage.tags import (
    ASSET_EVALUATION_ID_TAG,
    AUTO_MATERIALIZE_TAG,
    AUTOMATION_CONDITION_TAG,
    ROOT_RUN_ID_TAG,
    SCHEDULE_NAME_TAG,
    SENSOR_NAME_TAG,
)
from dagster._serdes import ConfigurableClassData
from dagster._utils.schedules import get_next_cron_tick, is_valid_cron_schedule

REASONS = {
    "BaseAssetGraph": "type of the asset graph of a running step",
    "DATA_VERSION_TAG": "tag by which a reported event carries the version of a delivery",
    "BuiltinAutomationCondition": "type with `with_label`, which all conditions are",
    "DagsterAssetCheckFailedError": "error of a step that a failed blocking check stopped",
    "DepsAutomationCondition": "type with `allow` and `ignore`",
    "CronFreshnessPolicy": "reads the deadline of a policy; `FreshnessPolicy` only builds one",
    "TimeWindowFreshnessPolicy": "reads the windows of a policy",
    "PartitionKeyFilter": "argument of the queries for check results of one partition",
    "InstanceRef": "opens an instance with one setting overridden, for the demo; its defaults",
    "ConfigurableClassData": "names the class of an instance's storage, with its configuration",
    "DagsterSqliteStorage": "the storage of a local instance, here with a lock around its creation",
    "CheckRunHealthResult": "return type of a run launcher's health check",
    "WorkerStatus": "field of that result",
    "RetryMode": "argument of the executor that starts a pod for each step",
    "StepDelegatingExecutor": "that executor",
    "CheckStepHealthResult": "return type of the health check of a step's pod",
    "AssetCheckExecutionRecordStatus": "status of a stored check result",
    "IN_PROGRESS_RUN_STATUSES": "statuses of runs that may still materialise something",
    "InMemoryEventLogStorage": "a log whose events are committed in the order of their ids",
    "SqliteEventLogStorage": "likewise; a database server has many writers",
    "ASSET_EVALUATION_ID_TAG": "tag that links a run to the evaluation of the conditions",
    "AUTO_MATERIALIZE_TAG": "tag of a run that the daemon started for a condition",
    "AUTOMATION_CONDITION_TAG": "tag of a run that the daemon started for a condition",
    "ROOT_RUN_ID_TAG": "tag that links a retried run to the first attempt",
    "SCHEDULE_NAME_TAG": "tag of a run that a schedule started",
    "SENSOR_NAME_TAG": "tag of a run that a sensor started",
    "get_next_cron_tick": "deadline of a month; the freshness policies use the same function",
    "is_valid_cron_schedule": "checks a setting, with the setting's name in the message",
}
"""What the project needs each name for."""

NO_COMPUTE_LOGS = {
    "module": "dagster._core.storage.noop_compute_log_manager",
    "class": "NoOpComputeLogManager",
}
"""`compute_logs` section of an instance that keeps no output of steps; documented by this path."""

__all__ = [
    "ASSET_EVALUATION_ID_TAG",
    "AUTOMATION_CONDITION_TAG",
    "AUTO_MATERIALIZE_TAG",
    "DATA_VERSION_TAG",
    "IN_PROGRESS_RUN_STATUSES",
    "NO_COMPUTE_LOGS",
    "REASONS",
    "ROOT_RUN_ID_TAG",
    "SCHEDULE_NAME_TAG",
    "SENSOR_NAME_TAG",
    "AssetCheckExecutionRecordStatus",
    "BaseAssetGraph",
    "BuiltinAutomationCondition",
    "CheckRunHealthResult",
    "CheckStepHealthResult",
    "ConfigurableClassData",
    "CronFreshnessPolicy",
    "DagsterAssetCheckFailedError",
    "DagsterSqliteStorage",
    "DepsAutomationCondition",
    "InMemoryEventLogStorage",
    "InstanceRef",
    "PartitionKeyFilter",
    "RetryMode",
    "SqliteEventLogStorage",
    "StepDelegatingExecutor",
    "TimeWindowFreshnessPolicy",
    "WorkerStatus",
    "get_next_cron_tick",
    "is_valid_cron_schedule",
]
