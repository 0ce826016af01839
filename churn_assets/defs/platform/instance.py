"""Dagster instance of a home, whose sqlite databases only one process creates.

Dagster creates the databases when a process first opens an instance. It has no lock for that: of
several processes that start at once in a new home, some would fail with "table runs already
exists". `instance_class` in dagster.yaml names the class below, so that every process of Dagster
opens its instance through it, started by make or not.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import dagster as dg
from filelock import FileLock

from churn_assets.core.settings_errors import SettingsError, plain_path
from churn_assets.defs.platform.dagster_internals import (
    ConfigurableClassData,
    DagsterSqliteStorage,
    InstanceRef,
)

LOCK_FILE = ".storage.lock"
LOCK_SECONDS = 120.0
"""Longest wait for another process, which creates the databases in two seconds."""


class LockedSqliteStorage(DagsterSqliteStorage):
    """Dagster's sqlite storage, opened by one process at a time."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Any) -> Self:
        """Opens the storage in `base_dir`, and creates its databases where they do not exist."""
        with FileLock(Path(config_value["base_dir"], LOCK_FILE), timeout=LOCK_SECONDS):
            return cls.from_local(config_value["base_dir"], inst_data)


class HomeInstance(dg.DagsterInstance):
    """Dagster's instance with `LockedSqliteStorage`, unless dagster.yaml names another storage."""

    @classmethod
    def config_schema(cls) -> Mapping[str, Any]:
        """Returns the fields that the class adds to dagster.yaml: none."""
        return {}

    @classmethod
    def config_defaults(cls, base_dir: str) -> Mapping[str, ConfigurableClassData | None]:
        """Returns what holds for the parts of an instance that dagster.yaml does not name.

        Raises:
            SettingsError: Dagster would keep the databases in another folder than `base_dir`.
        """
        try:
            plain_path(base_dir)
        except ValueError as error:
            raise SettingsError(f"DAGSTER_HOME is {base_dir!r}: {error}") from error
        config = json.dumps({"base_dir": base_dir})  # JSON is YAML
        storage = ConfigurableClassData(__name__, LockedSqliteStorage.__name__, config)
        return {**InstanceRef.config_defaults(base_dir), "storage": storage}
